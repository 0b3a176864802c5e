"""ONNX types as IR types, and onnx-ir tensors as weight contents."""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import torch

from maiac.ir import Dim, DimLike, DType, Module, OptionalType, SequenceType, Symbol, TensorType, Type, UnrankedType
from maiac.ir.dims import floordiv, maximum, minimum, mod, sym
from maiac.ir.dtypes import BY_NAME
from maiac.ir.errors import MaiaError
from maiac.ir.graph import TensorData
from maiac.ir.ops.values import to_torch
from maiac.ir.printer import KEYWORDS
from maiac.runtime.weights import DerivedTensor, HeldTensor, MappedTensor

DTYPES: dict[int, DType] = {
    1: DType.F32,
    2: DType.U8,
    3: DType.I8,
    4: DType.U16,
    5: DType.I16,
    6: DType.I32,
    7: DType.I64,
    8: DType.STR,
    9: DType.BOOL,
    10: DType.F16,
    11: DType.F64,
    12: DType.U32,
    13: DType.U64,
    14: DType.C64,
    15: DType.C128,
    16: DType.BF16,
    17: DType.F8E4M3FN,
    18: DType.F8E4M3FNUZ,
    19: DType.F8E5M2,
    20: DType.F8E5M2FNUZ,
    21: DType.U4,
    22: DType.I4,
    23: DType.F4E2M1,
    24: DType.E8M0,
    25: DType.U2,
    26: DType.I2,
}
ONNX_DTYPES: dict[DType, int] = {d: n for n, d in DTYPES.items()}

# Element types that a file packs several to a byte, and at run time lie one to a byte.
PACKED = (DType.I4, DType.U4, DType.I2, DType.U2, DType.F4E2M1)
_IDENTIFIER = re.compile(r"[^A-Za-z0-9_]")


def dtype_of(number: int) -> DType:
    """The element type of a TensorProto.DataType; MAIA0226 where there is none."""
    found = DTYPES.get(int(number))
    if found is None:
        raise MaiaError("MAIA0226", f"ONNX element type {int(number)} has no counterpart")
    return found


def element_type(tensor: onnx_ir.TensorProtocol) -> DType:
    """The element type of a tensor in the model; MAIA0226 where it has none that exists."""
    try:
        return dtype_of(tensor.dtype)
    except ValueError as error:
        raise MaiaError("MAIA0226", f"the tensor {tensor.name!r}: {error}") from error


class DimTable:
    """Turns ONNX dims into IR dims; a dim_param is a symbol, or an expression over symbols."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.named: set[str] = set()  # symbols that the inputs' dims are made of

    def known_dim(self, dim: int | onnx_ir.SymbolicDim) -> DimLike | None:
        """One dim in terms of the inputs' symbols; None where it names others."""
        if isinstance(dim, int) or not dim.value:
            return dim if isinstance(dim, int) else None
        try:
            tree = ast.parse(dim.value.strip(), mode="eval").body
        except (SyntaxError, ValueError):
            return None
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} - {"min", "max", "Min", "Max"}
        return self.dim(dim) if names <= self.named else None

    def member_dim(self, dim: int | onnx_ir.SymbolicDim) -> DimLike:
        """One dim of a sequence's members, which may differ between them: a name says nothing about its size."""
        return dim if isinstance(dim, int) else sym(self.module.fresh_symbol("d").name)

    def dim(self, dim: int | onnx_ir.SymbolicDim) -> DimLike:
        """One dim; an unnamed one gets a fresh symbol."""
        if isinstance(dim, int):
            if dim < 0:
                raise MaiaError("MAIA0223", f"a dim of the model is {dim}")
            return dim
        text = dim.value
        if not text:
            return sym(self.module.fresh_symbol("d").name)
        try:
            return self._expression(ast.parse(text.strip(), mode="eval").body)
        except (SyntaxError, ValueError):
            return self.symbol(text)

    def symbol(self, text: str) -> Dim:
        """The symbol of a name, declared when new."""
        name = _IDENTIFIER.sub("_", text)
        if not name or name[0].isdigit():
            name = f"d_{name}"
        if name in BY_NAME or name in KEYWORDS or name in ("min", "max"):
            name += "_"
        if name not in self.module.symbols:
            self.module.symbols[name] = Symbol(name)
        if name == text:
            self.named.add(name)
        return sym(name)

    def _expression(self, node: ast.expr) -> DimLike:
        match node:
            case ast.Constant(value=int(n)):
                return n
            case ast.Name(id=name):
                return self.symbol(name)
            case ast.UnaryOp(op=ast.USub(), operand=x):
                return -self._expression(x)
            case ast.BinOp(left=a, op=op, right=b):
                return self._binary(op, self._expression(a), self._expression(b))
            case ast.Call(func=ast.Name(id=name), args=[a, b]) if name.lower() in ("min", "max"):
                return (minimum if name.lower() == "min" else maximum)(self._expression(a), self._expression(b))
            case _:
                pass
        raise ValueError("not an expression over dims")

    def _binary(self, op: ast.operator, a: DimLike, b: DimLike) -> DimLike:
        match op:
            case ast.Add():
                return a + b
            case ast.Sub():
                return a - b
            case ast.Mult():
                return a * b
            case ast.FloorDiv():
                return floordiv(a, b)
            case ast.Mod():
                return mod(a, b)
            case _:
                pass
        raise ValueError("not an operator over dims")


def convert_type(
    type: onnx_ir.TypeProtocol | None, shape: Any, dims: DimTable, what: str, member: bool = False
) -> Type:
    """The IR type of an ONNX value; MAIA0226 for what cannot be told: no type, no rank, sparse tensors, maps."""
    if isinstance(type, onnx_ir.SequenceType) and isinstance(type.elem_type, onnx_ir.TensorType) and shape is None:
        return SequenceType(UnrankedType(dtype_of(type.elem_type.dtype)))
    if isinstance(type, onnx_ir.SequenceType):
        return SequenceType(convert_type(type.elem_type, shape, dims, what, True))
    if isinstance(type, onnx_ir.OptionalType):
        return OptionalType(convert_type(type.elem_type, shape, dims, what, True))
    if not isinstance(type, onnx_ir.TensorType):
        named = "no type" if type is None else f"type {type}"
        raise MaiaError("MAIA0226", f"{what} has {named}; tensors, sequences and optionals are supported")
    if shape is None:
        raise MaiaError("MAIA0226", f"{what} has no shape; its number of dims must be known")
    of = dims.member_dim if member else dims.dim
    return TensorType(dtype_of(type.dtype), tuple(of(d) for d in shape))


def external_path(tensor: onnx_ir.ExternalTensor) -> Path:
    """Where an external tensor lies; MAIA0222 where that is outside the model's folder, missing or too short."""
    base = Path(tensor.base_dir or ".").resolve()
    path = (base / tensor.location).resolve()
    if not path.is_relative_to(base):
        raise MaiaError("MAIA0222", f"weight {tensor.name!r} points outside the model's folder: {tensor.location}")
    if not path.is_file():
        raise MaiaError("MAIA0222", f"weight {tensor.name!r} lies in {tensor.location}, which is not there")
    end = (tensor.offset or 0) + (tensor.length if tensor.length is not None else tensor.nbytes)
    if path.stat().st_size < end:
        raise MaiaError(
            "MAIA0222",
            f"weight {tensor.name!r} ends at byte {end} of {tensor.location}, which has {path.stat().st_size}",
        )
    return path


@dataclass(frozen=True, slots=True)
class TransposedTensor:
    """A matrix with its dims swapped: a strided view of another one's contents, mapped where that is mapped."""

    source: TensorData

    def load(self) -> torch.Tensor:
        """The view."""
        return self.source.load().t()

    def load_slice(self, slices: tuple[slice, ...]) -> torch.Tensor:
        """A part, in storage of its own."""
        full = (*slices, *[slice(None)] * (2 - len(slices)))
        return self.source.load_slice((full[1], full[0])).t()


def static_shape(tensor: onnx_ir.TensorProtocol) -> tuple[int, ...]:
    """The shape of a tensor that has contents: numbers only."""
    return tuple(d for d in tensor.shape if isinstance(d, int))


def tensor_data(tensor: onnx_ir.TensorProtocol) -> TensorData:
    """The contents of an initializer: memory-mapped where external, else a view of the bytes in the model."""
    dtype = dtype_of(tensor.dtype)
    shape = static_shape(tensor)
    if isinstance(tensor, onnx_ir.ExternalTensor):
        path = external_path(tensor)
        if dtype in PACKED:
            return DerivedTensor(lambda: to_tensor(tensor.numpy(), dtype))
        if shape and not all(shape):
            return HeldTensor(torch.empty(shape, dtype=to_torch(dtype)))
        return MappedTensor(path, tensor.offset or 0, to_torch(dtype), shape)
    return HeldTensor(to_tensor(tensor.numpy(), dtype))


def to_tensor(array: Any, dtype: DType) -> Any:
    """A NumPy array as what runs: a torch tensor over the same memory; strings stay NumPy arrays of objects."""
    if dtype is DType.STR:
        return np.asarray([s.decode() if isinstance(s, bytes) else s for s in np.ravel(array)], object).reshape(
            np.shape(array)
        )
    if dtype in PACKED:
        held = np.uint8 if dtype is DType.F4E2M1 else np.int8 if dtype.family == "int" else np.uint8
        array = array.view(np.uint8) if dtype is DType.F4E2M1 else array.astype(held)
    elif array.dtype.isbuiltin != 1:  # registered by ml_dtypes: torch reads the bits
        array = array.view(f"i{array.dtype.itemsize}")
    array = np.asarray(array)
    if array.dtype.byteorder == ">" or not array.flags.c_contiguous:
        array = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("=")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the memory may be read-only; nothing here writes to weights
        made = torch.from_numpy(array)
    want = to_torch(dtype)
    return made if made.dtype == want else made.view(want)
