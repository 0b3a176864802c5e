"""Matrix products."""

from __future__ import annotations

from maiac.ir import DType, Result, Value, Weight

from ..contents import transposed_weight
from ..context import NodeContext, tensor_type
from ..registry import onnx_op
from .wide import WIDE, narrowed, widened


@onnx_op("MatMul")
def matmul(c: NodeContext) -> Value:
    """The matrix product, leading dims broadcast."""
    if c.dtype(0) in WIDE:
        return narrowed(c, c.emit("matmul", widened(c, c[0]), widened(c, c[1])), c.dtype(0))
    weight = projection_weight(c, 1)
    if weight is not None and c.rank(0):
        return c.emit("linear", c[0], weight)
    return c.emit("matmul", c[0], c[1])


def projection_weight(c: NodeContext, index: int) -> Value | None:
    """A float matrix of the model as [out, in], the form that quantization and partitioning know: a view, no copy."""
    slot = c.slot(index)
    if slot.value is None and slot.tensor is not None and len(slot.tensor.shape) == 2 and c.dtype(index).is_float:
        return transposed_weight(c.module, slot)
    if isinstance(slot.value, Result) and slot.value.op.name == "transpose":
        source = slot.value.op.operand(0)
        turned = slot.value.op.attrs["perm"] == (1, 0)
        return source if turned and isinstance(source, Weight) and tensor_type(source).element.is_float else None
    return None


@onnx_op("Gemm")
def gemm(c: NodeContext) -> Value:
    """alpha * a b + beta * c; the common form is a linear with a transposed weight."""
    alpha, beta = float(c.attr("alpha", 1.0)), float(c.attr("beta", 1.0))
    a = c.emit("transpose", c[0], perm=(1, 0)) if c.attr("transA", 0) else c[0]
    bias = c.type(2) if c.has(2) else None
    wide = c.dtype(0) in WIDE
    out = c.shape(1, 2)[0 if c.attr("transB", 0) else 1]
    if alpha == beta == 1.0 and not wide and (bias is None or (bias.rank == 1 and bias.dims[0] == out)):
        w = c[1] if c.attr("transB", 0) else projection_weight(c, 1) or c.emit("transpose", c[1], perm=(1, 0))
        return c.emit("linear", a, w, c.opt(2))
    b = c.emit("transpose", c[1], perm=(1, 0)) if c.attr("transB", 0) else c[1]
    if wide:
        a, b = widened(c, a), widened(c, b)
    y = c.emit("matmul", a, b)
    y = _scaled(c, y, alpha)
    if bias is not None:
        y = c.emit("add", y, _scaled(c, widened(c, c[2]) if wide else c[2], beta))
    return narrowed(c, y, c.dtype(0)) if wide else y


def _scaled(c: NodeContext, x: Value, by: float) -> Value:
    if by == 1.0:
        return x
    dtype = tensor_type(x).element
    if dtype.is_float:
        return c.emit("mul", x, c.const(by, dtype))
    return c.cast(c.emit("mul", c.cast(x, DType.F64), c.const(by, DType.F64)), dtype)


@onnx_op("Einsum")
def einsum(c: NodeContext) -> Value:
    """Einstein summation; an ellipsis is spelled out, and the implicit output is written."""
    ranks = [c.rank(i) for i in range(len(c.inputs))]
    return c.emit("einsum", *c.values(), equation=explicit_equation(str(c.attr("equation")), ranks))


def explicit_equation(equation: str, ranks: list[int]) -> str:
    """The equation with ``->`` and without ``...``."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    letters = [x for x in left if x.isalpha()]
    free = [chr(i) for i in (*range(97, 123), *range(65, 91)) if chr(i) not in letters]
    widths = [r - len(t.replace("...", "")) for t, r in zip(terms, ranks, strict=True) if "..." in t]
    group = "".join(free[: max(widths, default=0)])
    if not arrow:
        right = ("..." if widths else "") + "".join(sorted(x for x in set(letters) if letters.count(x) == 1))
    spelled = [
        t.replace("...", group[len(group) - (r - len(t.replace("...", ""))) :] if "..." in t else "")
        for t, r in zip(terms, ranks, strict=True)
    ]
    return ",".join(spelled) + "->" + right.replace("...", group)


@onnx_op("Det")
def det(c: NodeContext) -> Value:
    """The determinant of the last two dims."""
    return c.emit("det", c[0])
