"""Resampling, patches and Fourier transforms."""

from __future__ import annotations

from typing import Any

from maiac.ir.dims import DimLike
from maiac.ir.graph import Value

from ..importer import Context, type_of
from .conv import spread
from .registry import Unsupported, aten

_MODES = {"nearest": "nearest", "linear": "linear", "bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}


def _upsample(mode: str, aligned: bool) -> Any:
    def handler(c: Context, x: Value, size: Any, *args: Any) -> Value:
        align, scales = (args[0], args[1]) if aligned else (False, args[0])
        return _emit(c, x, mode, align, scales)

    return handler


def _emit(c: Context, x: Value, mode: str, align_corners: bool, scales: Any) -> Value:
    """Upsampling to the traced size; given scale factors take part in where each sample lies."""
    spatial = type_of(x).rank - 2
    factors = tuple(float(s) for s in scales) if scales else ()
    return c.emit(
        "upsample", x, size=c.shape()[-spatial:], scales=factors, mode=_MODES[mode], align_corners=bool(align_corners)
    )


for _name, _mode in {
    "nearest1d": "nearest",
    "nearest2d": "nearest",
    "nearest3d": "nearest",
    "linear1d": "linear",
    "bilinear2d": "bilinear",
    "trilinear3d": "trilinear",
    "bicubic2d": "bicubic",
}.items():
    aten(f"upsample_{_name}.vec")(_upsample(_mode, _mode != "nearest"))


def _upsample_sized(mode: str) -> Any:
    def handler(c: Context, x: Value, size: Any, *args: Any) -> Value:
        align, scales = (False, args) if mode == "nearest" else (args[0], args[1:])
        return _emit(c, x, mode, align, scales if scales and all(s is not None for s in scales) else None)

    return handler


for _name, _mode in {
    "nearest1d": "nearest",
    "nearest2d": "nearest",
    "nearest3d": "nearest",
    "linear1d": "linear",
    "bilinear2d": "bilinear",
    "trilinear3d": "trilinear",
    "bicubic2d": "bicubic",
}.items():
    aten(f"upsample_{_name}.default")(_upsample_sized(_mode))


def _upsample_backward(mode: str) -> Any:
    def handler(c: Context, grad: Value, size: Any, input_size: list[DimLike], *args: Any) -> Value:
        align, scales = (False, args) if mode == "nearest" else (args[0], args[1:])
        factors = tuple(map(float, scales)) if scales and all(s is not None for s in scales) else ()
        return c.emit(
            "upsample_grad", grad, size=tuple(input_size), scales=factors, mode=_MODES[mode], align_corners=bool(align)
        )

    return handler


for _name, _mode in {
    "nearest1d": "nearest",
    "nearest2d": "nearest",
    "nearest3d": "nearest",
    "linear1d": "linear",
    "bilinear2d": "bilinear",
    "trilinear3d": "trilinear",
    "bicubic2d": "bicubic",
}.items():
    aten(f"upsample_{_name}_backward.default")(_upsample_backward(_mode))


@aten("grid_sampler_2d.default", "grid_sampler_3d.default", "grid_sampler.default")
def grid_sampler(c: Context, x: Value, grid: Value, mode: int, padding: int, align_corners: bool) -> Value:
    """Samples of x at normalised places."""
    return c.emit(
        "grid_sample",
        x,
        grid,
        mode=("linear", "nearest", "cubic")[mode],
        padding=("zeros", "border", "reflection")[padding],
        align_corners=align_corners,
    )


@aten("im2col.default")
def im2col(c: Context, x: Value, kernel: Any, dilation: Any, padding: Any, stride: Any) -> Value:
    """Each window as a column."""
    return c.emit(
        "im2col",
        x,
        kernel=spread(kernel, 2),
        dilation=spread(dilation, 2),
        padding=spread(padding, 2),
        stride=spread(stride, 2),
    )


@aten("col2im.default")
def col2im(c: Context, x: Value, size: Any, kernel: Any, dilation: Any, padding: Any, stride: Any) -> Value:
    """Columns added up where their windows lie."""
    pads = tuple(p for p in spread(padding, 2) for _ in range(2))
    single = type_of(x).rank == 2
    x = c.reshape(x, (1, *type_of(x).dims)) if single else x
    y = c.emit(
        "col2im",
        x,
        image=spread(size, 2),
        block=spread(kernel, 2),
        stride=spread(stride, 2),
        padding=pads,
        dilation=spread(dilation, 2),
    )
    return c.reshape(y, type_of(y).dims[1:]) if single else y


_NORMS = {0: "none", 1: "ortho", 2: "forward"}  # torch's enum: none, by sqrt(n), by n


@aten("_fft_r2c.default")
def fft_r2c(c: Context, x: Value, dims: list[int], norm: int, onesided: bool) -> Value:
    """The transform of real numbers; one-sided: the half that the other mirrors."""
    return c.emit("fft", x, dims=tuple(dims), norm=_NORMS[norm], onesided=onesided)


@aten("_fft_c2c.default")
def fft_c2c(c: Context, x: Value, dims: list[int], norm: int, forward: bool) -> Value:
    """The transform of complex numbers, or its inverse."""
    return c.emit("fft", x, dims=tuple(dims), norm=_NORMS[norm], inverse=not forward)


@aten("_fft_c2r.default")
def fft_c2r(c: Context, x: Value, dims: list[int], norm: int, last: DimLike) -> Value:
    """The inverse transform of a one-sided half, which gives real numbers."""
    return c.emit("fft_real", x, dims=tuple(dims), norm=_NORMS[norm], size=last)


@aten("_upsample_bilinear2d_aa.default", "_upsample_bicubic2d_aa.default")
def upsample_antialiased(c: Context, x: Value, size: Any, align: bool, *scales: Any) -> Value:
    """Resampling that widens its filter where it shrinks."""
    mode, cubic = ("cubic", -0.5) if "bicubic" in c.name else ("linear", -0.75)
    attrs: dict[str, Any] = {"mode": mode, "cubic": cubic, "antialias": True, "exclude_outside": True}
    size, given = c.shape()[-2:], (*scales, None, None)[:2]
    if align or any(given):
        attrs["factors"] = tuple(map(_factor, type_of(x).dims[-2:], size, given, (align, align)))
    return c.emit("resize", x, to=size, dims=(2, 3), **attrs)


def _factor(have: DimLike, want: DimLike, given: float | None, align: bool) -> float:
    """By how much a dim grows where torch places samples; aligned, of both sizes less 1, and nothing of 1 grows."""
    if not isinstance(have, int) or not isinstance(want, int):
        raise Unsupported("antialiased resampling of a dynamic size by a factor or with aligned corners")
    if have == want:
        return 1.0  # torch leaves such a dim alone, whatever factor is given
    if align:
        return (want - 1) / (have - 1) if min(want, have) > 1 else float("inf")
    return float(given) if given else want / have


@aten("pixel_shuffle.default")
def pixel_shuffle(c: Context, x: Value, factor: int) -> Value:
    """Channels moved into space: [*b c*r*r h w] -> [*b c h*r w*r]."""
    *lead, channels, h, w = type_of(x).dims
    x = c.reshape(x, (*lead, channels // (factor * factor), factor, factor, h, w))
    n = len(lead)
    x = c.emit("transpose", x, perm=(*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return c.reshape(x, c.shape())


@aten("pixel_unshuffle.default")
def pixel_unshuffle(c: Context, x: Value, factor: int) -> Value:
    """Space moved into channels: the inverse of pixel_shuffle."""
    *lead, channels, h, w = type_of(x).dims
    x = c.reshape(x, (*lead, channels, h // factor, factor, w // factor, factor))
    n = len(lead)
    x = c.emit("transpose", x, perm=(*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return c.reshape(x, c.shape())
