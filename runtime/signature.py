"""Checking and reading inputs: a generated function for good ones, a slow and thorough one to explain bad ones."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from maiac.ir.dims import Dim, DimLike, Symbol, evaluate, solve, substitute, symbols_of
from maiac.ir.dtypes import DType
from maiac.ir.errors import MaiaError, raise_all
from maiac.ir.graph import Module
from maiac.ir.ops.values import FROM_TORCH, TORCH, QTensor
from maiac.ir.types import DimType, OptionalType, Quantized, SequenceType, TensorType, Type, UnrankedType

from .placement import Placement

Sizes = tuple[int, ...]


class SymbolNames:
    """Python names for symbols: their own, unless that is a keyword or one of ours (those begin with ``_``)."""

    def __init__(self, symbols: Sequence[str]) -> None:
        taken = {s for s in symbols if _usable(s)}
        self.names: dict[str, str] = {}
        for symbol in symbols:
            name = symbol
            while not _usable(name) or (name != symbol and name in taken):
                name = "s" + name
            taken.add(name)
            self.names[symbol] = name
        self.renamed = {s: Dim((((n,), 1),)) for s, n in self.names.items() if n != s}

    def __getitem__(self, symbol: str) -> str:
        return self.names.get(symbol, symbol)

    def expression(self, dim: DimLike) -> str:
        """The dim as a Python expression."""
        return str(substitute(dim, self.renamed) if self.renamed else dim)


def _usable(name: str) -> bool:
    return not (name.startswith("_") or keyword.iskeyword(name) or name in ("min", "max", "float", "len", "int"))


class InputSignature:
    """The parameters of a program on one rank.

    ``symbols`` are the names that inputs determine, in the order of ``bind``'s result.
    """

    def __init__(self, module: Module, placement: Placement, known: Mapping[str, int]) -> None:
        self.module = module
        self.args = module.main.args
        self.placement = placement
        self.known = dict(known)
        self.names = SymbolNames([*module.symbols])
        self.symbols: list[str] = []
        self._bind = self._compile()

    def bind(self, inputs: Sequence[Any]) -> tuple[Sequence[Any], Sizes]:
        """The inputs as the program takes them, and the symbols' values. MAIA0501, MAIA0502 where they do not fit."""
        try:
            sizes = self._bind(*inputs)
        except (AttributeError, TypeError):
            sizes = None
        if sizes is not None:
            return inputs, sizes
        if len(inputs) != len(self.args):
            names = ", ".join(f"{self.name(i)}: {a.type}" for i, a in enumerate(self.args))
            raise MaiaError(
                "MAIA0501", f"the program takes {len(self.args)} inputs ({names}), but {len(inputs)} are given"
            )
        converted = [_convert(v, a.type) for v, a in zip(inputs, self.args, strict=True)]
        try:
            sizes = self._bind(*converted)
        except (AttributeError, TypeError):
            sizes = None
        if sizes is None:
            raise_all("MAIA0502", "the inputs do not fit the program", self.faults(converted))
        assert sizes is not None, "the quick check refuses inputs that the thorough one takes"
        return converted, sizes

    def name(self, index: int) -> str:
        """What messages call an input."""
        return self.args[index].name or f"#{index}"

    # **** the quick check, as generated Python ****

    def _compile(self) -> Callable[..., Sizes | None]:
        self.found = dict.fromkeys(self.known, "")
        self.space: dict[str, Any] = {"QTensor": QTensor}
        self.late: list[tuple[str, DimLike]] = []
        lines: list[str] = []
        for i, arg in enumerate(self.args):
            lines += self._check(f"_a{i}", arg.type)
        left = None
        while left != len(self.late):
            left = len(self.late)
            late, self.late = self.late, []
            for actual, dim in late:
                lines += self._dim(actual, dim)
        # What is left has several unknowns: it is checked once the others have told them, or never.
        for symbol in self.symbols:
            lines += self._range(symbol)
        params = ", ".join(f"_a{i}" for i in range(len(self.args)))
        known = [f"    {self.names[s]} = {n}" for s, n in self.known.items()]
        result = "".join(f"{self.names[s]}, " for s in self.symbols)
        text = "\n".join([f"def bind({params}):", *known, *(f"    {line}" for line in lines), f"    return ({result})"])
        exec(compile(text, "<maiac input check>", "exec"), self.space)  # our own text, from names that we made
        return self.space["bind"]

    def _check(self, actual: str, type: Type) -> list[str]:
        match type:
            case DimType():
                wrong = f"if {actual}.__class__ is not int: return None"
                return [wrong, *self._dim(actual, type.value)]
            case SequenceType():
                return [f"if {actual}.__class__ is not list: return None"]
            case OptionalType() | UnrankedType():
                return []
            case TensorType(dtype=DType.STR):
                return []
            case TensorType():
                return self._check_tensor(actual, type)

    def _check_tensor(self, actual: str, type: TensorType) -> list[str]:
        if isinstance(type.dtype, Quantized):
            self.space[f"_t{actual}"] = type.dtype
            lines = [f"if {actual}.__class__ is not QTensor or {actual}.type != _t{actual}: return None"]
        else:
            self.space[f"_t{actual}"] = TORCH.get(type.dtype)
            # Machine code reads what lies at the tensor's address: not another device, not numbers to be negated.
            lines = [f"if {actual}.dtype is not _t{actual} or not {actual}.is_cpu or {actual}.is_neg(): return None"]
        lines += [f"_s{actual} = {actual}.shape", f"if len(_s{actual}) != {type.rank}: return None"]
        for i, dim in enumerate(type.dims):
            pieces = self.placement.pieces(type, i)
            lines += self._dim(f"_s{actual}[{i}]" + (f" * {pieces}" if pieces > 1 else ""), dim)
        return lines

    def _dim(self, actual: str, dim: DimLike) -> list[str]:
        unknown = symbols_of(dim) - self.found.keys()
        if not unknown:
            return [f"if {actual} != {self.names.expression(dim)}: return None"]
        symbol = next(iter(unknown))
        expression = inverse(dim, symbol, actual, self.names) if len(unknown) == 1 else None
        if expression is None:
            self.late.append((actual, dim))
            return []
        self.symbols.append(symbol)
        self.found[symbol] = actual
        lines = [f"{self.names[symbol]} = {expression}"]
        if str(dim) != symbol:
            lines.append(f"if {actual} != {self.names.expression(dim)}: return None")
        return lines

    def _range(self, symbol: str) -> list[str]:
        declared, name = self.module.symbols.get(symbol), self.names[symbol]
        outside = "" if declared is None else range_test(declared, name)
        return [f"if {outside}: return None"] if outside else []

    # **** the thorough check ****

    def faults(self, inputs: Sequence[Any]) -> list[str]:
        """Everything that is wrong with these inputs, one line each."""
        faults: list[str] = []
        sizes: list[tuple[str, int, DimLike]] = []
        for i, (value, arg) in enumerate(zip(inputs, self.args, strict=True)):
            faults += self._kind_fault(f"input {self.name(i)}", value, arg.type, sizes)
        env, origin = dict(self.known), dict.fromkeys(self.known, "the states")
        for where, size, dim in _until_stable(sizes, env, origin):
            if symbols_of(dim) <= env.keys():
                want = evaluate(dim, env)
                told = "; ".join(f"{s} = {env[s]} from {origin[s]}" for s in sorted(symbols_of(dim)))
                if want != size:
                    faults.append(f"{where} is {size}; expected {dim}" + (f" = {want} ({told})" if told else ""))
            elif _linear(substitute(dim, env), self.names):
                faults.append(f"{where} is {size}, which {dim} cannot be")
        given = {where: (size, dim) for where, size, dim in sizes}
        for symbol, value in env.items():
            declared = self.module.symbols.get(symbol)
            if declared is not None and symbol not in self.known and not declared.admits(value):
                allowed, (size, dim) = str(declared).removeprefix("sym "), given[origin[symbol]]
                told = "" if str(dim) == symbol else f" is {size}, which"
                faults.append(f"{origin[symbol]}{told} makes {symbol} = {value}; expected {allowed}")
        return faults

    def _kind_fault(self, where: str, value: Any, type: Type, sizes: list[tuple[str, int, DimLike]]) -> list[str]:
        match type:
            case DimType():
                if isinstance(value, int) and not isinstance(value, bool):
                    sizes.append((where, value, type.value))
                    return []
            case SequenceType():
                if isinstance(value, list):
                    return []
            case OptionalType() | UnrankedType():
                return []
            case TensorType():
                if isinstance(value, (torch.Tensor, QTensor)) and _type_fits(value, type):
                    for i, (size, dim) in enumerate(zip(value.shape, type.dims, strict=True)):
                        sizes.append((f"dim {i} of {where}", size * self.placement.pieces(type, i), dim))
                    return []
        return [f"{where} is {describe(value)}; expected {type}"]


def _type_fits(value: torch.Tensor | QTensor, type: TensorType) -> bool:
    if value.ndim != type.rank:
        return False
    if isinstance(value, QTensor):
        return value.type == type.dtype
    return not isinstance(type.dtype, Quantized) and value.dtype == TORCH.get(type.dtype) and value.is_cpu


def range_test(symbol: Symbol, name: str, least: int | None = None) -> str:
    """A Python condition that a number is outside a symbol's range, where it is ``least`` or more; empty if never."""
    tests = [f"{name} < {symbol.low}"] if least is None or symbol.low > least else []
    tests += [f"{name} > {symbol.high}"] if symbol.high is not None else []
    tests += [f"{name} % {symbol.step}"] if symbol.step != 1 else []
    return " or ".join(tests)


def inverse(dim: DimLike, symbol: str, actual: str, names: SymbolNames) -> str | None:
    """A Python expression for ``symbol`` where ``dim`` equals ``actual``; None where the dim is not linear in it."""
    assert isinstance(dim, Dim)
    if str(dim) == symbol:
        return actual
    factor = 0
    rest: DimLike = dim
    for monomial, coefficient in dim.terms:
        if monomial == (symbol,):
            factor = coefficient
            rest = dim - coefficient * Dim((((symbol,), 1),))
    if not factor or symbol in symbols_of(rest):
        return None
    gap = actual if rest == 0 else f"({actual} - ({names.expression(rest)}))"
    return gap if factor == 1 else f"{gap} // {factor}"


def _linear(dim: DimLike, names: SymbolNames) -> bool:
    """Whether a size would tell the only symbol of this dim."""
    unknown = symbols_of(dim)
    return len(unknown) == 1 and inverse(dim, next(iter(unknown)), "", names) is not None


def _until_stable(
    sizes: list[tuple[str, int, DimLike]], env: dict[str, int], origin: dict[str, str]
) -> list[tuple[str, int, DimLike]]:
    """Solve dims for symbols until nothing new is found; the dims that then remain to be compared."""
    left, before = sizes, -1
    solved: list[tuple[str, int, DimLike]] = []
    while len(left) != before:
        before, again = len(left), list[tuple[str, int, DimLike]]()
        for where, size, dim in left:
            found = solve(dim, size, env) if symbols_of(dim) - env.keys() else None
            if found is None:
                again.append((where, size, dim))
                continue
            env[found[0]], origin[found[0]] = found[1], where
            solved.append((where, size, dim))
        left = again
    return left


def describe(value: Any) -> str:
    """A value's type as the IR writes it, where it has one."""
    if isinstance(value, torch.Tensor):
        name = FROM_TORCH.get(value.dtype)
        return f"{name or value.dtype}{list(value.shape)}" + ("" if value.is_cpu else f" on {value.device}")
    if isinstance(value, QTensor):
        return f"{value.type}{list(value.shape)}"
    if isinstance(value, (bool, int, float, str)) or value is None:
        return f"{type(value).__name__} {value!r}" if value is not None else "None"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__} of {len(value)}"
    return f"a {type(value).__module__}.{type(value).__qualname__}"


def _convert(value: Any, type: Type) -> Any:
    """Arrays and numbers as tensors, where the parameter is one; anything else as it is."""
    match type:
        case SequenceType():
            return [_convert(v, type.element) for v in value] if isinstance(value, (list, tuple)) else value
        case OptionalType():
            return None if value is None else _convert(value, type.element)
        case DimType():
            return int(value) if isinstance(value, np.integer) else value
        case TensorType(dtype=DType.STR):
            return value
        case TensorType() | UnrankedType():
            if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and not _shareable(value)):
                value = np.array(value)
            if isinstance(value, np.ndarray) and value.dtype.kind in "biufcV":
                return from_array(value)
            if isinstance(value, (bool, int, float, complex)) and isinstance(type, TensorType) and not type.rank:
                return torch.tensor(value, dtype=TORCH.get(type.element))
            return value.resolve_neg() if isinstance(value, torch.Tensor) else value


def _shareable(array: np.ndarray[Any, Any]) -> bool:
    """Whether torch can use the array's memory: writable, native byte order, no negative strides."""
    return array.flags.writeable and array.dtype.isnative and all(s >= 0 for s in array.strides)


def from_array(array: np.ndarray[Any, Any]) -> Any:
    """A tensor over an array's memory; ml_dtypes' element types by their bits. Other arrays as they are."""
    if array.dtype.name in _ML_DTYPES:
        bits = torch.from_numpy(array.view(np.dtype(f"u{array.dtype.itemsize}")))
        return bits.view(getattr(torch, array.dtype.name))
    return array if array.dtype.kind == "V" else torch.from_numpy(array)


# Element types of ml_dtypes that torch has under the same name.
_ML_DTYPES = frozenset(
    {"bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"}
)
