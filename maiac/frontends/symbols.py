"""Dims of a traced graph: sympy expressions of torch's symbolic integers become IR dims over declared symbols."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from maiac.ir.dims import DimLike, Symbol, floordiv, maximum, minimum, mod, product, simplify, sym
from maiac.ir.dtypes import BY_NAME
from maiac.ir.graph import Module
from maiac.ir.printer import KEYWORDS


def _up(a: Any, b: Any) -> DimLike:
    return -floordiv(-a, b)


_TWO_OPERANDS: dict[str, Callable[[Any, Any], DimLike]] = {
    "FloorDiv": floordiv,
    "CleanDiv": floordiv,
    "Mod": mod,
    "PythonMod": mod,
    "LShift": lambda a, b: a * 2**b,
    "RShift": lambda a, b: floordiv(a, 2**b),
}
_ROUNDING = {"FloorToInt": floordiv, "floor": floordiv, "TruncToInt": floordiv, "CeilToInt": _up, "ceiling": _up}
LEAST = -(2**63)  # of an integer that is no size
_UNBOUNDED = 2**31  # torch's "any size" comes as infinity or as a number near the greatest int64


class NoDim(Exception):
    """A symbolic integer that no dim expression stands for."""


class Symbols:
    """Declares the symbols of a graph in a module on first use.

    ``names`` maps torch's symbols to the names that the user gave; ``ranges`` to ``ValueRanges``.
    """

    def __init__(self, module: Module, names: Mapping[str, str], ranges: Mapping[Any, Any]) -> None:
        self.module = module
        self.names = dict(names)
        self.ranges = {str(k): v for k, v in ranges.items()}
        self.known: dict[str, DimLike] = {}

    def dim(self, size: Any) -> DimLike:
        """The dim of an int or SymInt; NoDim where the expression has no form."""
        if isinstance(size, int):
            return int(size)
        return simplify(self.expression(size.node.expr), self.module.symbols)

    def expression(self, expr: Any) -> DimLike:
        """The dim of a sympy expression."""
        if expr.is_Integer:
            return int(expr)
        if expr.is_Symbol:
            return self.symbol(str(expr))
        name = type(expr).__name__
        if name == "Piecewise" and str(expr) in self.known:
            return self.known[str(expr)]
        if name == "Pow" and expr.args[1].is_Integer and int(expr.args[1]) > 0:
            return product([self.expression(expr.args[0])] * int(expr.args[1]))
        if name in _ROUNDING:
            return self._rounded(_ROUNDING[name], expr.args[0])
        if name == "Mul":
            return self._product(expr)
        args = [self.expression(a) for a in expr.args]
        return self._call(name, args, expr)

    def _call(self, name: str, args: list[DimLike], expr: Any) -> DimLike:
        if name == "Add":
            total: DimLike = 0
            for arg in args:
                total = arg + total
            return total
        if name in ("Max", "Min"):
            fold, out = (maximum, minimum)[name == "Min"], args[0]
            for arg in args[1:]:
                out = fold(out, arg)
            return out
        if name in _TWO_OPERANDS:
            return _TWO_OPERANDS[name](args[0], args[1])
        if name == "ModularIndexing":
            return mod(floordiv(args[0], args[1]), args[2])
        if name == "PowByNatural" and isinstance(args[1], int):
            return product([args[0]] * args[1])
        if name in ("Identity", "ToFloat"):
            return args[0]
        raise NoDim(f"the size {expr}")

    def _product(self, expr: Any) -> DimLike:
        """A product, whose rational factor divides without remainder (torch proved so)."""
        top, bottom = expr.as_numer_denom()
        if bottom != 1:
            return floordiv(self.expression(top), self.expression(bottom))
        return product([self.expression(a) for a in expr.args])

    def _rounded(self, divide: Callable[[Any, Any], DimLike], expr: Any) -> DimLike:
        """``ceil(a / b)`` and the like; sizes are not negative, so that truncation rounds down."""
        top, bottom = self._fraction(expr)
        return top if bottom == 1 else divide(top, bottom)

    def _fraction(self, expr: Any) -> tuple[DimLike, DimLike]:
        """Numerator and denominator of a real-valued expression of sizes; floats are exact binary fractions."""
        name = type(expr).__name__
        if expr.is_Integer or expr.is_Symbol:
            return self.expression(expr), 1
        if expr.is_Float:
            return float(expr).as_integer_ratio()
        if expr.is_Rational:
            return int(expr.p), int(expr.q)
        if name in ("IntTrueDiv", "FloatTrueDiv"):
            (a, b), (d, e) = (self._fraction(x) for x in expr.args)
            return a * e, b * d
        if name in ("ToFloat", "Identity"):
            return self._fraction(expr.args[0])
        if name == "Mul":
            parts = [self._fraction(a) for a in expr.args]
            return product([a for a, _ in parts]), product([b for _, b in parts])
        if name == "Add":
            return self._sum([self._fraction(a) for a in expr.args])
        return self.expression(expr), 1

    def _sum(self, parts: list[tuple[DimLike, DimLike]]) -> tuple[DimLike, DimLike]:
        top, bottom = parts[0]
        for a, b in parts[1:]:
            top, bottom = (a + top, b) if b == bottom else (top * b + a * bottom, bottom * b)
        return top, bottom

    def symbol(self, name: str) -> DimLike:
        """The IR symbol of a torch symbol; declared with its range on first use."""
        if name in self.known:
            return self.known[name]
        low, high = _limits(self.ranges.get(name))
        wanted = self.names.get(name, name)
        taken = wanted in self.module.symbols or wanted in BY_NAME or wanted in KEYWORDS  # u8 is a dtype
        unique = self._free(wanted) if taken else wanted
        self.module.symbols[unique] = Symbol(unique, low, high)
        self.known[name] = sym(unique)
        return self.known[name]

    def _free(self, name: str) -> str:
        n = 1
        while f"{name}_{n}" in self.module.symbols:
            n += 1
        return f"{name}_{n}"

    def adopt(self, name: str, dim: DimLike) -> None:
        """Let a torch symbol (``u0``) be a dim that inference found; a symbol that the builder made for it gets the
        range that torch knows."""
        if name in self.known:
            return
        made = self.module.symbols.get(str(dim))
        ours = made is not None and dim not in self.known.values()
        self.known[name] = dim
        if made is not None and ours and made.high is None:
            low, high = _limits(self.ranges.get(name))
            self.module.symbols[made.name] = Symbol(made.name, max(low, made.low), high)


def _limits(found: Any) -> tuple[int, int | None]:
    """Least and greatest value of a torch range; None: unbounded. An unknown range is any size."""
    if found is None:
        return 0, None
    low = int(found.lower) if found.lower.is_Integer else LEAST
    high = int(found.upper) if found.upper.is_Integer else None
    return LEAST if low <= -_UNBOUNDED else low, None if high is None or high >= _UNBOUNDED else high


def named_by_user(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_shapes: Any) -> dict[int, Any]:
    """``id`` of each example tensor -> the entry of ``dynamic_shapes`` that speaks of it."""
    from torch.export.dynamic_shapes import (
        ShapesCollection,
        _combine_args,  # pyright: ignore[reportPrivateUsage]
        _tree_map_with_path,  # pyright: ignore[reportPrivateUsage]
    )

    if isinstance(dynamic_shapes, ShapesCollection):
        dynamic_shapes = dynamic_shapes.dynamic_shapes(model, args, kwargs)
    found: dict[int, Any] = {}

    def note(_path: Any, leaf: Any, spec: Any) -> None:
        found.setdefault(id(leaf), spec)

    combined: Any = _combine_args(model, args, kwargs)
    if isinstance(dynamic_shapes, (tuple, list)):
        combined = type(dynamic_shapes)(combined.values())
    _tree_map_with_path(note, combined, dynamic_shapes, tree_name="inputs")
    return found


def symbol_names(shapes: list[tuple[Any, ...] | None], specs: list[Any]) -> dict[str, str]:
    """Torch's symbols -> names of the ``torch.export.Dim`` given for them; traced shapes beside their specs."""
    names: dict[str, str] = {}
    for shape, spec in zip(shapes, specs, strict=True):
        if shape is None or not spec:
            continue
        for at, dim in spec.items() if isinstance(spec, dict) else enumerate(spec):
            name = getattr(getattr(dim, "root", dim), "__name__", "")  # the root of a derived Dim such as 2*T
            free = sorted(map(str, shape[at].node.expr.free_symbols)) if hasattr(shape[at], "node") else []
            if len(free) == 1 and name.isidentifier():
                names.setdefault(free[0], name)
    return names
