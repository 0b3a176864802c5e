"""Views, joins and cuts: what moves elements without computing."""

from __future__ import annotations

from typing import Any

from maiac.ir.dims import DimLike
from maiac.ir.dtypes import DType
from maiac.ir.graph import Value
from maiac.ir.types import TensorType

from ..importer import Context, type_of
from .registry import aten

_TO_THE_END = 2**62


@aten(
    "view.default",
    "_unsafe_view.default",
    "reshape.default",
    "squeeze.default",
    "squeeze.dim",
    "squeeze.dims",
    "unsqueeze.default",
    "flatten.using_ints",
    "unflatten.int",
    "_reshape_alias.default",
    "view_copy.default",
    "squeeze_copy.dims",
    "unsqueeze_copy.default",
    "reshape_copy.default",
)
def view(c: Context, x: Value, *_: Any) -> Value:
    """The same elements under the dims that torch traced."""
    return c.reshape(x, c.shape())


@aten(
    "alias.default",
    "detach.default",
    "lift_fresh_copy.default",
    "lift_fresh.default",
    "dropout.default",
    "alias_copy.default",
    "contiguous.default",
    "positive.default",
    "_conj.default",
    "resolve_conj.default",
    "resolve_neg.default",
    "_conj_physical.default",
    "conj_physical.default",
    "view_as.default",
    "requires_grad_.default",
)
def same(c: Context, x: Value, *args: Any) -> Value:
    """x itself: SSA values have no aliases to break."""
    if "dropout" in c.name and len(args) > 1 and args[1] and args[0]:
        return dropped(c, x, args[0])[0]
    if "conj" in c.name and c.name != "resolve_conj" and type_of(x).element.is_complex:
        return _conjugate(c, x)
    return x


def _conjugate(c: Context, x: Value) -> Value:
    parts = c.emit("view_as_real", x)
    signs = c.emit("constant", value=(1.0, -1.0), dtype=type_of(parts).element, shape=(2,))
    return c.emit("view_as_complex", c.emit("mul", parts, signs))


@aten("native_dropout.default")
def native_dropout(c: Context, x: Value, p: float, train: bool | None) -> tuple[Value, Value]:
    """Zero each element with probability p and scale the others by 1 / (1 - p); also which were kept."""
    if not train:
        return x, c.full(True, type_of(x).dims, DType.BOOL)
    return dropped(c, x, p)


def dropped(c: Context, x: Value, p: float) -> tuple[Value, Value]:
    """x after dropout in training, and the mask of what was kept."""
    type = type_of(x)
    noise = c.emit("random_uniform", shape=type.dims, dtype=type.element)
    keep = c.emit("gt", noise, c.scalar(float(p), noise))
    kept = c.emit("mul", keep, x)
    scale = 0.0 if p == 1 else 1.0 / (1.0 - p)
    return c.emit("mul", kept, c.scalar(scale, kept)), keep


@aten("clone.default")
def clone(c: Context, x: Value, *, memory_format: Any = None) -> Value:
    """A copy in storage of its own."""
    return c.emit("copy", x)


@aten("copy.default")
def copy(c: Context, x: Value, source: Value, non_blocking: bool = False) -> Value:
    """The source, broadcast and converted to what x is."""
    return c.expand(c.cast(source, type_of(x).element), type_of(x).dims)


@aten("permute.default", "permute_copy.default")
def permute(c: Context, x: Value, dims: list[int]) -> Value:
    """Dims in another order."""
    return c.emit("transpose", x, perm=tuple(d % type_of(x).rank for d in dims))


@aten("transpose.int", "swapaxes.default", "t.default", "numpy_T.default", "mT.default")
def transpose(c: Context, x: Value, a: int = 0, b: int = 1) -> Value:
    """Two dims swapped."""
    rank = type_of(x).rank
    if rank < 2:
        return x
    if "mT" in c.name:
        a, b = -2, -1
    perm = list(range(rank))
    perm[a], perm[b] = perm[b], perm[a]
    return c.emit("transpose", x, perm=tuple(d % rank for d in perm))


@aten("movedim.int")
def movedim(c: Context, x: Value, source: int, target: int) -> Value:
    """One dim moved to another place."""
    rank = type_of(x).rank
    perm = [d for d in range(rank) if d != source % rank]
    perm.insert(target % rank, source % rank)
    return c.emit("transpose", x, perm=tuple(perm))


@aten("expand.default", "expand_copy.default", "broadcast_to.default", "expand_as.default")
def expand(c: Context, x: Value, *_: Any, implicit: bool = False) -> Value:
    """x broadcast to the traced shape."""
    return c.expand(x, c.shape())


@aten("slice.Tensor", "slice_copy.Tensor")
def slice_(c: Context, x: Value, dim: int = 0, start: Any = None, end: Any = None, step: DimLike = 1) -> Value:
    """start:end:step along a dim."""
    low, high = _bounds(c, start, end)
    if high is None and low == 0 and step == 1:
        return x
    return c.emit("slice", x, dim=dim, start=low, end=high, step=step)


def _bounds(c: Context, start: Any, end: Any) -> tuple[DimLike, DimLike | None]:
    low = 0 if start is None else c.as_dim(start)
    high = None if end is None or (isinstance(end, int) and end >= _TO_THE_END) else c.as_dim(end)
    return low, high


@aten("narrow.default", "narrow_copy.default")
def narrow(c: Context, x: Value, dim: int, start: Any, length: DimLike) -> Value:
    """``length`` elements from ``start``."""
    low = c.as_dim(start)
    return c.emit("slice", x, dim=dim, start=low, end=low + length)


@aten("select.int", "select_copy.int")
def select(c: Context, x: Value, dim: int, index: Any) -> Value:
    """One index of a dim, which goes."""
    type = type_of(x)
    at = c.as_dim(index)
    end = None if isinstance(at, int) and at == -1 else at + 1
    one = c.emit("slice", x, dim=dim, start=at, end=end)
    return c.reshape(one, (*type.dims[: dim % type.rank], *type.dims[dim % type.rank + 1 :]))


@aten(
    "split_with_sizes.default",
    "split.Tensor",
    "chunk.default",
    "split_with_sizes_copy.default",
    "split.sizes",
    "unsafe_split.Tensor",
    "unsafe_chunk.default",
    "unsafe_split_with_sizes.default",
    "tensor_split.sections",
)
def split(c: Context, x: Value, _: Any, dim: int = 0) -> tuple[Value, ...]:
    """Parts of the sizes that torch traced."""
    parts = tuple(c.shape(i)[dim] for i in range(len(c.val)))
    return c.emit_all("split", x, dim=dim, parts=parts)


@aten("unbind.int", "unbind_copy.int")
def unbind(c: Context, x: Value, dim: int = 0) -> tuple[Value, ...]:
    """Each index of a dim."""
    parts = c.emit_all("split", x, dim=dim, parts=(1,) * len(c.val))
    return tuple(c.reshape(p, c.shape(i)) for i, p in enumerate(parts))


@aten("cat.default", "concat.default")
def cat(c: Context, tensors: list[Value], dim: int = 0) -> Value:
    """Tensors joined along a dim, in the common dtype; torch lets empty vectors of shape [0] take part."""
    parts = [c.cast(t, c.dtype) for t in tensors if type_of(t).dims != (0,) or len(c.shape()) == 1]
    return parts[0] if len(parts) == 1 else c.emit("concat", *parts, dim=dim)


@aten("stack.default")
def stack(c: Context, tensors: list[Value], dim: int = 0) -> Value:
    """Tensors joined along a new dim."""
    rank = type_of(tensors[0]).rank + 1
    rows: list[Value] = []
    for t in tensors:
        dims = type_of(t).dims
        rows.append(c.reshape(c.cast(t, c.dtype), (*dims[: dim % rank], 1, *dims[dim % rank :])))
    return c.emit("concat", *rows, dim=dim % rank)


@aten("repeat.default", "tile.default")
def repeat(c: Context, x: Value, repeats: list[DimLike]) -> Value:
    """x repeated along each dim."""
    repeats = [1] * (type_of(x).rank - len(repeats)) + list(repeats)
    return c.emit("tile", x, repeats=tuple(repeats))


@aten("flip.default")
def flip(c: Context, x: Value, dims: list[int]) -> Value:
    """The order reversed along dims."""
    return c.emit("flip", x, dims=tuple(dims)) if dims else x


@aten("roll.default")
def roll(c: Context, x: Value, shifts: list[int], dims: list[int] | None = None) -> Value:
    """Elements shifted along dims; what leaves at the end comes back at the start."""
    type = type_of(x)
    if not dims:
        flat = _rolled(c, c.reshape(x, (type.elements(),)), shifts[0], 0)
        return c.reshape(flat, type.dims)
    for shift, dim in zip(shifts, dims, strict=True):
        x = _rolled(c, x, shift, dim)
    return x


def _rolled(c: Context, x: Value, shift: DimLike, dim: int) -> Value:
    size = type_of(x).dims[dim]
    at = size - (shift % size if isinstance(shift, int) and isinstance(size, int) and size else shift)
    if at in (0, size):
        return x
    parts = [c.emit("slice", x, dim=dim, start=at), c.emit("slice", x, dim=dim, end=at)]
    return c.emit("concat", *parts, dim=dim)


@aten("constant_pad_nd.default")
def constant_pad(c: Context, x: Value, pads: list[DimLike], value: Any = 0) -> Value:
    """Dims grown at both sides, the last dim first in ``pads``."""
    return c.emit("pad", x, pads=_pads(type_of(x), pads), value=value)


@aten("pad.default")
def pad(c: Context, x: Value, pads: list[DimLike], mode: str = "constant", value: Any = None) -> Value:
    """F.pad whole."""
    kind = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode]
    return c.emit("pad", x, pads=_pads(type_of(x), pads), mode=kind, value=0 if value is None else value)


@aten(
    "reflection_pad1d.default",
    "reflection_pad2d.default",
    "reflection_pad3d.default",
    "replication_pad1d.default",
    "replication_pad2d.default",
    "replication_pad3d.default",
)
def mirror_pad(c: Context, x: Value, pads: list[DimLike]) -> Value:
    """Dims grown by reflection, or by repeating the edge."""
    mode = "reflect" if "reflection" in c.name else "edge"
    return c.emit("pad", x, pads=_pads(type_of(x), pads), mode=mode)


def _pads(x: TensorType, pads: list[DimLike]) -> tuple[DimLike, ...]:
    """torch's (before, after) pairs from the last dim on, as pairs of every dim in order."""
    pairs = [(pads[i], pads[i + 1]) for i in range(0, len(pads), 2)]
    pairs = [(0, 0)] * (x.rank - len(pairs)) + pairs[::-1]
    return tuple(p for pair in pairs for p in pair)


@aten("tril.default", "triu.default")
def triangle(c: Context, x: Value, diagonal: DimLike = 0) -> Value:
    """The lower or upper triangle."""
    return c.emit("tril" if "tril" in c.name else "triu", x, diagonal=diagonal)


@aten("diagonal.default", "diagonal_copy.default")
def diagonal(c: Context, x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    """The elements whose indices along two dims differ by offset, as a new last dim."""
    type = type_of(x)
    a, b = dim1 % type.rank, dim2 % type.rank
    rest = [d for d in range(type.rank) if d not in (a, b)]
    x = c.emit("transpose", x, perm=(*rest, a, b))
    count = c.shape()[-1]
    first, second = max(-offset, 0), max(offset, 0)
    rows, columns = (c.emit("iota", start=s, end=s + count) for s in (first, second))
    return c.emit("index", x, rows, columns, dims=(len(rest), len(rest) + 1))


@aten("select_scatter.default")
def select_scatter(c: Context, x: Value, source: Value, dim: int, index: Any) -> Value:
    """x with one index of a dim replaced."""
    dims = type_of(x).dims
    at = dim % len(dims)
    start = c.as_dim(index)
    if isinstance(start, int) and start < 0:
        start = start + dims[at]
    row = c.reshape(source, (*dims[:at], 1, *dims[at + 1 :]))
    return _between(c, x, row, at, start, start + 1)


@aten("slice_scatter.default")
def slice_scatter(
    c: Context, x: Value, source: Value, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Value:
    """x with start:end:step of a dim replaced."""
    size = type_of(x).dims[dim]
    low, high = _bounds(c, start, end)
    if isinstance(low, int) and low < 0:
        low = low + size
    if isinstance(high, int) and high < 0:
        high = high + size
    if isinstance(high, int) and isinstance(size, int):
        high = min(high, size)
    source = c.cast(source, type_of(x).element)
    if step != 1:
        return _strided(c, x, source, dim % type_of(x).rank, low, step)
    return _between(c, x, source, dim % type_of(x).rank, low, low + type_of(source).dims[dim])


def _between(c: Context, x: Value, middle: Value, dim: int, low: DimLike, high: DimLike) -> Value:
    """x before ``low``, then the middle, then x from ``high`` on."""
    size = type_of(x).dims[dim]
    parts = [middle]
    if low != 0:
        parts.insert(0, c.emit("slice", x, dim=dim, end=low))
    if high != size:
        parts.append(c.emit("slice", x, dim=dim, start=high))
    return parts[0] if len(parts) == 1 else c.emit("concat", *parts, dim=dim)


def _strided(c: Context, x: Value, source: Value, dim: int, low: DimLike, step: int) -> Value:
    count = type_of(source).dims[dim]
    at = c.emit("iota", start=low, end=low + count * step, step=step)
    return c.emit("index_put", x, source, at, dims=(dim,)) if dim == 0 else _put_at(c, x, source, at, dim)


def _put_at(c: Context, x: Value, source: Value, at: Value, dim: int) -> Value:
    shape = [1] * type_of(x).rank
    shape[dim] = type_of(at).dims[0]  # type: ignore[assignment]
    indices = c.expand(c.reshape(at, tuple(shape)), type_of(source).dims)
    return c.emit("scatter_elements", x, indices, source, dim=dim)


@aten("view_as_real.default", "view_as_complex.default", "view_as_real_copy.default", "view_as_complex_copy.default")
def view_as(c: Context, x: Value) -> Value:
    """Complex numbers as pairs, or pairs as complex numbers."""
    return c.emit("view_as_complex" if "as_complex" in c.name else "view_as_real", x)


@aten("real.default", "imag.default")
def part(c: Context, x: Value) -> Value:
    """The real or imaginary part."""
    if not type_of(x).element.is_complex:
        return x
    at = 0 if "real" in c.name else 1
    one = c.emit("slice", c.emit("view_as_real", x), dim=-1, start=at, end=at + 1)
    return c.reshape(one, type_of(x).dims)


@aten("complex.default", "polar.default")
def complex_(c: Context, a: Value, b: Value) -> Value:
    """Complex numbers from parts, or from magnitude and angle."""
    if "polar" in c.name:
        a, b = c.emit("mul", a, c.emit("cos", b)), c.emit("mul", a, c.emit("sin", b))
    dims = c.shape()
    parts = [c.reshape(c.expand(v, dims), (*dims, 1)) for v in (a, b)]
    return c.emit("view_as_complex", c.emit("concat", *parts, dim=-1))
