"""Optimizer steps of ai.onnx.preview.training (rate, count, values, gradients, states), and small ai.onnx.ml."""

from __future__ import annotations

from collections.abc import Callable

from maiac.ir import DType, TensorType, Value
from maiac.ir.dims import product

from ..context import NodeContext, tensor_type
from ..derivative import derived, operations_between
from ..registry import onnx_op

DOMAIN = "ai.onnx.preview.training"


def _per_tensor(
    groups: int, step: Callable[[NodeContext, list[Value]], list[Value]]
) -> Callable[[NodeContext], list[Value]]:
    """A handler that applies a step to each optimized tensor; operands and results lie group by group."""

    def handler(c: NodeContext) -> list[Value]:
        count, rest = divmod(len(c.inputs) - 2, groups)
        if rest:
            c.fail(f"it has {len(c.inputs) - 2} operands after rate and count; expected {groups} a tensor", "MAIA0223")
        made = [step(c, [c[2 + g * count + i] for g in range(groups)]) for i in range(count)]
        return [row[k] for k in range(groups - 1) for row in made]

    return handler


def _times(c: NodeContext, x: Value, by: float) -> Value:
    return c.emit("mul", x, c.const_like(by, x))


def _regularized(c: NodeContext, x: Value, gradient: Value) -> Value:
    return c.emit("add", _times(c, x, float(c.attr("norm_coefficient", 0.0))), gradient)


def _rate(c: NodeContext, x: Value) -> Value:
    return c.cast(c.reshape(c[0], ()), tensor_type(x).element)


def _momentum(c: NodeContext, operands: list[Value]) -> list[Value]:
    x, gradient, velocity = operands
    alpha, gradient = float(c.attr("alpha")), _regularized(c, x, gradient)
    beta = float(c.attr("beta"))
    first = c.emit("eq", c.reshape(c[1], ()), c.const(0, DType.I64))
    weight = c.emit("where", first, c.const_like(1.0, x), c.const_like(beta, x))
    velocity = c.emit("add", _times(c, velocity, alpha), c.emit("mul", gradient, weight))
    step = velocity
    if c.attr("mode") == "nesterov":
        step = c.emit("add", gradient, _times(c, velocity, alpha))
    return [c.emit("sub", x, c.emit("mul", _rate(c, x), step)), velocity]


def _adagrad(c: NodeContext, operands: list[Value]) -> list[Value]:
    x, gradient, squares = operands
    gradient = _regularized(c, x, gradient)
    steps = c.cast(c.reshape(c[1], ()), tensor_type(x).element)
    decay = c.emit("add", _times(c, steps, float(c.attr("decay_factor", 0.0))), c.const_like(1.0, x))
    rate = c.emit("div", _rate(c, x), decay)
    squares = c.emit("add", squares, c.emit("square", gradient))
    scale = c.emit("add", c.emit("sqrt", squares), c.const_like(float(c.attr("epsilon", 1e-6)), x))
    return [c.emit("sub", x, c.emit("div", c.emit("mul", rate, gradient), scale)), squares]


def _adam(c: NodeContext, operands: list[Value]) -> list[Value]:
    x, gradient, mean, squares = operands
    alpha, beta = float(c.attr("alpha", 0.9)), float(c.attr("beta", 0.999))
    gradient = _regularized(c, x, gradient)
    mean = c.emit("add", _times(c, mean, alpha), _times(c, gradient, 1 - alpha))
    squares = c.emit("add", _times(c, squares, beta), _times(c, c.emit("square", gradient), 1 - beta))
    root = c.emit("add", c.emit("sqrt", squares), c.const_like(float(c.attr("epsilon", 1e-6)), x))
    updated = c.emit("sub", x, c.emit("div", c.emit("mul", _corrected(c, x, alpha, beta), mean), root))
    post = float(c.attr("norm_coefficient_post", 0.0))
    return [_times(c, updated, 1 - post), mean, squares]


def _corrected(c: NodeContext, x: Value, alpha: float, beta: float) -> Value:
    """The rate with the bias of both running means taken out, from the second step on."""
    steps = c.cast(c.reshape(c[1], ()), tensor_type(x).element)
    one, rate = c.const_like(1.0, x), _rate(c, x)
    left = c.emit("sub", one, c.emit("pow", c.const_like(alpha, x), steps))
    right = c.emit("sqrt", c.emit("sub", one, c.emit("pow", c.const_like(beta, x), steps)))
    later = c.emit("gt", steps, c.const_like(0.0, x))
    return c.emit("where", later, c.emit("div", c.emit("mul", rate, right), left), rate)


onnx_op("Momentum", domain=DOMAIN)(_per_tensor(3, _momentum))
onnx_op("Adagrad", domain=DOMAIN)(_per_tensor(3, _adagrad))
onnx_op("Adam", domain=DOMAIN)(_per_tensor(4, _adam))


@onnx_op("Binarizer", domain="ai.onnx.ml")
def binarizer(c: NodeContext) -> Value:
    """1 above the threshold, 0 elsewhere."""
    return c.cast(c.emit("gt", c[0], c.const_like(float(c.attr("threshold", 0.0)), c[0])), c.dtype(0))


@onnx_op("ArrayFeatureExtractor", domain="ai.onnx.ml")
def array_feature_extractor(c: NodeContext) -> Value:
    """Columns of the last dim."""
    return c.emit("gather", c[0], c.reshape(c[1], (product(c.shape(1)),)), dim=c.rank(0) - 1)


@onnx_op("Gradient", domain=DOMAIN)
def gradient(c: NodeContext) -> list[Value]:
    """dy/dx for each of ``xs``, at the operands: a function of its own, which PyTorch derives from reference bodies."""
    named = {v.name: slot for v, slot in c.importer.slots.items() if v.name}
    names = [*c.texts("xs"), *c.texts("zs"), str(c.need("y"))]
    unknown = [n for n in names if n not in named]
    if unknown:
        c.fail(f"it names {', '.join(unknown)}, which nothing computes", "MAIA0223")
    *inputs, y = (c.importer.value_of(named[n]) for n in names)
    ops, others = operations_between(inputs, y)
    values = [*inputs, *others]
    if any(op.regions for op in ops) or not all(isinstance(v.type, TensorType) and v.type.is_static for v in values):
        c.fail("only operations without regions, on tensors of known sizes, are differentiated")
    function = derived(c.module, ops, values, y, len(c.attr("xs")))
    return list(c.importer.builder.call(function, [*(c[i] for i in range(len(inputs))), *others]).results)
