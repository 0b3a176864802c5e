"""Random numbers: uniform and normal ones by torch's own generator, and what is made of them.

With one seed, uniform and normal numbers are eager's. Other distributions are right, but their numbers are not those of
eager, which draws them in another way.
"""

from __future__ import annotations

import math
from typing import Any

from maiac.ir.dims import Dim
from maiac.ir.dtypes import DType
from maiac.ir.graph import Value

from ..importer import Context, type_of
from .registry import Unsupported, aten


@aten("rand.default", "rand_like.default", "randn.default", "randn_like.default")
def random(c: Context, *_: Any, **__: Any) -> Value:
    """Uniform or normal numbers."""
    name = "random_normal" if "randn" in c.name else "random_uniform"
    return c.emit(name, shape=c.shape(), dtype=c.dtype)


@aten("randperm.default")
def randperm(c: Context, n: Any, **_: Any) -> Value:
    """The numbers below n in random order."""
    noise = c.emit("random_uniform", shape=(n,), dtype=DType.F64)
    return c.cast(c.emit_all("sort", noise, dim=0)[1], c.dtype)


@aten("randint.low", "randint.default", "randint_like.low_dtype", "randint_like.default")
def randint(c: Context, *args: Any, **_: Any) -> Value:
    """Integers in [low, high)."""
    bounds = [a for a in args if isinstance(a, (int, Dim)) and not isinstance(a, bool)]
    low, high = (0, bounds[0]) if len(bounds) == 1 else bounds[:2]
    noise = c.emit("random_uniform", shape=c.shape(), dtype=DType.F64)
    scaled = c.emit("floor", c.emit("mul", noise, c.scalar(high - low)))
    return c.cast(c.emit("add", scaled, c.scalar(low)), c.dtype)


@aten("bernoulli.default", "bernoulli.p")
def bernoulli(c: Context, x: Value, p: Any = None, **_: Any) -> Value:
    """1 with the probability that x holds (or p), else 0."""
    noise = c.emit("random_uniform", shape=type_of(x).dims, dtype=DType.F64 if c.dtype is DType.F64 else DType.F32)
    if not c.dtype.is_float:
        raise Unsupported(f"bernoulli of {c.dtype}")
    return c.cast(c.emit("lt", noise, x if p is None else c.scalar(p)), c.dtype)


@aten("normal.float_float", "normal.Tensor_float", "normal.float_Tensor", "normal.Tensor_Tensor")
def normal_of(c: Context, mean: Any, std: Any = 1.0, *_: Any, **__: Any) -> Value:
    """Normal numbers of given means and deviations."""
    noise = c.emit("random_normal", shape=c.shape(), dtype=c.dtype)
    return c.emit("add", c.emit("mul", noise, c.scalar(std, noise)), c.scalar(mean, noise))


@aten("normal_functional.default")
def normal(c: Context, x: Value, mean: float = 0.0, std: float = 1.0, **_: Any) -> Value:
    """Normal numbers of a mean and deviation."""
    noise = c.emit("random_normal", shape=c.shape(), dtype=c.dtype)
    return c.emit("add", c.emit("mul", noise, c.scalar(std, noise)), c.scalar(mean, noise))


@aten("uniform.default")
def uniform(c: Context, x: Value, low: float = 0.0, high: float = 1.0, **_: Any) -> Value:
    """Uniform numbers in [low, high)."""
    noise = c.emit("random_uniform", shape=c.shape(), dtype=c.dtype)
    return c.emit("add", c.emit("mul", noise, c.scalar(high - low, noise)), c.scalar(low, noise))


def _uniform(c: Context, dims: Any) -> Value:
    """Uniform numbers in [0, 1), as fine as eager draws them: one in 2^24 would be 0 in single precision."""
    return c.emit("random_uniform", shape=dims, dtype=DType.F64)


def _exponential(c: Context, dims: Any) -> Value:
    """Numbers of density exp(-x), by inversion."""
    return c.emit("neg", c.emit("log1p", c.emit("neg", _uniform(c, dims))))


@aten("exponential.default")
def exponential(c: Context, x: Value, rate: float = 1.0, **_: Any) -> Value:
    """Numbers of density rate * exp(-rate * x)."""
    return c.cast(c.emit("div", _exponential(c, c.shape()), c.scalar(float(rate))), c.dtype)


@aten("geometric.default")
def geometric(c: Context, x: Value, p: float, **_: Any) -> Value:
    """How many trials of probability p it takes until one succeeds."""
    if not 0 < p < 1:
        raise Unsupported(f"a geometric distribution of p = {p}, which is not between 0 and 1")
    trials = c.emit("ceil", c.emit("div", _exponential(c, c.shape()), c.scalar(-math.log1p(-p))))
    return c.cast(c.emit("maximum", trials, c.scalar(1.0)), c.dtype)


@aten("cauchy.default")
def cauchy(c: Context, x: Value, median: float = 0.0, sigma: float = 1.0, **_: Any) -> Value:
    """Numbers of a Cauchy distribution, by inversion."""
    angle = c.emit("mul", c.emit("sub", _uniform(c, c.shape()), c.scalar(0.5)), c.scalar(math.pi))
    spread = c.emit("mul", c.emit("tan", angle), c.scalar(float(sigma)))
    return c.cast(c.emit("add", spread, c.scalar(float(median))), c.dtype)


@aten("log_normal.default")
def log_normal(c: Context, x: Value, mean: float = 1.0, std: float = 2.0, **_: Any) -> Value:
    """Numbers whose logarithms are normal."""
    return c.emit("exp", normal(c, x, mean, std))


@aten("multinomial.default")
def multinomial(c: Context, p: Value, count: Any, replacement: bool = False, **_: Any) -> Value:
    """Places drawn with the probabilities that p holds, along the last dim.

    Of exponential numbers with rates p, the least is at each place with its probability, and the least of the others
    is the next draw without replacement.
    """
    *rows, places = type_of(p).dims
    ok = c.emit("logical_and", c.emit("ge", p, c.scalar(0.0)), c.emit("lt", p, c.scalar(math.inf)))
    c.emit_all("check", ok, message="multinomial: probabilities are negative, infinite or not numbers")
    some = c.emit("gt", c.emit("sum", p, dims=(-1,)), c.scalar(0.0))
    c.emit_all("check", some, message="multinomial: probabilities of a row are all 0")
    if not replacement:
        return c.emit_all("topk", c.emit("div", p, _exponential(c, (*rows, places))), k=count, dim=-1)[1]
    rate = c.reshape(p, (*rows, 1, places))
    return c.emit("argmax", c.emit("div", rate, _exponential(c, (*rows, count, places))), dim=-1)
