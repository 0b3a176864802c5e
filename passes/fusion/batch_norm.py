"""Batch norms and other factors per channel join the weights of the convolution or product before them."""

from __future__ import annotations

from maiac.ir import DType, Op, TensorType, Value, Weight

from ..pattern import both_orders, only_user, producer
from ..rewrite import Miss, Outcome, Rewriter, Rule, rule
from ..rules.shape import tensor_of
from .derived import ScaleData, ScaledData, ShiftedData, Vector, constant_weight, has_data, plain_type

CHANNELS: list[Rule] = []

_PRODUCTS = ("conv", "conv_transpose", "linear")


def _scaled(b: Rewriter, op: Op, factors: Vector | None, scales: bool, shifts: bool) -> Outcome:
    """The product ``op`` with its channels scaled and shifted, by weights made of its own (no contents: no factors)."""
    weight, bias = constant_weight(op.operand(1)), op.operands[2] if len(op.operands) > 2 else None
    kept = constant_weight(bias)
    if weight is None or (bias is not None and kept is None):
        return Miss("its weights are not constant", op.operand(1))
    type = plain_type(weight)
    if type is None or (kept is not None and plain_type(kept) is None):
        return Miss("its weights are quantized, sharded or of no known size", weight)
    channel = 1 if op.name == "conv_transpose" else 0
    if channel and op.attrs.get("groups", 1) != 1:
        return Miss("a transposed convolution in groups has its channels apart", weight)
    if type.split[channel]:
        return Miss("a mesh axis splits its channels", weight)
    data, size = weight.data, type.dims[channel]
    if not has_data(weight, kept):
        factors = None
    assert isinstance(size, int) and isinstance(type.dtype, DType)
    new = weight
    if scales:
        made = None if factors is None or data is None else ScaledData(data, factors, channel)
        new = b.module.add_weight(f"{weight.name}.scaled", type, made, **weight.attrs)
    shifted = kept
    if shifts or (scales and kept is not None):
        row = TensorType(type.dtype, (size,))
        made = None if factors is None else ShiftedData(kept and kept.data, factors, (size,), type.dtype)
        name = kept.name if kept is not None else f"{weight.name.removesuffix('.weight')}.bias"
        shifted = b.module.add_weight(f"{name}.shifted", row, made)
    return b.emit_op(op.name, (op.operand(0), new, shifted), op.attrs).result


@rule("batch_norm", table=CHANNELS)
def batch_norm_into_product(op: Op, b: Rewriter) -> Outcome:
    """batch_norm(conv(x, w)) -> conv x, w * g / sqrt(var + eps), and alike for transposed ones and ``linear``."""
    x = op.operand(0)
    before = producer(x, *_PRODUCTS)
    stats = [constant_weight(v) for v in op.operands[1:]]
    if any(w is None for w, v in zip(stats, op.operands[1:], strict=True) if v is not None):
        return Miss("its statistics are not constant", x)
    if before is None:
        return None
    if only_user(x) is not op:
        return Miss("the product is read elsewhere, too", x)
    if before.name == "linear" and tensor_of(x).rank != 2:
        return Miss("its channels are not the last dim of the product", x)
    return _scaled(b, before, _statistics(op) if has_data(*stats) else None, True, True)


def _statistics(op: Op) -> Vector:
    """What a batch norm multiplies by and adds."""
    mean, var, g, shift = (constant_weight(v) for v in (*op.operands[1:], None, None)[:4])
    assert mean is not None and var is not None
    data = [None if w is None else w.data for w in (g, shift, mean, var)]
    eps = op.attrs.get("eps", 1e-5)
    assert isinstance(eps, float)
    return Vector(*data, eps=eps)


@rule("batch_norm", table=CHANNELS)
def batch_norm_alone(op: Op, b: Rewriter) -> Outcome:
    """A batch norm that no product takes in -> x * scale + shift, by weights made of its own."""
    x, type = op.operand(0), tensor_of(op.operand(0))
    stats = [constant_weight(v) for v in op.operands[1:]]
    if any(w is None or plain_type(w) is None for w, v in zip(stats, op.operands[1:], strict=True) if v is not None):
        return Miss("its statistics are not constant, or split over ranks", x)
    if type.split[1] if type.rank > 1 else True:
        return Miss("a mesh axis splits its channels", x)
    if producer(x, *_PRODUCTS) is not None and only_user(x) is op and constant_weight(producer_weight(x)) is not None:
        return None  # the other rule has it
    # Scaled first and shifted then, what is left of a large mean is lost in half precision.
    half = type.element in (DType.F16, DType.BF16)
    dtype = DType.F32 if half else type.element
    assert isinstance(type.dims[1], int)
    shape = (type.dims[1], *[1] * (type.rank - 2))
    mean = stats[0]
    assert mean is not None
    name, row = mean.name.removesuffix(".running_mean"), TensorType(dtype, shape)
    factors = _statistics(op) if has_data(*stats) else None
    made = None if factors is None else (ScaleData(factors, shape, dtype), ShiftedData(None, factors, shape, dtype))
    scale, shift = (
        b.module.add_weight(f"{name}.{what}", row, made and made[i]) for i, what in enumerate(("scale", "shift"))
    )
    y = b.emit("add", b.emit("mul", b.emit("cast", x, to=dtype) if half else x, scale), shift)
    return b.emit("cast", y, to=type.element) if half else y


def producer_weight(value: Value) -> Value | None:
    """The weight of the product that makes a value."""
    op = producer(value, *_PRODUCTS)
    return None if op is None else op.operands[1]


# **** factors and rows of constants ****


def channel_row(value: Value | None, like: TensorType, dim: int) -> Weight | None:
    """A constant weight that is one number for each channel of ``like``."""
    weight = constant_weight(value)
    type = None if weight is None else plain_type(weight)
    if weight is None or type is None or type.dtype != like.dtype or not type.rank or type.rank > like.rank:
        return None
    at = dim - like.rank
    if type.rank < -at or type.dims[at] != like.dims[dim] or like.dims[dim] == 1:
        return None
    return weight if all(d == 1 for i, d in enumerate(type.dims, -type.rank) if i != at) else None


@rule("mul", "add", table=CHANNELS)
def constant_into_product(op: Op, b: Rewriter) -> Outcome:
    """conv(x, w) * g -> conv x, w * g, and conv(x, w) + b -> conv x, w, b, for constants per channel."""
    for value, other in both_orders(op):
        before = producer(value, *_PRODUCTS)
        if before is None or constant_weight(other) is None or value.type != op.result.type:
            continue
        type = tensor_of(value)
        row = channel_row(other, type, type.rank - 1 if before.name == "linear" else 1)
        if row is None:
            return Miss("the constant is not one number for each channel", other)
        if only_user(value) is not op:
            return Miss("the product is read elsewhere, too", value)
        factors = None if row.data is None else Vector(g=row.data) if op.name == "mul" else Vector(b=row.data)
        return _scaled(b, before, factors, op.name == "mul", op.name == "add")
    return None
