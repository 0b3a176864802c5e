"""Arithmetic, comparisons and activations."""

from __future__ import annotations

from typing import Any

from maiac.ir.dtypes import DType
from maiac.ir.graph import Value

from ..importer import Context, Number, is_tensor, type_of
from .registry import Handler, Unsupported, aten

_UNARY = {
    "acos": "acos",
    "acosh": "acosh",
    "asin": "asin",
    "asinh": "asinh",
    "atan": "atan",
    "atanh": "atanh",
    "cos": "cos",
    "cosh": "cosh",
    "digamma": "digamma",
    "erf": "erf",
    "erfc": "erfc",
    "erfinv": "erfinv",
    "exp": "exp",
    "exp2": "exp2",
    "expm1": "expm1",
    "hardsigmoid": "hardsigmoid",
    "hardswish": "hardswish",
    "lgamma": "lgamma",
    "log": "log",
    "log10": "log10",
    "log1p": "log1p",
    "log2": "log2",
    "log_sigmoid": "log_sigmoid",
    "mish": "mish",
    "neg": "neg",
    "reciprocal": "reciprocal",
    "relu": "relu",
    "rsqrt": "rsqrt",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "sin": "sin",
    "sinh": "sinh",
    "sqrt": "sqrt",
    "square": "square",
    "tan": "tan",
    "tanh": "tanh",
}
_ROUNDING = ("ceil", "floor", "round", "trunc")  # the identity on integers


def _unary(name: str) -> Handler:
    def handler(c: Context, x: Value) -> Value:
        return c.emit(name, c.cast(x, c.dtype))

    return handler


for _name, _op in _UNARY.items():
    aten(f"{_name}.default")(_unary(_op))
aten("_neg_view.default")(_unary("neg"))


def _rounding(name: str) -> Handler:
    def handler(c: Context, x: Value) -> Value:
        return c.emit(name, x) if type_of(x).element.is_float else x

    return handler


for _name in _ROUNDING:
    aten(f"{_name}.default")(_rounding(_name))


@aten("abs.default", "sgn.default", "sign.default")
def absolute(c: Context, x: Value) -> Value:
    """Magnitude or sign; of a complex number the magnitude alone has a form."""
    dtype = type_of(x).element
    which = "abs" if "abs" in c.name else "sign"
    if dtype is DType.BOOL:
        return x
    if dtype.is_complex:
        return _complex_abs(c, x, which)
    if which == "abs" and dtype.family == "uint":
        return x
    return c.emit(which, x)


def _complex_abs(c: Context, x: Value, which: str) -> Value:
    if which == "sign":
        raise Unsupported("the sign of complex numbers")
    parts = c.emit("view_as_real", x)
    squares = c.emit("sum", c.emit("square", parts), dims=(-1,))
    return c.emit("sqrt", squares)


def _asked(name: str) -> Handler:
    def handler(c: Context, x: Value) -> Value:
        return c.emit(name, x)

    return handler


for _name, _op in {"isnan": "is_nan", "isinf": "is_inf", "logical_not": "logical_not"}.items():
    aten(f"{_name}.default")(_asked(_op))


@aten("signbit.default")
def signbit(c: Context, x: Value) -> Value:
    """Whether the sign is set; truth values have none."""
    return c.full(False, type_of(x).dims, DType.BOOL) if type_of(x).dtype is DType.BOOL else c.emit("signbit", x)


@aten("bitwise_not.default")
def bitwise_not(c: Context, x: Value) -> Value:
    """Every bit inverted; of truth values, their negation."""
    return c.emit("logical_not" if type_of(x).dtype is DType.BOOL else "bitwise_not", x)


@aten("isfinite.default")
def isfinite(c: Context, x: Value) -> Value:
    """Neither infinite nor NaN."""
    return c.emit("logical_not", c.emit("logical_or", c.emit("is_nan", x), c.emit("is_inf", x)))


# **** two operands ****

_BINARY = {
    "atan2": ("atan2", "default"),
    "copysign": ("copysign", "Tensor Scalar"),
    "fmax": ("fmax", "default"),
    "fmin": ("fmin", "default"),
    "fmod": ("fmod", "Tensor Scalar"),
    "maximum": ("maximum", "default"),
    "minimum": ("minimum", "default"),
    "mul": ("mul", "Tensor Scalar"),
    "remainder": ("remainder", "Tensor Scalar Scalar_Tensor"),
    "bitwise_and": ("bitwise_and", "Tensor Scalar Scalar_Tensor"),
    "bitwise_or": ("bitwise_or", "Tensor Scalar Scalar_Tensor"),
    "bitwise_xor": ("bitwise_xor", "Tensor Scalar Scalar_Tensor"),
    "bitwise_left_shift": ("shift_left", "Tensor Tensor_Scalar Scalar_Tensor"),
    "floor_divide": ("floor_div", "default Scalar"),
    "bitwise_right_shift": ("shift_right", "Tensor Tensor_Scalar Scalar_Tensor"),
    "__lshift__": ("shift_left", "Tensor Scalar"),
    "__rshift__": ("shift_right", "Tensor Scalar"),
    "logical_and": ("logical_and", "default"),
    "logical_or": ("logical_or", "default"),
    "logical_xor": ("logical_xor", "default"),
    "pow": ("pow", "Tensor_Tensor Tensor_Scalar Scalar"),
}
_WITHOUT_NAN = {"fmax": "maximum", "fmin": "minimum"}
_NEEDS_RESULT_DTYPE = {"fmod", "remainder", "pow", "fmax", "fmin", "floor_div"}
_OF_FLOATS = {"atan2", "copysign"}


def _binary(name: str) -> Handler:
    def handler(c: Context, x: Any, y: Any) -> Value:
        x, y = c.operands(x, y)
        if name in _NEEDS_RESULT_DTYPE:
            x, y = _arithmetic(c, x), _arithmetic(c, y)
        if name in _OF_FLOATS:
            x, y = (v if type_of(v).element.is_float else c.cast(v, c.dtype) for v in (x, y))
        if c.dtype.is_float and not any(type_of(v).element.is_float for v in (x, y)):
            x, y = c.cast(x, c.dtype), c.cast(y, c.dtype)  # no float among the operands, and a float to be computed
        return _promoted(c, c.emit(name if c.dtype.is_float else _WITHOUT_NAN.get(name, name), x, y))

    return handler


def _arithmetic(c: Context, x: Value) -> Value:
    """Operands of ops that are not defined on bool, or that compute integers as floats."""
    dtype = type_of(x).element
    if dtype is DType.BOOL or (c.dtype.is_float and not dtype.is_float and type_of(x).rank):
        return c.cast(x, c.dtype)
    return x


def _promoted(c: Context, value: Value) -> Value:
    """The result in torch's dtype, where that promotes otherwise (a rank-0 tensor beside a number)."""
    return c.cast(value, c.dtype)


for _name, (_op, _overloads) in _BINARY.items():
    aten(*(f"{_name}.{o}" for o in _overloads.split()))(_binary(_op))


def _comparison(name: str) -> Handler:
    def handler(c: Context, x: Any, y: Any) -> Value:
        x, y = c.operands(x, y)
        return c.emit(name, x, y)

    return handler


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    aten(f"{_name}.Tensor", f"{_name}.Scalar")(_comparison(_name))


@aten("add.Tensor", "add.Scalar", "sub.Tensor", "sub.Scalar", "rsub.Tensor", "rsub.Scalar")
def add(c: Context, x: Any, y: Any, alpha: Any = 1) -> Value:
    """x ± alpha y."""
    name = "add" if "add" in c.name else "sub"
    if "rsub" in c.name:
        x, y = y, x
        if alpha != 1:
            y, alpha = _scaled(c, y, alpha), 1
    x, y = c.operands(x, y)
    return _promoted(c, c.emit(name, x, _scaled(c, y, alpha)))


def _scaled(c: Context, y: Value, alpha: Any) -> Value:
    if isinstance(alpha, (int, float)) and alpha == 1:
        return y
    return c.emit("mul", y, c.scalar(alpha, y))


@aten("div.Tensor", "div.Scalar", "true_divide.Tensor", "div.Tensor_mode", "div.Scalar_mode")
def div(c: Context, x: Any, y: Any, rounding_mode: str | None = None) -> Value:
    """Real division, or division rounded down (floor) or towards zero (trunc)."""
    x, y = c.operands(x, y)
    if rounding_mode is not None:
        return _promoted(c, c.emit({"floor": "floor_div", "trunc": "trunc_div"}[rounding_mode], x, y))
    # Integers divide as the default float; a rank-0 float operand keeps its own width, as in eager.
    x, y = (v if type_of(v).element.family in ("float", "complex") else c.cast(v, c.dtype) for v in (x, y))
    return _promoted(c, c.emit("div", x, y))


@aten("where.self", "where.ScalarSelf", "where.ScalarOther", "where.Scalar")
def where(c: Context, condition: Value, x: Any, y: Any) -> Value:
    """x where the condition holds, y elsewhere, both in the common dtype."""
    if type_of(condition).dtype is not DType.BOOL:
        condition = c.cast(condition, DType.BOOL)
    x, y = (_constant_in(c, v) for v in (x, y))
    return c.emit("where", condition, x, y)


def _constant_in(c: Context, value: Any) -> Value:
    if is_tensor(value):
        return c.cast(value, c.dtype)
    return c.cast(c.scalar(value), c.dtype)


@aten("masked_fill.Scalar", "masked_fill.Tensor")
def masked_fill(c: Context, x: Value, mask: Value, value: Any) -> Value:
    """x, with a number where the mask is true."""
    return c.emit("where", mask, _constant_in(c, value), x)


# **** limits and activations ****


@aten("clamp.default", "clamp_min.default", "clamp_max.default", "hardtanh.default")
def clamp(c: Context, x: Value, low: Any = None, high: Any = None) -> Value:
    """x limited to [low, high]."""
    name = c.name
    if "clamp_max" in name:
        low, high = None, low
    if "hardtanh" in name:
        low, high = -1.0 if low is None else low, 1.0 if high is None else high
        if not c.dtype.is_float:  # where clamp would give floats, eager rounds the bounds towards zero
            low, high = (int(v) if isinstance(v, float) else v for v in (low, high))
    return _clamp(c, c.cast(x, c.dtype), low, high)


def _clamp(c: Context, x: Value, low: Any, high: Any) -> Value:
    if all(v is None or isinstance(v, (int, float)) for v in (low, high)):
        return c.emit("clamp", x, min=low, max=high)
    for name, bound in (("maximum", low), ("minimum", high)):
        if bound is not None:
            x = c.emit(name, x, c.cast(c.scalar(bound), type_of(x).element))
    return x


@aten("clamp.Tensor", "clamp_min.Tensor", "clamp_max.Tensor")
def clamp_tensor(c: Context, x: Value, min: Value | None = None, max: Value | None = None) -> Value:
    """x limited element by element."""
    if "clamp_max" in c.name:
        min, max = None, min
    for name, bound in (("maximum", min), ("minimum", max)):
        if bound is not None:
            x = c.emit(name, c.cast(x, c.dtype), c.cast(bound, c.dtype))
    return x


@aten("relu6.default")
def relu6(c: Context, x: Value) -> Value:
    """x limited to [0, 6]."""
    return c.emit("clamp", x, min=0, max=6)


@aten("gelu.default")
def gelu(c: Context, x: Value, approximate: str = "none") -> Value:
    """x * Phi(x)."""
    return c.emit("gelu", x, approximate=approximate)


@aten("elu.default", "celu.default")
def elu(c: Context, x: Value, alpha: Number = 1, scale: Number = 1, input_scale: Number = 1) -> Value:
    """ELU in torch's general form: scale, and alpha (exp(input_scale x) - 1) below 0; CELU scales by 1/alpha."""
    if "celu" in c.name:
        input_scale = 1 / alpha
    if input_scale == 1:
        y = c.emit("elu", x, alpha=float(alpha))
    else:
        below = c.emit("mul", c.emit("expm1", c.emit("mul", x, c.scalar(input_scale, x))), c.scalar(alpha, x))
        y = c.emit("where", c.emit("gt", x, c.scalar(0, x)), x, below)
    return y if scale == 1 else c.emit("mul", y, c.scalar(scale, y))


@aten("leaky_relu.default")
def leaky_relu(c: Context, x: Value, negative_slope: Number = 0.01) -> Value:
    """x where positive, slope x elsewhere."""
    return c.emit("leaky_relu", x, slope=float(negative_slope))


@aten("rrelu_with_noise_functional.default")
def rrelu(
    c: Context, x: Value, noise: Value, low: Number = 1 / 8, high: Number = 1 / 3, training: bool = False, *_: Any
) -> Any:
    """Leaky ReLU with a random slope in training, and the mean slope else; also the slope of each element."""
    if not training:
        return c.emit("leaky_relu", x, slope=(low + high) / 2), noise
    uniform = c.emit("random_uniform", shape=type_of(x).dims, dtype=type_of(x).element)
    slope = c.emit("add", c.emit("mul", uniform, c.scalar(float(high - low), x)), c.scalar(float(low), x))
    slope = c.emit("where", c.emit("gt", x, c.scalar(0, x)), c.full(1, type_of(x).dims, type_of(x).element), slope)
    return c.emit("mul", x, slope), slope


@aten("prelu.default", "_prelu_kernel.default")
def prelu(c: Context, x: Value, weight: Value) -> Value:
    """Leaky ReLU with a learned slope for each channel (dim 1)."""
    rank = type_of(x).rank
    if type_of(weight).rank == 1 and rank > 1:
        weight = c.reshape(weight, (1, type_of(weight).dims[0], *[1] * (rank - 2)))
    return c.emit("where", c.emit("gt", x, c.scalar(0, x)), x, c.emit("mul", x, weight))


@aten("softplus.default")
def softplus(c: Context, x: Value, beta: Number = 1, threshold: Number = 20) -> Value:
    """log(1 + exp(beta x)) / beta."""
    return c.emit("softplus", x, beta=float(beta), threshold=float(threshold))


@aten("glu.default")
def glu(c: Context, x: Value, dim: int = -1) -> Value:
    """The first half times the sigmoid of the second."""
    half = type_of(x).dims[dim] // 2
    a, b = c.emit_all("split", x, dim=dim, parts=(half, half))
    return c.emit("mul", a, c.emit("sigmoid", b))


@aten("_to_copy.default", "to.dtype", "to.dtype_layout", "prims::convert_element_type.default")
def to_copy(c: Context, x: Value, *_: Any, **__: Any) -> Value:
    """x in the traced dtype; a new tensor of the same elements has no meaning in SSA."""
    return c.cast(c.scalar(x), c.dtype)


@aten("addcmul.default", "addcdiv.default")
def addcmul(c: Context, x: Value, a: Value, b: Value, value: Any = 1) -> Value:
    """x + value a b, or x + value a / b."""
    product = c.emit("mul" if "addcmul" in c.name else "div", a, b)
    return c.emit("add", x, _scaled(c, product, value))


@aten("lerp.Scalar", "lerp.Tensor")
def lerp(c: Context, start: Value, end: Value, weight: Any) -> Value:
    """start + weight (end - start)."""
    return c.emit("add", start, c.emit("mul", c.scalar(weight, start), c.emit("sub", end, start)))


@aten("ldexp.Tensor")
def ldexp(c: Context, x: Value, exponent: Value) -> Value:
    """x times 2 to the exponent."""
    return c.emit("mul", c.cast(x, c.dtype), c.emit("exp2", c.cast(exponent, c.dtype)))


@aten("round.decimals")
def round_decimals(c: Context, x: Value, *, decimals: int) -> Value:
    """Rounded to so many places behind the point, or (negative) before it."""
    if not type_of(x).element.is_float:
        return x
    scale = c.scalar(float(10 ** abs(decimals)), x)
    there, back = ("mul", "div") if decimals >= 0 else ("div", "mul")
    return c.emit(back, c.emit("round", c.emit(there, x, scale)), scale)


@aten("hypot.default")
def hypot(c: Context, x: Value, y: Value) -> Value:
    """The length of the vector (x, y)."""
    return c.emit("sqrt", c.emit("add", c.emit("square", x), c.emit("square", y)))
