"""Operators that move elements: shapes, joins, cuts, pads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from maiac.ir import Dim, DimLike, DType, Value
from maiac.ir.dims import bounds, floordiv, product

from ..context import NodeContext, Slot, tensor_type
from ..known import Known, known_array, scalar
from ..registry import onnx_op
from ..types import dtype_of, element_type, to_tensor

MOST_DIMS = 64  # as in torch


@onnx_op("Constant")
def constant(c: NodeContext) -> Any:
    """A tensor written in the model; small integer ones are known while importing."""
    if c.attrs.get("value") is not None:
        tensor = c.attr("value")
        if not tensor.name:
            tensor.name = c.node.outputs[0].name
        return Slot(dtype=element_type(tensor), tensor=tensor)
    for name, dtype in (
        ("value_int", np.int64),
        ("value_ints", np.int64),
        ("value_float", np.float32),
        ("value_floats", np.float32),
    ):
        if c.attrs.get(name) is not None:
            return _held(c, np.asarray(c.attr(name), dtype))
    for name in ("value_string", "value_strings"):
        if c.attrs.get(name) is not None:
            return _held(c, np.asarray(c.attr(name), object))
    c.fail("it has none of the attributes value, value_int, value_float, value_string and their lists")


def _held(c: NodeContext, array: Any) -> Slot:
    import onnx_ir

    name = c.node.outputs[0].name
    if array.dtype == object:
        texts = [s.encode() if isinstance(s, str) else s for s in array.reshape(-1)]
        return Slot(dtype=DType.STR, tensor=onnx_ir.StringTensor(texts, shape=onnx_ir.Shape(array.shape), name=name))
    tensor = onnx_ir.Tensor(array, name=name)
    return Slot(dtype=dtype_of(tensor.dtype), tensor=tensor)


@onnx_op("Shape")
def shape(c: NodeContext) -> Known:
    """The dims between start and end."""
    dims = c.shape(0)[slice(c.attr("start", 0), c.attr("end", None))]
    return Known(known_array(list(dims)))


@onnx_op("Size")
def size(c: NodeContext) -> Known:
    """The number of elements."""
    return Known(scalar(product(c.shape(0))))


@onnx_op("Reshape")
def reshape(c: NodeContext) -> Value:
    """Other dims: 0 keeps one (unless allowzero), -1 is what is left."""
    known = c.ints("shape") if c.opset < 5 else c.known(1)
    if known is not None:
        return c.reshape(c[0], wanted_shape(c, c.shape(0), list(np.asarray(known, object).flat)))
    rank = _length(c, 1)
    rank = c.hinted_rank() if rank is None else rank
    if rank is None:
        c.fail("the number of dims of the result is not known")
    return c.emit("reshape_to", c[0], c[1], rank=rank, allow_zero=bool(c.attr("allowzero", 0)))


def _length(c: NodeContext, index: int) -> int | None:
    """How many elements a shape has that the run tells; None where that is not known."""
    count = c.shape(index, 1)[0]
    if isinstance(count, int) and count > MOST_DIMS:
        c.fail(f"a result of {count} dims is not supported")
    return count if isinstance(count, int) else None


def wanted_shape(c: NodeContext, have: Sequence[DimLike], want: Sequence[DimLike]) -> list[DimLike]:
    """The target of a Reshape with its 0 and -1 replaced."""
    out: list[DimLike] = []
    for i, d in enumerate(want):
        keep = d == 0 and not c.attr("allowzero", 0)
        if keep and i >= len(have):
            c.fail(f"shape {[str(w) for w in want]} keeps dim {i}, which {list(map(str, have))} does not have")
        out.append(have[i] if keep else d)
    if -1 in out:
        at = out.index(-1)
        rest = product([d for i, d in enumerate(out) if i != at])
        out[at] = 0 if rest == 0 else floordiv(product(have), rest)
    return out


@onnx_op("Flatten")
def flatten(c: NodeContext) -> Value:
    """Two dims: the product of those before axis, and of the others."""
    dims, axis = c.shape(0), int(c.attr("axis", 1))
    axis = axis + len(dims) if axis < 0 else axis
    return c.reshape(c[0], (product(dims[:axis]), product(dims[axis:])))


@onnx_op("Squeeze")
def squeeze(c: NodeContext) -> Value:
    """Drop dims of size 1: those named, or all."""
    dims, axes = c.shape(0), c.axes()
    if axes is None and c.has(1):
        c.fail("the number of axes is not known")
    if axes is not None and any(isinstance(a, Dim) for a in axes):
        return c.emit("squeeze_at", c[0], c[1])
    gone = [i for i, d in enumerate(dims) if d == 1] if axes is None else [int(a) % len(dims) for a in axes]  # type: ignore[arg-type]
    return c.reshape(c[0], [d for i, d in enumerate(dims) if i not in gone])


@onnx_op("Unsqueeze")
def unsqueeze(c: NodeContext) -> Value:
    """Add dims of size 1 at axes of the result."""
    axes = c.axes()
    if axes is None:
        c.fail("the number of axes is not known")
    if any(isinstance(a, Dim) for a in axes):
        return c.emit("unsqueeze_at", c[0], c[1])
    rank = c.rank(0) + len(axes)
    dims = list(c.shape(0))
    for at in sorted(int(a) % rank for a in axes):  # type: ignore[arg-type]
        dims.insert(at, 1)
    return c.reshape(c[0], dims)


@onnx_op("Transpose")
def transpose(c: NodeContext) -> Value:
    """Reorder dims; without perm they are reversed."""
    perm = c.ints("perm")
    return c.transpose(c[0], list(range(c.rank(0)))[::-1] if perm is None else perm)


@onnx_op("Expand")
def expand(c: NodeContext) -> Value:
    """Broadcast x and a shape with each other."""
    known = c.known(1)
    if known is not None and not any(_open(c, h, w) for h, w in zip(c.shape(0)[::-1], known[::-1], strict=False)):
        return _expanded(c, c[0], list(known))
    rank = _length(c, 1)
    if rank is None:
        c.fail("the number of dims of the shape is not known")
    return c.emit("expand_to", c[0], c[1], rank=max(rank, c.rank(0)))


def _open(c: NodeContext, have: DimLike, want: DimLike) -> bool:
    """Whether it is not known which of two dims is the broadcast one."""
    if have == want or have == 1 or want == 1:
        return False
    return isinstance(want, Dim) and isinstance(have, Dim) and bounds(want, c.module.symbols)[0] < 1


def _expanded(c: NodeContext, x: Value, want: list[DimLike]) -> Value:
    have = tensor_type(x).dims
    rank = max(len(have), len(want))
    padded = [1] * (rank - len(have)) + list(have)
    target = [1] * (rank - len(want)) + want
    dims = [h if w == 1 or (isinstance(h, int) and h != 1) else w for h, w in zip(padded, target, strict=True)]
    return x if list(have) == dims else c.emit("expand", x, shape=tuple(dims))


@onnx_op("Tile")
def tile(c: NodeContext) -> Value:
    """Repeat along each dim."""
    if c.opset < 6:
        return NotImplemented
    repeats = c.dims(1)
    if repeats is None:
        c.fail("the number of repeats is not known")
    return c.emit("tile", c[0], repeats=repeats)


@onnx_op("Concat")
def concat(c: NodeContext) -> Value:
    """Join along an axis."""
    if len(c.inputs) == 1:
        return c[0]
    if c.dtype(0) is DType.STR:
        return c.emit("string_join", *c.values(), dim=int(c.attr("axis", 1)))
    return c.emit("concat", *c.values(), dim=int(c.attr("axis", 1)))


@onnx_op("Split")
def split(c: NodeContext) -> list[Value]:
    """Cut along an axis into given or equal parts; with num_outputs the last may be smaller."""
    axis = int(c.attr("axis", 0))
    count = c.outputs
    parts = c.ints("split") or (c.dims(1) if c.has(1) else None)
    if parts is None:
        size = c.shape(0)[axis]
        count = int(c.attr("num_outputs", count))
        each = floordiv(size + (count - 1), count)
        parts = [each] * (count - 1) + [size - each * (count - 1)]
    return list(c.emit_op("split", c[0], dim=axis, parts=tuple(parts)).results)


@onnx_op("Slice")
def slice_(c: NodeContext) -> Value:
    """Cut along axes; bounds may be negative, and are clamped."""
    if c.opset < 10:
        starts, ends = c.ints("starts") or [], c.ints("ends") or []
        return _sliced(c, starts, ends, c.ints("axes"), None)
    starts, ends = c.known(1), c.known(2)
    axes, steps = (c.static(i) for i in (3, 4))
    unclear = (c.has(3) and axes is None) or (c.has(4) and steps is None)
    if starts is None or ends is None or unclear or not _signs_known(c, [*starts.flat, *ends.flat]):
        return c.emit("slice_to", c[0], c[1], c[2], c.opt(3), c.opt(4))
    return _sliced(c, list(starts.flat), list(ends.flat), axes, steps)


def _signs_known(c: NodeContext, dims: list[DimLike]) -> bool:
    return all(isinstance(d, int) or bounds(d, c.module.symbols)[0] >= 0 for d in dims)


def _sliced(
    c: NodeContext,
    starts: Sequence[DimLike],
    ends: Sequence[DimLike],
    axes: Sequence[int] | None,
    steps: Sequence[int] | None,
) -> Value:
    x = c[0]
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    c.same_length(starts=starts, ends=ends, axes=axes, steps=steps)
    if not all(-c.rank(0) <= a < c.rank(0) for a in axes):
        c.fail(f"axes are {list(axes)}, but the operand has {c.rank(0)} dims", "MAIA0223")
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        dim, step = axes[i], steps[i]
        size = tensor_type(x).dims[dim]
        if step == 1 and start == 0 and (end == size or (isinstance(end, int) and end >= 2**31 - 1)):
            continue
        last: DimLike | None = end
        if isinstance(end, int) and (end >= 2**31 - 1 if step > 0 else end <= -(2**31)):
            last = None
        if step < 0 and isinstance(end, int) and isinstance(size, int) and end < -size:
            last = None
        x = c.emit("slice", x, dim=dim, start=start, end=last, step=step)
    return x


@onnx_op("Pad")
def pad(c: NodeContext) -> Value:
    """Grow or crop at both sides of each axis: all before, then all after."""
    mode = c.attr("mode", "constant")
    if c.opset < 11:
        pads: Sequence[DimLike] | None = c.ints("pads") or c.ints("paddings")
        assert pads is not None
        return _padded(c, pads, list(range(c.rank(0))), mode, float(c.attr("value", 0.0)))
    axes = c.static(3) if c.has(3) else tuple(range(c.rank(0)))
    fill = c.constant(2) if c.has(2) else np.zeros(())
    pads = c.dims(1)
    if axes is None or fill is None or pads is None:
        return c.emit("pad_to", c[0], c[1], c.opt(2), c.opt(3), mode=mode)
    return _padded(c, pads, list(axes), mode, fill.reshape(-1)[0].item() if fill.size else 0)


def _padded(c: NodeContext, pads: Sequence[DimLike], axes: list[int], mode: str, value: Any) -> Value:
    rank = c.rank(0)
    if len(pads) != 2 * len(axes):
        c.fail(f"pads has {len(pads)} numbers for {len(axes)} axes", "MAIA0223")
    spread: list[DimLike] = [0] * (2 * rank)
    for i, axis in enumerate(axes):
        spread[2 * (axis % rank)], spread[2 * (axis % rank) + 1] = pads[i], pads[i + len(axes)]
    if all(p == 0 for p in spread):
        return c[0]
    if c.dtype(0).is_float:
        value = float(value)
    return c.emit("pad", c[0], pads=tuple(spread), mode=mode, value=value)


@onnx_op("DepthToSpace")
def depth_to_space(c: NodeContext) -> Value:
    """Blocks of channels to blocks of space; DCR or CRD order."""
    n, channels, h, w = c.shape(0)
    b = int(c.attr("blocksize"))
    inner = floordiv(channels, b * b)
    if c.attr("mode", "DCR") == "DCR":
        x = c.transpose(c.reshape(c[0], (n, b, b, inner, h, w)), (0, 3, 4, 1, 5, 2))
    else:
        x = c.transpose(c.reshape(c[0], (n, inner, b, b, h, w)), (0, 1, 4, 2, 5, 3))
    return c.reshape(x, (n, inner, h * b, w * b))


@onnx_op("SpaceToDepth")
def space_to_depth(c: NodeContext) -> Value:
    """Blocks of space to blocks of channels; DCR or CRD order."""
    n, channels, h, w = c.shape(0)
    b = int(c.attr("blocksize"))
    x = c.reshape(c[0], (n, channels, floordiv(h, b), b, floordiv(w, b), b))
    perm = (0, 3, 5, 1, 2, 4) if c.attr("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    return c.reshape(c.transpose(x, perm), (n, channels * (b * b), floordiv(h, b), floordiv(w, b)))


@onnx_op("Trilu")
def trilu(c: NodeContext) -> Value:
    """The upper or lower triangle."""
    diagonal = (c.dims(1) or (0,))[0] if c.has(1) else 0
    return c.emit("triu" if c.attr("upper", 1) else "tril", c[0], diagonal=diagonal)


@onnx_op("ConstantOfShape")
def constant_of_shape(c: NodeContext) -> Value:
    """A tensor of one number."""
    fill = c.attr("value")
    dtype = DType.F32 if fill is None else element_type(fill)
    value = 0.0 if fill is None else to_tensor(fill.numpy(), dtype).reshape(-1)[0].item()
    dims = c.dims(0)
    if any(isinstance(d, int) and d < 0 for d in dims or ()):
        c.fail(f"its shape is {list(map(str, dims or ()))}", "MAIA0223")
    if dims is not None and _signs_known(c, list(dims)):
        return c.emit("full", value=value, dtype=dtype, shape=dims)
    rank = _length(c, 0)
    if rank is None:
        c.fail("the number of dims is not known")
    return c.emit("full_to", c[0], value=value, dtype=dtype, rank=rank)


@onnx_op("Range")
def range_(c: NodeContext) -> Value:
    """start, start + delta, ... before limit."""
    known = [c.known(i) for i in range(3)]
    step = known[2]
    if (
        all(k is not None for k in known)
        and step is not None
        and isinstance(step.item(), int)
        and c.dtype(0) is DType.I64
    ):
        start, end = (k.item() for k in known[:2] if k is not None)
        return c.emit("iota", start=start, end=end, step=step.item())
    return c.emit("range_to", c[0], c[1], c[2])


@onnx_op("EyeLike")
def eye_like(c: NodeContext) -> Value:
    """Ones on a diagonal."""
    rows, columns = c.shape(0, 2)
    dtype = dtype_of(c.attr("dtype")) if c.attrs.get("dtype") else c.dtype(0)
    down = c.reshape(c.emit("iota", start=c.attr("k", 0), end=rows + c.attr("k", 0)), (rows, 1))
    across = c.reshape(c.emit("iota", end=columns), (1, columns))
    return c.cast(c.emit("eq", down, across), dtype)


@onnx_op("ReverseSequence")
def reverse_sequence(c: NodeContext) -> Value:
    """The first sequence_lens[i] elements of each batch row back to front."""
    time, batch = int(c.attr("time_axis", 0)), int(c.attr("batch_axis", 1))
    dims = c.shape(0)
    along = [dims[time] if i == time else 1 for i in range(len(dims))]
    steps = c.reshape(c.emit("iota", end=dims[time]), along)
    lengths = c.reshape(c[1], [dims[batch] if i == batch else 1 for i in range(len(dims))])
    back = c.emit("sub", c.emit("sub", lengths, c.const(1, DType.I64)), steps)
    source = c.emit("where", c.emit("lt", steps, lengths), back, steps)
    return c.emit("gather_elements", c[0], c.emit("expand", source, shape=dims), dim=time)
