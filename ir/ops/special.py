"""Special functions of mathematics and number theory, on each element alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from ..dtypes import DType
from ..opdef import op
from ..types import TensorType, Type
from .elementwise import binary, unary
from .sampling import Sample, Sampler

_special = torch.special
_POSITIVE = (0.1, 4.0)


def _wide(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A function that torch has for f32 and f64 only; others are computed in f32."""

    def wide(*given: Any) -> Any:
        dtype = given[0].dtype if len(given) == 1 else torch.result_type(*given)
        return fn(*given) if dtype.itemsize > 2 else fn(*(x.float() for x in given)).to(dtype)

    return wide


def _unary(name: str, doc: str, domain: tuple[float, float] | None = None) -> None:
    unary(name, _wide(getattr(_special, name)), doc, "float", into=None, domain=domain)


def _binary(name: str, doc: str, domain: tuple[float, float]) -> None:
    binary(name, _wide(getattr(_special, name)), doc, "float", into=None, domain=domain)


unary("i0", torch.i0, "The modified Bessel function of the first kind, of order 0.", "float")
unary("i0e", _special.i0e, "i0(x) exp(-|x|).", "float")
unary("i1", _special.i1, "The modified Bessel function of the first kind, of order 1.", "float")
unary("i1e", _special.i1e, "i1(x) exp(-|x|).", "float")
unary("angle", torch.angle, "The angle of a real number: 0, pi below 0, or NaN.", "float", into=None)
_unary("airy_ai", "The Airy function Ai.")
_unary("bessel_j0", "The Bessel function of the first kind, of order 0.")
_unary("bessel_j1", "The Bessel function of the first kind, of order 1.")
_unary("bessel_y0", "The Bessel function of the second kind, of order 0.", _POSITIVE)
_unary("bessel_y1", "The Bessel function of the second kind, of order 1.", _POSITIVE)
_unary("modified_bessel_i0", "i0, computed another way.")
_unary("modified_bessel_i1", "i1, computed another way.")
_unary("modified_bessel_k0", "The modified Bessel function of the second kind, of order 0.", _POSITIVE)
_unary("modified_bessel_k1", "The modified Bessel function of the second kind, of order 1.", _POSITIVE)
_unary("scaled_modified_bessel_k0", "modified_bessel_k0(x) exp(x).", _POSITIVE)
_unary("scaled_modified_bessel_k1", "modified_bessel_k1(x) exp(x).", _POSITIVE)
_unary("spherical_bessel_j0", "sin(x) / x.")
_unary("erfcx", "erfc(x) exp(x^2).")
_unary("ndtri", "The quantile of the normal distribution.", (0.1, 0.9))

binary("igamma", torch.igamma, "The regularized lower incomplete gamma function.", "float", domain=(0.5, 4.0))
binary("igammac", torch.igammac, "1 - igamma(x, y).", "float", domain=(0.5, 4.0))
binary("next_after", torch.nextafter, "The number next to x in the direction of y.", "float")
binary("gcd", torch.gcd, "The greatest common divisor.", "int")
binary("lcm", torch.lcm, "The least common multiple.", "int")
_binary("zeta", "The Hurwitz zeta function: the sum of (k + y)^-x.", (1.5, 4.0))

POLYNOMIALS = {
    "chebyshev_polynomial_t": "Chebyshev's polynomial of the first kind",
    "chebyshev_polynomial_u": "Chebyshev's polynomial of the second kind",
    "chebyshev_polynomial_v": "Chebyshev's polynomial of the third kind",
    "chebyshev_polynomial_w": "Chebyshev's polynomial of the fourth kind",
    "hermite_polynomial_h": "The physicists' Hermite polynomial",
    "hermite_polynomial_he": "The probabilists' Hermite polynomial",
    "laguerre_polynomial_l": "Laguerre's polynomial",
    "legendre_polynomial_p": "Legendre's polynomial",
    "shifted_chebyshev_polynomial_t": "Chebyshev's polynomial of the first kind at 2x - 1",
    "shifted_chebyshev_polynomial_u": "Chebyshev's polynomial of the second kind at 2x - 1",
    "shifted_chebyshev_polynomial_v": "Chebyshev's polynomial of the third kind at 2x - 1",
    "shifted_chebyshev_polynomial_w": "Chebyshev's polynomial of the fourth kind at 2x - 1",
}  # whose degree is the second operand, rounded towards zero

for _name, _doc in POLYNOMIALS.items():
    _binary(_name, f"{_doc}, of degree y.", (0.1, 0.9))


@op("x:float[*b] -> y[*b]", dtype="x", domain=(0.5, 4.0))
def polygamma(x: Any, *, order: int = 1) -> Any:
    """The derivative of that order of digamma."""
    return torch.polygamma(order, x)


@op("x:float[*b] -> mantissa[*b], exponent[*b]")
def frexp(x: Any) -> Any:
    """x as mantissa * 2^exponent, the mantissa's magnitude in [0.5, 1)."""
    return tuple(torch.frexp(x))


@frexp.infer
def _(x: TensorType) -> list[Type]:
    return [x.whole(), TensorType(DType.I32, x.dims)]


@frexp.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(4, 6),), {}
