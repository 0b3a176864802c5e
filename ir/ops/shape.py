"""Operations that move elements without computing: views, joins, cuts, pads."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from ..dims import DimLike, Symbol, bounds, ceildiv, floordiv, maximum, minimum, product, symbols_of
from ..errors import TypeFault
from ..opdef import op, unknown
from ..types import Axes, TensorType, Type
from .rules import axis, keep_split
from .sampling import Sample, Sampler


@op("x -> y", alias="x", linear="x", local={"shape": "y"})
def reshape(x: Any, *, shape: tuple[int, ...]) -> Any:
    """The same elements in row-major order under other dims; a view where strides allow."""
    return x.reshape(shape)


@reshape.infer
def _(x: TensorType, *, shape: tuple[DimLike, ...]) -> Type:
    have, want = x.elements(), product(shape)
    if isinstance(have, int) and isinstance(want, int) and have != want:
        raise TypeFault(f"x is {x} with {have} elements; shape {list(shape)} holds {want}")
    return TensorType(x.dtype, shape)


@reshape.shard
def _(results: list[Type], x: TensorType, *, shape: tuple[DimLike, ...]) -> Type:
    split: list[Axes] = [()] * len(shape)
    for sources, targets in factor_groups(x.dims, shape):
        held = [i for i in sources if x.split[i]]
        if not held:
            continue
        majors = [i for i in sources if x.dims[i] != 1]
        into = [j for j in targets if shape[j] != 1]
        if held != majors[:1] or not into:
            raise TypeFault(f"reshape: dim {held[-1]} of {x} is split, but is not the major part of a dim", "MAIA0108")
        split[into[0]] = x.split[held[0]]
    return keep_split(results[0], split, x.owed)


@reshape.samples
def _(s: Sampler) -> Iterator[Sample]:
    for have, want in [
        ((4, 6), (2, 12)),
        ((4, 6), (24,)),
        ((2, 4, 6), (8, 6)),
        ((4, 2), (1, 4, 2)),
        ((8, 3), (2, 4, 3)),
        ((), (1,)),
    ]:
        yield (s.real(*have),), {"shape": want}


def factor_groups(have: Sequence[DimLike], want: Sequence[DimLike]) -> list[tuple[list[int], list[int]]]:
    """Cut both shapes into the shortest runs of dims with equal products."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(have) or j < len(want):
        left, right = [i] if i < len(have) else [], [j] if j < len(want) else []
        i, j = i + len(left), j + len(right)
        while product([have[a] for a in left]) != product([want[b] for b in right]):
            a, b = product([have[k] for k in left]), product([want[k] for k in right])
            grow_left = j >= len(want) or (i < len(have) and _smaller(a, b))
            if grow_left and i < len(have):
                left.append(i)
                i += 1
            elif j < len(want):
                right.append(j)
                j += 1
            else:
                break
        groups.append((left, right))
    return groups


def _smaller(a: DimLike, b: DimLike) -> bool:
    if isinstance(a, int) and isinstance(b, int):
        return a < b
    return isinstance(floordiv(b, a), int) or (not isinstance(floordiv(a, b), int) and _divides(b, a))


def _divides(a: DimLike, b: DimLike) -> bool:
    return b * floordiv(a, b) == a


@op("x, shape:int -> y", alias="x")
def reshape_to(x: Any, shape: Any, *, rank: int, allow_zero: bool = False) -> Any:
    """Reshape to dims that only the run tells: -1 is inferred, 0 keeps a dim unless allow_zero (ONNX Reshape)."""
    dims = shape.tolist()
    if not allow_zero:
        dims = [x.shape[i] if d == 0 else d for i, d in enumerate(dims)]
    return x.reshape(dims)


@reshape_to.infer
def _(x: TensorType, shape: TensorType, *, rank: int, allow_zero: bool = False) -> Type:
    return TensorType(x.dtype, tuple(unknown(i) for i in range(rank)))


@reshape_to.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(4, 6), torch.tensor([0, -1, 2])), {"rank": 3}
    yield (s.real(4, 6), torch.tensor([8, 3], dtype=torch.int32)), {"rank": 2}
    yield (s.real(0, 6), torch.tensor([0, 2])), {"rank": 2, "allow_zero": True}


@op("x -> y", alias="x", linear="x")
def transpose(x: Any, *, perm: tuple[int, ...]) -> Any:
    """Reorder dims: dim i of y is dim perm[i] of x."""
    return x.permute(perm)


@transpose.infer
def _(x: TensorType, *, perm: tuple[int, ...]) -> Type:
    if sorted(perm) != list(range(x.rank)):
        raise TypeFault(f"perm {list(perm)} does not order the {x.rank} dims of {x}")
    return TensorType(x.dtype, tuple(x.dims[p] for p in perm))


@transpose.shard
def _(results: list[Type], x: TensorType, *, perm: tuple[int, ...]) -> Type:
    return keep_split(results[0], [x.split[p] for p in perm], x.owed)


@transpose.samples
def _(s: Sampler) -> Iterator[Sample]:
    for perm in [(1, 0), (0, 2, 1), (2, 0, 1)]:
        yield (s.real(*(s.size() for _ in perm)),), {"perm": perm}


@op("x -> y", alias="x", linear="x", local={"shape": "y"})
def expand(x: Any, *, shape: tuple[int, ...]) -> Any:
    """Broadcast to a shape; new dims stand in front."""
    return x.expand(shape)


@expand.infer
def _(x: TensorType, *, shape: tuple[DimLike, ...]) -> Type:
    extra = len(shape) - x.rank
    if extra < 0 or any(have != 1 and _differs(have, want) for have, want in zip(x.dims, shape[extra:], strict=True)):
        raise TypeFault(f"{x} does not broadcast to {list(shape)}")
    return TensorType(x.dtype, shape)


def _differs(a: DimLike, b: DimLike) -> bool:
    return isinstance(a, int) and isinstance(b, int) and a != b


@expand.shard
def _(results: list[Type], x: TensorType, *, shape: tuple[DimLike, ...]) -> Type:
    return keep_split(results[0], [()] * (len(shape) - x.rank) + list(x.split), x.owed)


@expand.samples
def _(s: Sampler) -> Iterator[Sample]:
    for have, want in [((4, 1), (4, 6)), ((6,), (2, 4, 6)), ((1, 4, 1), (2, 4, 2)), ((), (4,))]:
        yield (s.real(*have),), {"shape": want}


@op("x -> y", alias="x", linear="x")
def slice(x: Any, *, dim: int, start: int = 0, end: int | None = None, step: int = 1) -> Any:
    """Elements start, start + step, ... before end (None: to the end) along dim; negative counts from the end."""
    if step > 0:
        return x[(builtins.slice(None),) * (dim % x.ndim) + (builtins.slice(start, end, step),)]
    size = x.shape[dim]
    first = min(start + size if start < 0 else start, size - 1)
    stop = -1 if end is None or end < -size else end + size if end < 0 else end
    return x.index_select(dim, torch.arange(first, stop, step))


def own_axis(x: TensorType, dim: int) -> int:
    """``axis`` of a tensor that must have dims; torch lets a tensor of rank 0 pass for one of rank 1 elsewhere."""
    if not x.rank:
        raise TypeFault(f"x is {x}, which has no dims")
    return axis(x, dim)


@slice.infer
def _(x: TensorType, *, dim: int, start: DimLike = 0, end: DimLike | None = None, step: DimLike = 1) -> Type:
    at = own_axis(x, dim)
    dims = list(x.dims)
    dims[at] = sliced_size(x.dims[at], start, end, step)
    return TensorType(x.dtype, tuple(dims))


def sliced_size(size: DimLike, start: DimLike, end: DimLike | None, step: DimLike) -> DimLike:
    """Elements that ``start:end:step`` keeps of ``size``; unknown where signs or bounds are."""
    if not isinstance(step, int) or step == 0:
        return unknown()
    if isinstance(size, int) and isinstance(start, int) and (end is None or isinstance(end, int)):
        stop = -(2**63) if end is None and step < 0 else size if end is None else end
        return len(range(*builtins.slice(start, None if stop == -(2**63) else stop, step).indices(size)))
    if step < 0:
        return unknown()
    if isinstance(start, int) and isinstance(end, int) and (start < 0) == (end < 0) and end <= start:
        return 0
    high = size if end is None else _clamped(end, size)
    return ceildiv(high - _clamped(start, size), step)


def _clamped(at: DimLike, size: DimLike) -> DimLike:
    """A slice bound as an offset from 0; symbols are taken to be at least as great as the numbers beside them."""
    if isinstance(at, int):
        if at >= 2**31:
            return size
        if at < 0:
            return maximum(size + at, 0) if isinstance(size, int) else size + at
        return at if isinstance(size, int) and at <= size else at if at == 0 else minimum(at, size)
    if bounds(at, {name: Symbol(name) for name in symbols_of(at)})[1] <= 0:
        return maximum(size + at, 0)
    gap = size - at
    return at if isinstance(gap, int) and gap >= 0 else minimum(at, size)


@slice.shard
def _(results: list[Type], x: TensorType, *, dim: int, **_: Any) -> Type:
    if x.split[axis(x, dim)]:
        raise TypeFault(f"slice: dim {dim} of {x} must be whole", "MAIA0108")
    return keep_split(results[0], x.split, x.owed)


@slice.samples
def _(s: Sampler) -> Iterator[Sample]:
    x = s.real(6, 8)
    for start, end, step in [
        (0, None, 1),
        (1, 5, 2),
        (-3, None, 1),
        (0, -2, 1),
        (2, 100, 3),
        (5, 2, 1),
        (-1, None, -1),
        (4, 0, -2),
    ]:
        for dim in (0, -1):
            yield (x,), {"dim": dim, "start": start, "end": end, "step": step}


@op("xs* -> y", linear="xs", dtype="xs")
def concat(*xs: Any, dim: int) -> Any:
    """Join tensors along a dim."""
    return torch.cat(xs, dim)


@concat.infer
def _(*xs: TensorType, dim: int) -> Type:
    if not xs:
        raise TypeFault("concat needs at least one operand")
    at = own_axis(xs[0], dim)
    dims = list(xs[0].dims)
    for x in xs[1:]:
        rest = [d for i, d in enumerate(x.dims) if i != at]
        if x.rank != xs[0].rank or any(map(_differs, rest, [d for i, d in enumerate(dims) if i != at])):
            raise TypeFault(f"{x} does not join {xs[0]} along dim {at}")
        if x.dtype != xs[0].dtype:
            raise TypeFault(f"{x} and {xs[0]} have different dtypes")
        dims[at] = x.dims[at] + dims[at]
    return TensorType(xs[0].dtype, tuple(dims))


@concat.shard
def _(results: list[Type], *xs: TensorType, dim: int) -> Type:
    if len({(x.split, x.owed) for x in xs}) > 1:
        raise TypeFault("concat: its operands are split differently: " + ", ".join(map(str, xs)), "MAIA0108")
    if xs[0].split[axis(xs[0], dim)]:
        raise TypeFault(f"concat: dim {dim} must be whole, but is split in {xs[0]}", "MAIA0108")
    return keep_split(results[0], xs[0].split, xs[0].owed)


@concat.samples
def _(s: Sampler) -> Iterator[Sample]:
    for dim in (0, 1, -1):
        shapes = [[4, 2, 6] for _ in range(3)]
        for shape in shapes:
            shape[dim] = s.size()
        yield tuple(s.real(*shape) for shape in shapes), {"dim": dim}
    yield (s.ints(4),), {"dim": 0}


@op("x -> ys*", alias="x", linear="x")
def split(x: Any, *, dim: int, parts: tuple[int, ...]) -> Any:
    """Cut along a dim into parts of these sizes, which add up to the dim."""
    return x.split(parts, dim)


@split.infer
def _(x: TensorType, *, dim: int, parts: tuple[DimLike, ...]) -> list[Type]:
    at = own_axis(x, dim)
    total: DimLike = 0
    for part in parts:
        total = part + total
    if _differs(total, x.dims[at]):
        raise TypeFault(f"parts {list(parts)} add up to {total}, but dim {at} of x is {x.dims[at]}")
    return [TensorType(x.dtype, (*x.dims[:at], part, *x.dims[at + 1 :])) for part in parts]


@split.shard
def _(results: list[Type], x: TensorType, *, dim: int, parts: tuple[DimLike, ...]) -> list[Type]:
    if x.split[axis(x, dim)]:
        raise TypeFault(f"split: dim {dim} of {x} must be whole", "MAIA0108")
    return [keep_split(r, x.split, x.owed) for r in results]


@split.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(6, 4),), {"dim": 0, "parts": (2, 4)}
    yield (s.real(4, 6),), {"dim": -1, "parts": (1, 2, 3)}


@op("x -> y")
def pad(x: Any, *, pads: tuple[int, ...], mode: str = "constant", value: bool | int | float = 0) -> Any:
    """Grow dims at both sides: pads is (before, after) of each dim in order; negative crops.

    mode: constant, reflect (without the edge), edge, wrap.
    """
    if mode == "constant":
        flat = [p for i in range(x.ndim - 1, -1, -1) for p in (pads[2 * i], pads[2 * i + 1])]
        return F.pad(x, flat, value=value)
    for dim in range(x.ndim):
        before, after = pads[2 * dim], pads[2 * dim + 1]
        if before or after:
            x = x.index_select(dim, pad_index(x.shape[dim], before, after, mode))
    return x


def pad_index(size: int, before: int, after: int, mode: str) -> torch.Tensor:
    """Where each element of a padded dim comes from."""
    at = torch.arange(-before, size + after)
    if mode == "edge":
        return at.clamp(0, size - 1)
    if mode == "wrap":
        return at % size
    period = max(2 * (size - 1), 1)
    at = at.abs() % period
    return torch.where(at < size, at, period - at)


@pad.infer
def _(x: TensorType, *, pads: tuple[DimLike, ...], mode: str = "constant", value: float = 0) -> Type:
    if len(pads) != 2 * x.rank:
        raise TypeFault(f"x is {x}; pads needs {2 * x.rank} numbers, but has {len(pads)}")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise TypeFault(f"mode {mode!r} is not constant, reflect, edge or wrap")
    return TensorType(x.dtype, tuple(pads[2 * i] + (pads[2 * i + 1] + d) for i, d in enumerate(x.dims)))


@pad.shard
def _(results: list[Type], x: TensorType, *, pads: tuple[DimLike, ...], **_: Any) -> Type:
    if x.owed or any(x.split[i] and (pads[2 * i] != 0 or pads[2 * i + 1] != 0) for i in range(x.rank)):
        raise TypeFault(f"pad: a padded dim of {x} must be whole", "MAIA0108")
    return keep_split(results[0], x.split, ())


@pad.samples
def _(s: Sampler) -> Iterator[Sample]:
    for mode in ("constant", "reflect", "edge", "wrap"):
        yield (s.real(4, 6),), {"pads": (0, 0, 2, 1), "mode": mode}
        yield (s.real(4, 6),), {"pads": (1, 3, 0, 2), "mode": mode}
    yield (s.ints(6),), {"pads": (-1, 2), "value": 7}
    yield (s.real(4),), {"pads": (1, 1), "value": 1.5}


@op("x -> y", linear="x")
def flip(x: Any, *, dims: tuple[int, ...]) -> Any:
    """Reverse the order along dims."""
    return x.flip(dims)


@flip.infer
def _(x: TensorType, *, dims: tuple[int, ...]) -> Type:
    for d in dims:
        axis(x, d)
    return x.whole()


@flip.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(4, 6),), {"dims": (0,)}
    yield (s.real(4, 2, 6),), {"dims": (0, -1)}


@op("x -> y", linear="x")
def tile(x: Any, *, repeats: tuple[int, ...]) -> Any:
    """Repeat the whole tensor along each dim; repeats has one number for each dim of x or more."""
    return x.repeat(repeats)


@tile.infer
def _(x: TensorType, *, repeats: tuple[DimLike, ...]) -> Type:
    extra = len(repeats) - x.rank
    if extra < 0:
        raise TypeFault(f"x is {x}; repeats needs at least {x.rank} numbers")
    dims = (*([1] * extra), *x.dims)
    return TensorType(x.dtype, tuple(r * d for r, d in zip(repeats, dims, strict=True)))


@tile.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(4, 6),), {"repeats": (2, 1)}
    yield (s.real(6),), {"repeats": (2, 3)}


@op("x[*b h w] -> y[*b h w]", dtype="x", whole="h w", linear="x")
def tril(x: Any, *, diagonal: int = 0) -> Any:
    """The lower triangle of the last two dims; 0 above the diagonal."""
    return torch.tril(x, diagonal)


@op("x[*b h w] -> y[*b h w]", dtype="x", whole="h w", linear="x")
def triu(x: Any, *, diagonal: int = 0) -> Any:
    """The upper triangle of the last two dims; 0 below the diagonal."""
    return torch.triu(x, diagonal)


@op("x[*b] -> y[*b]", dtype="x", linear="x")
def copy(x: Any) -> Any:
    """The same elements in storage of their own, contiguous."""
    return x.clone(memory_format=torch.contiguous_format)
