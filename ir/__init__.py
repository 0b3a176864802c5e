"""Maia IR: types, operations, graph, text form and verifier.

Read in this order: ``dims`` and ``dtypes`` (what a shape is made of), ``types``, ``graph`` (values, ops,
functions, modules), ``opdef`` and ``ops/`` (what each operation means), ``builder``, ``printer``, ``parser``,
``verifier``.
"""

if __name__ != "maiac.ir":
    raise ImportError(f"this package is maiac.ir; importing it as {__name__!r} would make a second copy of every class")

from .builder import Builder
from .dims import Dim, DimLike, Symbol
from .dtypes import DType
from .errors import Location, MaiaError
from .graph import Block, BlockArg, Function, Module, Op, Result, State, Value, Weight
from .opdef import OpDef, get_op, op_names
from .parser import parse
from .printer import print_module, print_type
from .types import DimType, OptionalType, Quantized, SequenceType, TensorType, Type, UnrankedType, tensor
from .verifier import verify

__all__ = [
    "Block",
    "BlockArg",
    "Builder",
    "DType",
    "Dim",
    "DimLike",
    "DimType",
    "Function",
    "Location",
    "MaiaError",
    "Module",
    "Op",
    "OpDef",
    "OptionalType",
    "Quantized",
    "Result",
    "SequenceType",
    "State",
    "Symbol",
    "TensorType",
    "Type",
    "UnrankedType",
    "Value",
    "Weight",
    "get_op",
    "op_names",
    "parse",
    "print_module",
    "print_type",
    "tensor",
    "verify",
]
