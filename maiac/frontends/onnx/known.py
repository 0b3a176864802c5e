"""Shape arithmetic done while importing: what is known of small integer tensors, as dims.

A known value is a NumPy array of objects, each an int or a Dim. Models compute shapes with Shape, Gather, Concat and
friends; folding these here turns Reshape, Expand, Slice... into operations with static attributes.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from maiac.ir import Dim, DimLike, DType
from maiac.ir.dims import bounds, floordiv, maximum, minimum, mod, product

if TYPE_CHECKING:
    from .context import NodeContext

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
LIMIT = 1024  # elements; larger integer tensors are data, not shapes
INTEGERS = frozenset({DType.I64, DType.I32, DType.I16, DType.I8, DType.U8, DType.U16, DType.U32, DType.BOOL})


@dataclass(frozen=True, slots=True)
class Known:
    """A handler's result whose elements are known while importing."""

    array: Array
    dtype: DType = DType.I64


def known_array(values: Any, shape: Sequence[int] | None = None) -> Array:
    """Dims (nested or flat) as an array of objects."""
    flat = np.empty(len(values), object) if isinstance(values, (list, tuple)) else np.asarray(values, object)
    if isinstance(values, (list, tuple)):
        flat[:] = list(values)
    return flat if shape is None else flat.reshape(shape)


def scalar(value: DimLike) -> Array:
    """One dim as an array of rank 0."""
    out = np.empty((), object)
    out[()] = value
    return out


def from_numpy(array: Any) -> Array | None:
    """The elements of a constant integer tensor; None where it is too large or not integer."""
    if array.size > LIMIT or array.dtype.kind not in "iub":
        return None
    out = np.empty(array.shape, object)
    out[...] = array.astype(object)
    return out


def is_static(array: Array) -> bool:
    """Whether every element is a number."""
    return not any(isinstance(v, Dim) for v in array.flat)


def _each(fn: Callable[..., DimLike], *arrays: Array) -> Array:
    """fn on elements, broadcast as NumPy does."""
    spread = np.broadcast_arrays(*arrays, subok=False)
    out = np.empty(spread[0].shape, object)
    for at in np.ndindex(out.shape):
        out[at] = fn(*(a[at] for a in spread))
    return out


class _NotFoldableError(Exception):
    """The elements do not say enough; the operation is left to the run."""


def _not_negative(c: NodeContext, *dims: DimLike) -> None:
    if any(bounds(d, c.module.symbols)[0] < 0 for d in dims):
        raise _NotFoldableError


def _div(c: NodeContext, a: DimLike, b: DimLike) -> DimLike:
    if isinstance(a, int) and isinstance(b, int):
        if not b:
            raise _NotFoldableError
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    _not_negative(c, a, b)
    return floordiv(a, b)


def _mod(c: NodeContext, a: DimLike, b: DimLike) -> DimLike:
    if b == 0 or c.attr("fmod", 0):
        raise _NotFoldableError
    return mod(a, b)


def _compare(fn: Callable[[int, int], bool]) -> Callable[[NodeContext, DimLike, DimLike], DimLike]:
    def compare(c: NodeContext, a: DimLike, b: DimLike) -> DimLike:
        gap = a - b
        if not isinstance(gap, int):
            low, high = bounds(gap, c.module.symbols)
            if low > 0 or high < 0:
                return int(fn(1 if low > 0 else -1, 0))
            raise _NotFoldableError
        return int(fn(gap, 0))

    return compare


def _select(c: NodeContext, test: DimLike, a: DimLike, b: DimLike) -> DimLike:
    if isinstance(test, Dim):
        raise _NotFoldableError
    return a if test else b


def _plain(fn: Callable[..., DimLike]) -> Callable[..., DimLike]:
    """A function of dims that does not look at the node."""

    def apply(c: NodeContext, *dims: DimLike) -> DimLike:
        return fn(*dims)

    return apply


def _least(*dims: DimLike) -> DimLike:
    return functools.reduce(minimum, dims)


def _greatest(*dims: DimLike) -> DimLike:
    return functools.reduce(maximum, dims)


def _negative(dim: DimLike) -> DimLike:
    return -dim


def _same(dim: DimLike) -> DimLike:
    return dim


_ELEMENTWISE: dict[str, Callable[..., DimLike]] = {
    "Add": _plain(operator.add),
    "Sub": _plain(operator.sub),
    "Mul": _plain(operator.mul),
    "Div": _div,
    "Mod": _mod,
    "Neg": _plain(_negative),
    "Min": _plain(_least),
    "Max": _plain(_greatest),
    "Equal": _compare(operator.eq),
    "Less": _compare(operator.lt),
    "LessOrEqual": _compare(operator.le),
    "Greater": _compare(operator.gt),
    "GreaterOrEqual": _compare(operator.ge),
    "Where": _select,
    "Identity": _plain(_same),
}
_BOOLEAN = frozenset({"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"})


def _axes(c: NodeContext, given: Sequence[Array | None], at: int) -> list[int] | None:
    if len(given) > at and given[at] is not None:
        return [int(v) for v in given[at].flat]  # type: ignore[union-attr]
    return c.ints("axes")


def _gather(c: NodeContext, x: Array, indices: Array) -> Array:
    if not is_static(indices):
        raise _NotFoldableError
    taken: Any = np.take(x, indices.astype(np.int64), axis=c.attr("axis", 0))
    return taken if isinstance(taken, np.ndarray) else scalar(taken)  # NumPy hands out the element itself at rank 0


def _concat(c: NodeContext, *xs: Array) -> Array:
    return np.concatenate(xs, axis=c.attr("axis", 0))


def _slice(c: NodeContext, x: Array, *given: Array | None) -> Array:
    if any(g is not None and not is_static(g) for g in given):
        raise _NotFoldableError
    starts, ends = ([int(v) for v in g.flat] for g in given[:2])  # type: ignore[union-attr]
    axes = _axes(c, given, 2) or list(range(len(starts)))
    steps = [int(v) for v in given[3].flat] if len(given) > 3 and given[3] is not None else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        last = None if step < 0 and end < -x.shape[axis] else end
        x = x[(slice(None),) * (axis % x.ndim) + (slice(start, last, step),)]
    return x


def _unsqueeze(c: NodeContext, x: Array, axes: Array | None = None) -> Array:
    return np.expand_dims(x, tuple(_axes(c, [axes], 0) or ()))


def _squeeze(c: NodeContext, x: Array, axes: Array | None = None) -> Array:
    found = _axes(c, [axes], 0)
    return np.squeeze(x, None if found is None else tuple(found))


def _reshape(c: NodeContext, x: Array, shape: Array) -> Array:
    if not is_static(shape) or (c.attr("allowzero", 0) and not all(shape.flat)):
        raise _NotFoldableError
    return x.reshape([x.shape[i] if d == 0 else int(d) for i, d in enumerate(shape.flat)])


def _cast(c: NodeContext, x: Array) -> Array:
    to = c.cast_target()
    if to not in INTEGERS:
        raise _NotFoldableError
    if to is DType.BOOL:
        return _each(_truth, x)
    if to not in (DType.I64, DType.I32) and not is_static(x):
        raise _NotFoldableError
    if not is_static(x):
        return x
    cast = x.astype(np.int64).astype(str(to).replace("i", "int").replace("u", "uint"))
    made = from_numpy(cast)
    return made if made is not None else _fail()


def _truth(value: DimLike) -> int:
    return int(value != 0) if isinstance(value, int) else _fail()


def _fail() -> Any:
    raise _NotFoldableError


def _constant_of_shape(c: NodeContext, shape: Array) -> Array:
    fill = c.tensor_attr("value")
    if not is_static(shape) or fill is None or fill.dtype.kind not in "iub":
        raise _NotFoldableError
    return np.full(_small(int(v) for v in shape.flat), int(fill.reshape(-1)[0]), object)


def _small(shape: Iterable[int]) -> tuple[int, ...]:
    """A shape of few elements: more of them are not worth knowing, and may not fit into memory."""
    dims = tuple(shape)
    if any(d < 0 for d in dims) or math.prod(dims) > LIMIT:
        raise _NotFoldableError
    return dims


def _expand(c: NodeContext, x: Array, shape: Array) -> Array:
    if not is_static(shape):
        raise _NotFoldableError
    return np.broadcast_to(x, _small(np.broadcast_shapes(x.shape, tuple(int(v) for v in shape.flat)))).copy()


def _range(c: NodeContext, start: Array, limit: Array, delta: Array) -> Array:
    if not all(is_static(a) for a in (start, limit, delta)):
        raise _NotFoldableError
    if not delta.item():
        c.fail("its step is 0", "MAIA0223")
    made = range(int(start.item()), int(limit.item()), int(delta.item()))
    return known_array(list(made) if len(made) <= LIMIT else _fail())


def _reduce_prod(c: NodeContext, x: Array, axes: Array | None = None) -> Array:
    if x.ndim != 1:
        raise _NotFoldableError
    total = scalar(product(list(x)))
    return total.reshape(1) if c.attr("keepdims", 1) else total


def _tile(c: NodeContext, x: Array, repeats: Array) -> Array:
    if not is_static(repeats):
        raise _NotFoldableError
    _small((x.size, *(int(r) for r in repeats.flat)))
    return np.tile(x, [int(r) for r in repeats.flat])


_STRUCTURAL: dict[str, Callable[..., Array]] = {
    "Gather": _gather,
    "Concat": _concat,
    "Slice": _slice,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "Cast": _cast,
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Range": _range,
    "ReduceProd": _reduce_prod,
    "Tile": _tile,
}


def fold(c: NodeContext) -> Known | None:
    """The result of a node whose integer operands are all known; None where it must run."""
    name = c.op
    if name not in _ELEMENTWISE and name not in _STRUCTURAL:
        return None
    given = [c.known(i) if c.has(i) else None for i in range(len(c.inputs))]
    if all(k is None for k in given) or any(k is None and c.has(i) for i, k in enumerate(given)):
        return None
    dtype = _result_dtype(c)
    if dtype not in INTEGERS:
        return None
    try:
        if name in _ELEMENTWISE:
            fn = _ELEMENTWISE[name]
            made = _each(lambda *v: fn(c, *v), *(k for k in given if k is not None))
        else:
            made = _STRUCTURAL[name](c, *given)
    except (_NotFoldableError, IndexError, ValueError):  # axes or places that are not there: the handler tells of them
        return None
    return _wrapped(Known(made, dtype)) if made.size <= LIMIT else None


def _wrapped(known: Known) -> Known | None:
    """Known numbers only where they fit the dtype: overflow wraps at run time and is left to it."""
    if known.dtype is DType.BOOL:
        return known
    low, high = (
        (0, 2**known.dtype.bits)
        if known.dtype.family == "uint"
        else (-(2 ** (known.dtype.bits - 1)), 2 ** (known.dtype.bits - 1))
    )
    return known if all(isinstance(v, Dim) or low <= v < high for v in known.array.flat) else None


def _result_dtype(c: NodeContext) -> DType:
    if c.op in _BOOLEAN:
        return DType.BOOL
    if c.op == "Cast":
        return c.cast_target()
    if c.op == "ConstantOfShape":
        return DType.I64
    return c.dtype(1 if c.op == "Where" else 0)
