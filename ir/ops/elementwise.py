"""Operations that work on each element alone; binary ones broadcast as NumPy does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

from ..dtypes import DType
from ..errors import TypeFault
from ..opdef import op
from ..types import TensorType, Type
from .rules import keep_split
from .sampling import Sample, Sampler
from .values import to_torch

_nn = torch._C._nn  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]  (the functions behind F.silu and others, which take `out`)


def unary(name: str, fn: Callable[..., Any], doc: str, takes: str = "floatc", **facts: Any) -> None:
    """Declare a torch function of one tensor as an operation on each element."""

    def reference(x: Any) -> Any:
        return fn(x)

    reference.__doc__ = doc
    facts.setdefault("into", fn)
    op(f"x:{takes}[*b] -> y[*b]", name=name, dtype=facts.pop("dtype", "x"), **facts)(reference)


def binary(name: str, fn: Callable[..., Any], doc: str, takes: str = "num", **facts: Any) -> None:
    """Declare a torch function of two tensors, which broadcast, as an operation on each element."""

    def reference(x: Any, y: Any) -> Any:
        return fn(x, y)

    reference.__doc__ = doc
    facts.setdefault("into", fn)
    op(f"x:{takes}[~b], y:{takes}[~b] -> z[~b]", name=name, dtype=facts.pop("dtype", "promote"), **facts)(reference)


unary("neg", torch.neg, "Minus x.", "num", linear="x")
unary("abs", torch.abs, "The magnitude of x.", "real")
unary("sign", torch.sign, "-1, 0 or 1.", "real")
unary("exp", torch.exp, "e to the x.")
unary("exp2", torch.exp2, "2 to the x.", "float")
unary("expm1", torch.expm1, "exp(x) - 1, exact near 0.", "float")
unary("log", torch.log, "The natural logarithm.", domain=(0.1, 4.0))
unary("log2", torch.log2, "The logarithm to base 2.", domain=(0.1, 4.0))
unary("log10", torch.log10, "The logarithm to base 10.", domain=(0.1, 4.0))
unary("log1p", torch.log1p, "log(1 + x), exact near 0.", domain=(-0.5, 4.0))
unary("sqrt", torch.sqrt, "The square root.", domain=(0.1, 4.0))
unary("rsqrt", torch.rsqrt, "One over the square root.", domain=(0.1, 4.0))
unary("reciprocal", torch.reciprocal, "One over x.", domain=(0.1, 4.0))
unary("square", torch.square, "x times x.", "num")
unary("sin", torch.sin, "The sine of x in radians.")
unary("cos", torch.cos, "The cosine of x in radians.")
unary("tan", torch.tan, "The tangent of x in radians.", domain=(-1.0, 1.0))
unary("asin", torch.asin, "The inverse sine.", domain=(-0.9, 0.9))
unary("acos", torch.acos, "The inverse cosine.", domain=(-0.9, 0.9))
unary("atan", torch.atan, "The inverse tangent.")
unary("sinh", torch.sinh, "The hyperbolic sine.")
unary("cosh", torch.cosh, "The hyperbolic cosine.")
unary("tanh", torch.tanh, "The hyperbolic tangent.")
unary("asinh", torch.asinh, "The inverse hyperbolic sine.")
unary("acosh", torch.acosh, "The inverse hyperbolic cosine.", domain=(1.1, 4.0))
unary("atanh", torch.atanh, "The inverse hyperbolic tangent.", domain=(-0.9, 0.9))
unary("erf", torch.erf, "The error function.", "float")
unary("erfc", torch.erfc, "1 - erf(x).", "float")
unary("erfinv", torch.erfinv, "The inverse of erf.", "float", domain=(-0.9, 0.9))
unary("lgamma", torch.lgamma, "log |gamma(x)|.", "float", domain=(0.1, 4.0))
unary("digamma", torch.digamma, "The derivative of lgamma.", "float", domain=(0.1, 4.0))
unary("floor", torch.floor, "Round down.", "real")
unary("ceil", torch.ceil, "Round up.", "real")
unary("round", torch.round, "Round to nearest, ties to even.", "real")
unary("trunc", torch.trunc, "Round towards zero.", "real")
unary("relu", torch.relu, "max(x, 0).", "real", into=None)
unary("sigmoid", torch.sigmoid, "1 / (1 + exp(-x)).")
unary("silu", F.silu, "x * sigmoid(x).", "float", into=_nn.silu)
unary("mish", F.mish, "x * tanh(softplus(x)).", "float", into=_nn.mish)
unary("hardswish", F.hardswish, "x * clamp(x + 3, 0, 6) / 6.", "float", into=_nn.hardswish)
unary("hardsigmoid", F.hardsigmoid, "clamp(x + 3, 0, 6) / 6.", "float", into=_nn.hardsigmoid)
unary("softsign", F.softsign, "x / (1 + |x|).", "float", into=None)
unary("log_sigmoid", F.logsigmoid, "log(sigmoid(x)).", "float")
unary("logical_not", torch.logical_not, "True where x is 0.", "any", dtype="bool")
unary("bitwise_not", torch.bitwise_not, "Every bit inverted.", "intb")
unary("is_nan", torch.isnan, "True where x is NaN.", "any", dtype="bool", into=None)
unary("is_inf", torch.isinf, "True where x is infinite.", "any", dtype="bool", into=None)
unary("signbit", torch.signbit, "True where the sign is set.", "real", dtype="bool")

binary("add", torch.add, "x + y.", "any", additive="x y")
binary("sub", torch.sub, "x - y.", additive="x y")
binary("mul", torch.mul, "x * y.", "any", linear="x y")
binary("div", torch.true_divide, "x / y as real numbers.", "floatc", linear="x", domain=(0.5, 4.0))
binary("pow", torch.pow, "x to the y.", domain=(0.5, 2.0))
binary("fmod", torch.fmod, "The remainder of x / y with the sign of x.", "real", domain=(0.5, 4.0))
binary("remainder", torch.remainder, "The remainder of x / y with the sign of y.", "real", domain=(0.5, 4.0))
binary("maximum", torch.maximum, "The larger; NaN wins.", "any")
binary("minimum", torch.minimum, "The smaller; NaN wins.", "any")
binary("fmax", torch.fmax, "The larger; a number wins over NaN.", "real")
binary("fmin", torch.fmin, "The smaller; a number wins over NaN.", "real")
binary("atan2", torch.atan2, "The angle of the point (y: x operand, x: y operand).", "float")
binary("copysign", torch.copysign, "The magnitude of x with the sign of y.", "float")
binary("eq", torch.eq, "True where equal.", "any", dtype="bool")
binary("ne", torch.ne, "True where not equal.", "any", dtype="bool")
binary("lt", torch.lt, "True where x < y.", "any", dtype="bool")
binary("le", torch.le, "True where x <= y.", "any", dtype="bool")
binary("gt", torch.gt, "True where x > y.", "any", dtype="bool")
binary("ge", torch.ge, "True where x >= y.", "any", dtype="bool")
binary("logical_and", torch.logical_and, "True where both are not 0.", "any", dtype="bool")
binary("logical_or", torch.logical_or, "True where either is not 0.", "any", dtype="bool")
binary("logical_xor", torch.logical_xor, "True where exactly one is not 0.", "any", dtype="bool")
binary("bitwise_and", torch.bitwise_and, "Bits set in both.", "intb")
binary("bitwise_or", torch.bitwise_or, "Bits set in either.", "intb")
binary("bitwise_xor", torch.bitwise_xor, "Bits set in exactly one.", "intb")
binary("shift_left", torch.bitwise_left_shift, "x times 2 to the y.", "int", domain=(0, 4))
binary("shift_right", torch.bitwise_right_shift, "x over 2 to the y, rounded down.", "int", domain=(0, 4))


@op("x:real[~b], y:real[~b] -> z[~b]", dtype="promote", domain=(0.5, 4.0))
def floor_div(x: Any, y: Any) -> Any:
    """x / y rounded down."""
    return torch.div(x, y, rounding_mode="floor")


@op("x:real[~b], y:real[~b] -> z[~b]", dtype="promote", domain=(0.5, 4.0))
def trunc_div(x: Any, y: Any) -> Any:
    """x / y rounded towards zero."""
    return torch.div(x, y, rounding_mode="trunc")


@op("c:bool[~b], x[~b], y[~b] -> z[~b]", dtype="x", same="x y")
def where(c: Any, x: Any, y: Any) -> Any:
    """x where c is true, y elsewhere; both have one dtype."""
    return torch.where(c, x, y)


@op("x:any[*b] -> y[*b]", dtype="to", linear="x")
def cast(x: Any, *, to: DType) -> Any:
    """Convert each element: to integers towards zero, to lower floats to nearest even."""
    return x.to(to_torch(to))


@cast.shard
def _(results: list[Type], x: TensorType, *, to: DType) -> Type:
    if x.owed and not (to.is_float and x.element.is_float):
        raise TypeFault(f"cast: the parts of a sum that is owed cannot be rounded to {to}: {x}", "MAIA0108")
    return keep_split(results[0], x.split, x.owed)


@cast.samples
def _(s: Sampler) -> Iterator[Sample]:
    for to in (DType.F32, DType.BF16, DType.F64, DType.I64, DType.U8, DType.BOOL, DType.C64):
        yield (s.real(4, 6, low=0.0),), {"to": to}
    yield (s.ints(4),), {"to": s.dtype}
    yield (s.bools(4, 6),), {"to": s.dtype}


@op("x:real[*b] -> y[*b]", dtype="x", into=torch.clamp)
def clamp(x: Any, *, min: int | float | None = None, max: int | float | None = None) -> Any:
    """Limit x to [min, max]; an absent bound does not limit."""
    return torch.clamp(x, min, max)


@clamp.infer
def _(x: TensorType, *, min: int | float | None = None, max: int | float | None = None) -> Type:
    if min is None and max is None:
        raise TypeFault("clamp needs min or max", "MAIA0107")
    if not x.element.is_float and (isinstance(min, float) or isinstance(max, float)):
        raise TypeFault(f"x is {x}; its bounds must be integers", "MAIA0107")
    return x.whole()


@clamp.samples
def _(s: Sampler) -> Iterator[Sample]:
    for bounds in ({"min": -0.5}, {"max": 1}, {"min": -0.5, "max": 0.5}):
        yield (s.real(4, 6),), bounds
    yield (s.ints(4),), {"min": 1, "max": 3}


@op("x:float[*b] -> y[*b]", dtype="x", into=_nn.gelu)
def gelu(x: Any, *, approximate: str = "none") -> Any:
    """x * Phi(x) (Hendrycks and Gimpel 2016); approximate: none or tanh."""
    return F.gelu(x, approximate=approximate)


@op("x:float[*b] -> y[*b]", dtype="x")
def leaky_relu(x: Any, *, slope: float = 0.01) -> Any:
    """x where positive, slope * x elsewhere."""
    return F.leaky_relu(x, slope)


@op("x:float[*b] -> y[*b]", dtype="x")
def elu(x: Any, *, alpha: float = 1.0) -> Any:
    """x where positive, alpha * (exp(x) - 1) elsewhere."""
    return F.elu(x, alpha)


@op("x:float[*b] -> y[*b]", dtype="x")
def softplus(x: Any, *, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """log(1 + exp(beta x)) / beta; x itself where beta x > threshold."""
    return F.softplus(x, beta, threshold)
