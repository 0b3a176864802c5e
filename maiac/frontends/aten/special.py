"""Special functions, and functions of integers."""

from __future__ import annotations

from typing import Any

from maiac.ir.graph import Value
from maiac.ir.ops.special import POLYNOMIALS

from ..importer import Context, type_of
from .registry import Handler, aten

_UNARY = (
    "special_airy_ai", "special_bessel_j0", "special_bessel_j1", "special_bessel_y0", "special_bessel_y1",
    "special_erfcx", "i0", "special_i0e", "special_i1", "special_i1e", "special_modified_bessel_i0",
    "special_modified_bessel_i1", "special_modified_bessel_k0", "special_modified_bessel_k1", "special_ndtri",
    "special_scaled_modified_bessel_k0", "special_scaled_modified_bessel_k1", "special_spherical_bessel_j0",
)  # fmt: skip
_BINARY = {"igamma": "igamma", "igammac": "igammac", "nextafter": "next_after", "gcd": "gcd", "lcm": "lcm"}


def _unary(name: str) -> Handler:
    def handler(c: Context, x: Value) -> Value:
        return c.emit(name, c.cast(x, c.dtype))

    return handler


def _binary(name: str) -> Handler:
    def handler(c: Context, x: Any, y: Any) -> Value:
        x, y = (c.cast(v, c.dtype) for v in c.operands(x, y))
        return c.emit(name, x, y)

    return handler


for _name in _UNARY:
    aten(f"{_name}.default")(_unary(_name.removeprefix("special_")))
for _name, _op in _BINARY.items():
    aten(f"{_name}.default")(_binary(_op))
for _name in POLYNOMIALS:
    aten(*(f"special_{_name}.{o}" for o in ("default", "x_scalar", "n_scalar")))(_binary(_name))
aten(*(f"special_zeta.{o}" for o in ("default", "self_scalar", "other_scalar")))(_binary("zeta"))


@aten("polygamma.default")
def polygamma(c: Context, order: int, x: Value) -> Value:
    """The derivative of that order of digamma."""
    x = c.cast(x, c.dtype)
    return c.emit("polygamma", x, order=order) if order else c.emit("digamma", x)


@aten("angle.default")
def angle(c: Context, x: Value) -> Value:
    """The angle of a number in the complex plane."""
    if not type_of(x).element.is_complex:
        return c.emit("angle", c.cast(x, c.dtype))
    parts = c.emit_all("split", c.emit("view_as_real", x), dim=-1, parts=(1, 1))
    real, imaginary = (c.reshape(p, type_of(x).dims) for p in parts)
    return c.emit("atan2", imaginary, real)


@aten("frexp.Tensor")
def frexp(c: Context, x: Value) -> Any:
    """Mantissa and exponent."""
    return c.emit_all("frexp", x)
