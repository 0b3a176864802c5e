"""Reading images and volumes at positions between their elements: resize, grid_sample, roi_align."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from ..dims import DimLike, product
from ..errors import TypeFault
from ..opdef import op, unknown
from ..types import TensorType, Type
from .sampling import Sample, Sampler

COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "asymmetric",
    "align_corners",
    "tf_crop_and_resize",
)


def _source(size: int, out: int, scale: float, coordinates: str, start: float, end: float) -> torch.Tensor:
    """Where each output element lies among ``size`` input elements (ONNX Resize, f64)."""
    at = torch.arange(out, dtype=torch.float64)
    length = scale * size
    if coordinates == "align_corners":
        return at * (size - 1) / (length - 1) if length != 1 else at * 0
    if coordinates == "asymmetric":
        return at / scale
    if coordinates == "tf_crop_and_resize":
        if out > 1:
            return start * (size - 1) + at * (end - start) * (size - 1) / (length - 1)
        return at * 0 + 0.5 * (start + end) * (size - 1)
    if coordinates == "pytorch_half_pixel" and length <= 1:
        return at * 0
    if coordinates == "half_pixel_symmetric":
        center = size / 2
        return center * (1 - out / length) + (at + 0.5) / scale - 0.5
    return (at + 0.5) / scale - 0.5


def _nearest(at: torch.Tensor, rounding: str) -> torch.Tensor:
    if rounding == "floor":
        return at.floor()
    if rounding == "ceil":
        return at.ceil()
    half_up = (at + 0.5).floor()
    return torch.where(at - at.floor() == 0.5, at.floor(), half_up) if rounding == "round_prefer_floor" else half_up


def _cubic(t: torch.Tensor, a: float) -> torch.Tensor:
    t = t.abs()
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return torch.where(t <= 1, near, torch.where(t < 2, far, torch.zeros_like(t)))


def _weights(
    at: torch.Tensor, size: int, scale: float, mode: str, rounding: str, cubic: float, exclude: bool, antialias: bool
) -> torch.Tensor:
    """[out, size]: how much each input element counts for each output element; edges repeat."""
    out = torch.zeros(at.numel(), size, dtype=torch.float64)
    rows = torch.arange(at.numel())
    if mode == "nearest":
        out[rows, _nearest(at, rounding).clamp(0, size - 1).long()] = 1
        return out
    shrink = min(scale, 1.0) if antialias else 1.0
    reach = (2 if mode == "cubic" else 1) / shrink
    first = (at - reach).floor().long()
    for k in range(2 * math.ceil(reach) + 2):
        place = first + k
        t = (place - at) * shrink
        weight = _cubic(t, cubic) if mode == "cubic" else (1 - t.abs()).clamp(min=0)
        if exclude:
            weight = torch.where((place < 0) | (place >= size), torch.zeros_like(weight), weight)
        out.index_put_((rows, place.clamp(0, size - 1)), weight, accumulate=True)
    return out / out.sum(1, keepdim=True) if exclude or antialias else out


@op("x, roi?, sizes:int?, scales? -> y")
def resize(
    x: Any,
    roi: Any = None,
    sizes: Any = None,
    scales: Any = None,
    *,
    to: tuple[int, ...] | None = None,
    factors: tuple[float, ...] | None = None,
    dims: tuple[int, ...] | None = None,
    mode: str = "nearest",
    coordinates: str = "half_pixel",
    rounding: str = "round_prefer_floor",
    cubic: float = -0.75,
    exclude_outside: bool = False,
    antialias: bool = False,
    outside: float = 0.0,
    keep_aspect: str = "stretch",
) -> Any:
    """Resample dims (None: all) to sizes, or by factors; given as attributes or as tensors (ONNX Resize 19).

    Factors beside sizes tell where samples lie. mode: nearest, linear or cubic. coordinates: how output places map to
    input ones. roi: starts then ends, for tf_crop_and_resize; places outside it take the value ``outside``.
    keep_aspect: stretch, not_larger, not_smaller.
    """
    over = range(x.ndim) if dims is None else [d % x.ndim for d in dims]
    have = [x.shape[d] for d in over]
    if scales is not None:
        factors = tuple(scales.double().tolist())
    if sizes is not None:
        to = tuple(sizes.tolist())
    want, factor = _targets(have, to, factors, keep_aspect)
    bounds = [0.0] * len(have) + [1.0] * len(have) if roi is None else roi.double().tolist()
    y, beyond = x.double(), []
    for i, d in enumerate(over):
        at = _source(have[i], want[i], factor[i], coordinates, bounds[i], bounds[i + len(have)])
        beyond.append((at < 0) | (at > have[i] - 1))
        if have[i] == want[i] and torch.equal(at, torch.arange(want[i], dtype=torch.float64)):
            continue
        if mode == "nearest":
            y = y.index_select(d, _nearest(at, rounding).clamp(0, have[i] - 1).long())
            continue
        weights = _weights(at, have[i], factor[i], mode, rounding, cubic, exclude_outside, antialias)
        y = torch.tensordot(y, weights, dims=([d], [1])).movedim(-1, d)  # pyright: ignore[reportArgumentType]
    if coordinates == "tf_crop_and_resize":
        for i, d in enumerate(over):
            y = torch.where(beyond[i].reshape([-1 if k == d else 1 for k in range(x.ndim)]), outside, y)
    if not x.is_floating_point():
        y = y.round()
        limits = torch.iinfo(x.dtype)
        y = y.clamp(limits.min, limits.max)
    return y.to(x.dtype)


def _targets(
    have: list[int], to: tuple[int, ...] | None, factors: tuple[float, ...] | None, keep_aspect: str
) -> tuple[list[int], list[float]]:
    if to is None:
        assert factors is not None
        return [math.floor(n * f) for n, f in zip(have, factors, strict=True)], list(factors)
    factor = [t / n for t, n in zip(to, have, strict=True)]
    if keep_aspect == "stretch":
        return list(to), factor if factors is None else list(factors)
    one = min(factor) if keep_aspect == "not_larger" else max(factor)
    return [math.floor(one * n + 0.5) for n in have], [one] * len(have)


@resize.infer
def _(
    x: TensorType,
    roi: Any = None,
    sizes: Any = None,
    scales: Any = None,
    *,
    to: tuple[DimLike, ...] | None = None,
    factors: tuple[float, ...] | None = None,
    dims: tuple[int, ...] | None = None,
    mode: str = "nearest",
    coordinates: str = "half_pixel",
    keep_aspect: str = "stretch",
    **_: Any,
) -> Type:
    if mode not in ("nearest", "linear", "cubic") or coordinates not in COORDINATES:
        raise TypeFault(f"mode {mode!r} with coordinates {coordinates!r} is not known")
    over = range(x.rank) if dims is None else [d % x.rank for d in dims]
    out = list(x.dims)
    for i, d in enumerate(over):
        out[d] = _resized(x.dims[d], to, factors, keep_aspect, i)
    return TensorType(x.dtype, tuple(out))


def _resized(
    size: DimLike, to: tuple[DimLike, ...] | None, factors: tuple[float, ...] | None, keep_aspect: str, index: int
) -> DimLike:
    if to is not None and keep_aspect == "stretch":
        return to[index]
    if factors is None or keep_aspect != "stretch":
        return unknown(index)
    if isinstance(size, int):
        return math.floor(size * factors[index])
    return size * int(factors[index]) if factors[index] == int(factors[index]) else unknown(index)


@op("x:float, grid:float -> y")
def grid_sample(x: Any, grid: Any, *, mode: str = "linear", padding: str = "zeros", align_corners: bool = False) -> Any:
    """x[n c *s] read at grid[n *o d], whose last dim holds positions in [-1, 1], the innermost spatial dim first.

    mode: nearest, linear or cubic (2-D only). padding: zeros, border or reflection.
    """
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    return F.grid_sample(x, grid.to(x.dtype), mode, padding, align_corners)


@grid_sample.infer
def _(x: TensorType, grid: TensorType, **_: Any) -> Type:
    if x.rank != grid.rank or x.rank not in (4, 5):
        raise TypeFault(f"x is {x} and grid is {grid}; expected two or three spatial dims in both")
    return TensorType(x.dtype, (x.dims[0], x.dims[1], *grid.dims[1:-1]))


@grid_sample.flops
def _(results: list[Type], x: TensorType, grid: TensorType, **_: Any) -> DimLike:
    return product(grid.dims[:-1]) * x.dims[1] * 2 ** (x.rank - 1)


@op("x:float[n c h w], rois:float[r 4], batch:int[r] -> y")
def roi_align(
    x: Any,
    rois: Any,
    batch: Any,
    *,
    height: int,
    width: int,
    samples: int = 0,
    scale: float = 1.0,
    reduce: str = "avg",
    half_pixel: bool = True,
) -> Any:
    """Average or greatest of bilinear samples in each cell of each box (x1, y1, x2, y2); He et al. 2017.

    samples: how many in each cell along each dim; 0 takes as many as the cell has pixels. reduce: avg or max.
    """
    cells = [
        _roi_cells(x[int(n)], box.tolist(), height, width, samples, scale, reduce, half_pixel)
        for n, box in zip(batch, rois, strict=True)
    ]
    return torch.stack(cells) if cells else x.new_empty(0, x.shape[1], height, width)


def _roi_cells(
    image: Any, box: list[float], height: int, width: int, samples: int, scale: float, reduce: str, half_pixel: bool
) -> Any:
    shift = 0.5 if half_pixel else 0.0
    x1, y1, x2, y2 = (v * scale - shift for v in box)
    w, h = x2 - x1, y2 - y1
    if not half_pixel:
        w, h = max(w, 1.0), max(h, 1.0)
    ny, nx = (samples, samples) if samples else (max(math.ceil(h / height), 0), max(math.ceil(w / width), 0))
    if not ny * nx:  # an empty box
        return image.new_zeros(image.shape[0], height, width)
    ys = y1 + (torch.arange(height * ny).double() + 0.5) * (h / height / ny)
    xs = x1 + (torch.arange(width * nx).double() + 0.5) * (w / width / nx)
    corners = _corners(image, ys, xs)
    cells = [c.unflatten(2, (width, nx)).unflatten(1, (height, ny)) for c in corners]
    if reduce == "max":  # ONNX takes the greatest of the weighted corners, not of their sums
        return torch.stack(cells).amax((0, 3, 5)).to(image.dtype)
    return (cells[0] + cells[1] + cells[2] + cells[3]).mean((2, 4)).to(image.dtype)


def _corners(image: Any, ys: torch.Tensor, xs: torch.Tensor) -> list[Any]:
    """The four weighted neighbours [c, ys, xs] of each sample; 0 for samples more than a pixel outside."""
    height, width = image.shape[1:]
    inside = ((ys >= -1) & (ys <= height))[:, None] & ((xs >= -1) & (xs <= width))[None]
    ys, xs = ys.clamp(0, height - 1), xs.clamp(0, width - 1)
    y0, x0 = ys.floor().long(), xs.floor().long()
    y1, x1 = (y0 + 1).clamp(max=height - 1), (x0 + 1).clamp(max=width - 1)
    fy, fx = ys - y0, xs - x0
    parts: list[Any] = []
    for yi, wy in ((y0, 1 - fy), (y1, fy)):
        for xi, wx in ((x0, 1 - fx), (x1, fx)):
            parts.append(image.double()[:, yi][:, :, xi] * (wy[:, None] * wx[None] * inside))
    return parts


@roi_align.infer
def _(x: TensorType, rois: TensorType, batch: TensorType, *, height: int, width: int, **_: Any) -> Type:
    return TensorType(x.dtype, (rois.dims[0], x.dims[1], height, width))


@resize.samples
def _(s: Sampler) -> Iterator[Sample]:
    x = s.real(2, 4, 6)
    for mode in ("nearest", "linear", "cubic"):
        for coordinates in ("half_pixel", "align_corners", "asymmetric"):
            yield (x,), {"to": (8, 3), "dims": (1, 2), "mode": mode, "coordinates": coordinates}
    yield (x,), {"factors": (1.0, 0.5, 1.5), "mode": "linear", "antialias": True}
    yield (x,), {"to": (2, 9), "factors": (0.7, float("inf")), "dims": (1, 2), "mode": "cubic", "exclude_outside": True}
    yield (x, None, torch.tensor([2, 8, 12])), {}
    yield (x, None, None, torch.tensor([1.0, 2.0, 0.5])), {"mode": "linear"}


@grid_sample.samples
def _(s: Sampler) -> Iterator[Sample]:
    for mode in ("linear", "nearest"):
        yield (s.real(2, 4, 6, 8), s.real(2, 3, 5, 2, low=-1.0, high=1.0)), {"mode": mode}


@roi_align.samples
def _(s: Sampler) -> Iterator[Sample]:
    rois = torch.tensor([[0.0, 0.0, 4.0, 4.0], [1.0, 2.0, 5.0, 6.0]]).to(s.real(1).dtype)
    for reduce in ("avg", "max"):
        yield (
            (s.real(2, 4, 6, 8), rois, torch.tensor([0, 1])),
            {"height": 2, "width": 3, "samples": 2, "reduce": reduce},
        )
