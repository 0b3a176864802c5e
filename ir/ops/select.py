"""Operations whose results have as many elements as the data ask for, and determinants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ..dims import DimLike
from ..dtypes import DType
from ..errors import TypeFault
from ..opdef import op, unknown
from ..types import TensorType, Type
from .sampling import Sample, Sampler


@op("x -> values, first, inverse, counts")
def unique(x: Any, *, dim: int | None = None, sorted: bool = True) -> Any:
    """The distinct elements (or slices along dim), where each first stands, which one each is, and how often.

    sorted: in rising order, else in the order in which they first stand.
    """
    rows = x.reshape(-1) if dim is None else x
    along = 0 if dim is None else dim
    values, inverse, counts = torch.unique(rows, return_inverse=True, return_counts=True, dim=along)
    places = torch.arange(inverse.numel())
    first = torch.full((counts.numel(),), inverse.numel()).scatter_reduce(0, inverse.reshape(-1), places, "amin")
    if not sorted:
        order = torch.argsort(first)
        rank = torch.argsort(order)
        values, first, counts, inverse = values.index_select(along, order), first[order], counts[order], rank[inverse]
    return values, first, inverse.reshape(-1), counts


@unique.infer
def _(x: TensorType, *, dim: int | None = None, sorted: bool = True) -> list[Type]:
    return unique_types(x, dim)


def unique_types(x: TensorType, dim: int | None) -> list[Type]:
    """The types of unique's results."""
    count = unknown()
    dims = (count,) if dim is None else tuple(count if i == dim % x.rank else d for i, d in enumerate(x.dims))
    inverse = x.elements() if dim is None else x.dims[dim]
    return [TensorType(x.dtype, dims), *(TensorType(DType.I64, (n,)) for n in (count, inverse, count))]


@op("x -> values, inverse, counts")
def unique_consecutive(x: Any, *, dim: int | None = None) -> Any:
    """The elements (or slices along dim) without those that equal the one before, which one each is, and how often."""
    values, inverse, counts = torch.unique_consecutive(x, return_inverse=True, return_counts=True, dim=dim)
    return values, inverse.reshape(-1), counts


@unique_consecutive.infer
def _(x: TensorType, *, dim: int | None = None) -> list[Type]:
    values, _, inverse, counts = unique_types(x, dim)
    return [values, inverse, counts]


@op("x:int[n], w:real[n]? -> y")
def bincount(x: Any, w: Any = None, *, least: int = 0) -> Any:
    """How often each number from 0 to the greatest stands in x, or the sum of its weights; at least so many counts."""
    return torch.bincount(x, w, least)


@bincount.infer
def _(x: TensorType, w: TensorType | None = None, *, least: DimLike = 0) -> Type:
    narrow = w is not None and w.element is DType.F32
    return TensorType(DType.I64 if w is None else DType.F32 if narrow else DType.F64, (unknown(),))


@op("x -> y")
def nonzero_first(x: Any, *, size: int, fill: int = -1) -> Any:
    """The index vectors of the first ``size`` elements that are not 0; rows of ``fill`` where there are fewer."""
    return torch.nonzero_static(x, size=size, fill_value=fill)


@nonzero_first.infer
def _(x: TensorType, *, size: DimLike, fill: int = -1) -> Type:
    return TensorType(DType.I64, (size, x.rank))


@op("boxes:float[n b 4], scores:float[n c b], most:int?, iou:float?, score:float? -> kept")
def non_max_suppression(
    boxes: Any, scores: Any, most: Any = None, iou: Any = None, score: Any = None, *, center: bool = False
) -> Any:
    """[count, 3] (batch, class, box): the best boxes, less those that overlap a better one by more than ``iou``.

    boxes: two corners (y, x, y, x), or with ``center`` (x, y, width, height). most: for each class; none keeps none.
    """
    limit = 0 if most is None else int(most)
    overlap = 0.0 if iou is None else float(iou)
    least = None if score is None else float(score)
    kept: list[tuple[int, int, int]] = []
    for n in range(scores.shape[0]):
        corners = _corners(boxes[n], center)
        area = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
        for c in range(scores.shape[1]):
            kept += [(n, c, i) for i in _kept(corners, area, scores[n, c], limit, overlap, least)]
    return torch.tensor(kept, dtype=torch.int64).reshape(-1, 3)


def _corners(boxes: torch.Tensor, center: bool) -> torch.Tensor:
    if center:
        middle, half = boxes[:, :2], boxes[:, 2:] / 2
        return torch.cat([middle - half, middle + half], 1)
    low, high = torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:])
    return torch.cat([low, high], 1)


def _kept(
    corners: torch.Tensor, area: torch.Tensor, scores: torch.Tensor, limit: int, overlap: float, least: float | None
) -> list[int]:
    chosen: list[int] = []
    for i in torch.argsort(scores, descending=True, stable=True).tolist():
        if len(chosen) >= limit or (least is not None and scores[i] <= least):
            break
        low = torch.maximum(corners[chosen, :2], corners[i, :2])
        high = torch.minimum(corners[chosen, 2:], corners[i, 2:])
        shared = (high - low).clamp(min=0).prod(1)
        if not bool((shared / (area[chosen] + area[i] - shared) > overlap).any()):
            chosen.append(i)
    return chosen


@non_max_suppression.infer
def _(boxes: TensorType, scores: TensorType, *rest: Any, center: bool = False) -> Type:
    return TensorType(DType.I64, (unknown(), 3))


@op("x:floatc -> y")
def det(x: Any) -> Any:
    """The determinant of the last two dims."""
    return torch.linalg.det(x)


@det.infer
def _(x: TensorType) -> Type:
    if x.rank < 2 or x.dims[-1] != x.dims[-2]:
        raise TypeFault(f"x is {x}; expected square matrices in its last two dims")
    return TensorType(x.dtype, x.dims[:-2])


@unique.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.ints(8, high=4),), {}
    yield (s.ints(4, 2, high=2),), {"dim": 0, "sorted": False}


@unique_consecutive.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.ints(8, high=2),), {}
    yield (s.ints(6, 2, high=2),), {"dim": 0}


@bincount.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.ints(8, high=4),), {}
    yield (s.ints(8, high=4), s.real(8)), {"least": 6}
    yield (s.ints(8, high=4), s.ints(8)), {}


@nonzero_first.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.ints(4, 6, high=2),), {"size": 3}
    yield (s.bools(4),), {"size": 6, "fill": 0}


@non_max_suppression.samples
def _(s: Sampler) -> Iterator[Sample]:
    boxes = s.real(2, 6, 4, low=0.0, high=1.0)
    yield (boxes, s.real(2, 2, 6), torch.tensor(3), torch.tensor(0.5), torch.tensor(0.1)), {}
    yield (boxes, s.real(2, 2, 6), torch.tensor(2)), {"center": True}


@det.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(2, 4, 4, dtype=DType.F32),), {}
