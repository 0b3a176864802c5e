"""Where values lie: a buffer, and for each dim a stride. What only moves elements is arithmetic on strides.

Dims, strides and offsets are polynomials over the program's symbols, in elements; nothing here depends on sizes that
only the run tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from maiac.ir.dims import DimLike, product
from maiac.ir.dtypes import DType

from .expr import Unsupported


@dataclass(eq=False)
class Buffer:
    """A block of memory. ``kind``: arena, input, output, weight, state or packed (weights in a kernel's own layout)."""

    kind: str
    dtype: DType
    size: DimLike  # elements; bytes of what is packed
    name: str = ""
    index: int = -1  # among those of its kind that come from outside
    source: Any = None  # the weight, or how it is packed


@dataclass(frozen=True)
class View:
    """A tensor in a buffer."""

    buffer: Buffer
    dims: tuple[DimLike, ...]
    strides: tuple[DimLike, ...]
    offset: DimLike = 0

    @property
    def rank(self) -> int:
        """Number of dims."""
        return len(self.dims)

    @property
    def dtype(self) -> DType:
        """The dtype of the elements."""
        return self.buffer.dtype

    def is_contiguous(self) -> bool:
        """Whether the elements lie in row-major order without gaps."""
        return all(
            d == 1 or have == want for d, have, want in zip(self.dims, self.strides, dense(self.dims), strict=True)
        )

    def transpose(self, perm: Sequence[int]) -> View:
        """Dim i of the result is dim perm[i]."""
        return replace(self, dims=tuple(self.dims[p] for p in perm), strides=tuple(self.strides[p] for p in perm))

    def unsqueeze(self, dim: int, count: int = 1) -> View:
        """``count`` new dims of 1 before a dim."""
        dims = (*self.dims[:dim], *[1] * count, *self.dims[dim:])
        return replace(self, dims=dims, strides=(*self.strides[:dim], *[0] * count, *self.strides[dim:]))

    def slice(self, dim: int, start: DimLike, size: DimLike, step: int = 1) -> View:
        """``size`` elements along a dim, from ``start`` on."""
        dims, strides = list(self.dims), list(self.strides)
        offset = self.offset + strides[dim] * start
        dims[dim], strides[dim] = size, strides[dim] * step
        return View(self.buffer, tuple(dims), tuple(strides), offset)

    def expand(self, shape: Sequence[DimLike]) -> View:
        """Broadcast to a shape: new dims, and dims of 1 that grow, have stride 0."""
        lead = len(shape) - self.rank
        for have, want in zip(self.dims, shape[lead:], strict=True):
            if have != 1:  # a symbol that happens to be 1 would broadcast too, and one that is too small be read beyond
                require_equal(have, want)
        own = zip(self.dims, self.strides, shape[lead:], strict=True)
        strides = [0] * lead + [0 if have == 1 and want != 1 else stride for have, stride, want in own]
        return View(self.buffer, tuple(shape), tuple(strides), self.offset)

    def reshape(self, shape: Sequence[DimLike]) -> View | None:
        """The same elements in row-major order under other dims; None where that takes a copy."""
        strides = _reshaped(self.dims, self.strides, shape)
        return None if strides is None else View(self.buffer, tuple(shape), strides, self.offset)


def require_equal(a: DimLike, b: DimLike) -> None:
    """Unsupported unless two dims are equal whatever the run brings."""
    if a != b:
        raise Unsupported(f"sizes that only the run compares: {a} and {b}")


def dense(dims: Sequence[DimLike], order: Sequence[int] | None = None) -> tuple[DimLike, ...]:
    """Strides without gaps; ``order`` names the dims from the outermost to the innermost (row-major by default)."""
    strides: list[DimLike] = [1] * len(dims)
    step: DimLike = 1
    for i in reversed(range(len(dims)) if order is None else order):
        strides[i] = step
        step = step * dims[i]
    return tuple(strides)


def _reshaped(
    dims: Sequence[DimLike], strides: Sequence[DimLike], shape: Sequence[DimLike]
) -> tuple[DimLike, ...] | None:
    """The strides of new dims, each run of which must divide one run of old dims without gaps."""
    runs: list[tuple[DimLike, DimLike]] = []  # (elements, stride of the innermost)
    for dim, stride in zip(dims, strides, strict=True):
        if dim == 1:
            continue
        if runs and runs[-1][1] == stride * dim:
            runs[-1] = (runs[-1][0] * dim, stride)
        else:
            runs.append((dim, stride))
    out: list[DimLike] = [0] * len(shape)
    at = 0
    for elements, stride in runs:
        taken: list[int] = []
        while not taken or product([shape[i] for i in taken]) != elements:
            if at == len(shape):
                return None
            if shape[at] != 1:
                taken.append(at)
            at += 1
        for i in reversed(taken):
            out[i] = stride
            stride = stride * shape[i]
    if any(d != 1 for d in shape[at:]):
        return None
    return tuple(out)


def loop_order(views: Sequence[View], rank: int, weight: dict[str, int]) -> list[int]:
    """Dims from the outermost to the innermost as the first view has them in memory; ties as the next ones do.

    ``weight`` gives each symbol a likely size. Any order is right; a good one walks through memory in steps of 1.
    """
    keys = [(*tuple(-estimate(v.strides[i], weight) for v in views), i) for i in range(rank)]
    return sorted(range(rank), key=lambda i: keys[i])


def estimate(dim: DimLike, weight: dict[str, int]) -> int:
    """The likely size of a dim."""
    from maiac.ir.dims import evaluate

    return evaluate(dim, weight)


@dataclass(frozen=True)
class Loop:
    """One loop of a nest: how often it runs, and each operand's step in elements."""

    count: DimLike
    steps: tuple[DimLike, ...]


def nest(views: Sequence[View], order: Sequence[int]) -> list[Loop]:
    """The fewest loops that walk all views together in an order; at least one. The views have equal dims."""
    loops: list[Loop] = []
    for i in order:
        count = views[0].dims[i]
        if count == 1:
            continue
        steps = tuple(v.strides[i] for v in views)
        if loops and all(o == s * count for o, s in zip(loops[-1].steps, steps, strict=True)):
            loops[-1] = Loop(loops[-1].count * count, steps)
        else:
            loops.append(Loop(count, steps))
    return loops or [Loop(1, (0,) * len(views))]
