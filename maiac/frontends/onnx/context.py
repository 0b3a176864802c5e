"""What a handler sees: one node, its operands as IR values or as known numbers, and ways to emit operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import onnx_ir
import torch

from maiac.ir import Block, Dim, DimLike, DType, Module, Op, TensorType, Type, UnrankedType, Value
from maiac.ir.dims import sym
from maiac.ir.errors import MaiaError
from maiac.ir.graph import Location
from maiac.ir.ops.values import FROM_TORCH
from maiac.runtime.weights import HeldTensor

from .known import INTEGERS, LIMIT, Array, Known, from_numpy, is_static
from .types import dtype_of

if TYPE_CHECKING:
    from .importer import Importer


@dataclass(slots=True, eq=False)
class Slot:
    """What the importer holds for an ONNX value: an IR value, or elements known without one."""

    dtype: DType | None = None
    value: Value | None = None
    known: Array | None = None
    tensor: onnx_ir.TensorProtocol | None = None
    items: list[Slot] | None = None  # a sequence whose members are known while importing
    dims: dict[Block, tuple[Dim, ...]] = field(default_factory=dict)  # symbols bound to the elements, by block
    turned: Value | None = None  # a matrix as a weight with its dims swapped
    made: dict[Block, Value] = field(default_factory=dict)  # where a known value was written out


class NodeContext:
    """One node while it is imported. Operands are numbered as in the ONNX specification."""

    def __init__(self, importer: Importer, node: onnx_ir.Node, opset: int, attrs: dict[str, onnx_ir.Attr]) -> None:
        self.importer = importer
        self.node = node
        self.opset = opset
        self.attrs = attrs
        self.inputs: list[Slot | None] = [None if v is None else importer.slot(v) for v in node.inputs]

    @property
    def op(self) -> str:
        """The operator's name."""
        return self.node.op_type

    @property
    def module(self) -> Module:
        """The module that is being made."""
        return self.importer.module

    @property
    def outputs(self) -> int:
        """How many outputs the node has, trailing absent ones left out."""
        named = [i for i, v in enumerate(self.node.outputs) if v.name]
        return named[-1] + 1 if named else 0

    def wants(self, index: int) -> bool:
        """Whether the node has this output."""
        return index < len(self.node.outputs) and bool(self.node.outputs[index].name)

    # **** operands ****

    def has(self, index: int) -> bool:
        """Whether the operand is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def slot(self, index: int) -> Slot:
        """The operand's slot; MAIA0223 where it is missing."""
        if not self.has(index):
            self.fail(f"input {index} is missing", "MAIA0223")
        slot = self.inputs[index]
        assert slot is not None
        return slot

    def __getitem__(self, index: int) -> Value:
        return self.importer.value_of(self.slot(index))

    def opt(self, index: int) -> Value | None:
        """The operand as a value, or None where it is not given."""
        return self[index] if self.has(index) else None

    def values(self) -> list[Value]:
        """All operands as values."""
        return [self[i] for i in range(len(self.inputs))]

    def type(self, index: int) -> TensorType:
        """The operand's type, which must be a tensor."""
        slot = self.slot(index)
        if slot.value is None and slot.known is not None:
            assert slot.dtype is not None
            return TensorType(slot.dtype, slot.known.shape)
        found = self[index].type
        if not isinstance(found, TensorType):
            self.fail(f"input {index} is {found}; expected a tensor", "MAIA0223")
        return found

    def dtype(self, index: int) -> DType:
        """The operand's element type."""
        slot = self.slot(index)
        if slot.dtype is not None:
            return slot.dtype
        return self.type(index).element

    def rank(self, index: int) -> int:
        """The operand's number of dims."""
        return self.type(index).rank

    def shape(self, index: int, rank: int | None = None) -> tuple[DimLike, ...]:
        """The operand's dims; MAIA0223 where they are not ``rank`` many."""
        type = self.type(index)
        if rank is not None and type.rank != rank:
            self.fail(f"input {index} is {type}; expected {rank} dims", "MAIA0223")
        return type.dims

    def known(self, index: int) -> Array | None:
        """The elements of a small integer operand, where they are known."""
        slot = self.slot(index)
        if slot.known is None and slot.tensor is not None and slot.dtype in INTEGERS:
            slot.known = from_numpy(slot.tensor.numpy()) if slot.tensor.size <= 1024 else None
        return slot.known

    def constant(self, index: int) -> np.ndarray[Any, Any] | None:
        """The operand as a NumPy array where it is constant."""
        slot = self.slot(index)
        if slot.tensor is not None:
            return slot.tensor.numpy()
        if slot.known is not None and is_static(slot.known):
            return np.asarray(slot.known, np.bool_ if slot.dtype is DType.BOOL else np.int64)
        return None

    def dims(self, index: int) -> tuple[DimLike, ...] | None:
        """The elements of an integer operand as dims, bound at run time where need be; None if not even their
        number is known."""
        known = self.known(index)
        if known is not None:
            return tuple(known.flat)
        type = self.type(index)
        if type.rank > 1 or not type.is_static or type.dims > (LIMIT,):
            return None
        bound = self.slot(index).dims
        for block in self.importer.scopes:
            if block in bound:
                return bound[block]
        count = type.dims[0] if type.rank else 1
        assert isinstance(count, int)
        made = tuple(sym(self.module.fresh_symbol("n", low=-(2**63)).name) for _ in range(count))
        if made:
            self.emit_op("bind", self[index], to=made)
        bound[self.importer.builder.block] = made
        return made

    def static(self, index: int) -> tuple[int, ...] | None:
        """The elements of an integer operand where all are known numbers."""
        known = self.known(index) if self.has(index) else None
        return None if known is None or not is_static(known) else tuple(int(v) for v in known.flat)

    # **** attributes ****

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute's value: int, float, str, list, tensor or graph."""
        found = self.attrs.get(name)
        if found is None:
            return default
        value = found.value
        if not isinstance(value, bytes):
            return value
        try:
            return value.decode()
        except UnicodeDecodeError:
            self.fail(f"the attribute {name!r} is no text: {value!r}", "MAIA0223")

    def need(self, name: str) -> Any:
        """The value of an attribute without a default; MAIA0223 where it is missing."""
        found = self.attr(name)
        return self.fail(f"the attribute {name!r} is missing", "MAIA0223") if found is None else found

    def choice(self, name: str, default: Any, options: Sequence[Any]) -> Any:
        """An attribute of few values; MAIA0223 where it has none of them."""
        found = self.attr(name, default)
        if found not in options:
            self.fail(f"{name} is {found!r}; expected one of {', '.join(map(str, options))}", "MAIA0223")
        return found

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings; empty where it is not given."""
        try:
            return tuple(v.decode() if isinstance(v, bytes) else str(v) for v in self.attr(name) or ())
        except UnicodeDecodeError:
            self.fail(f"the attribute {name!r} holds what is no text", "MAIA0223")

    def same_length(self, **lists: Sequence[Any]) -> None:
        """MAIA0223 where lists that belong together differ in length."""
        if len({len(given) for given in lists.values()}) > 1:
            told = ", ".join(f"{name} has {len(given)}" for name, given in lists.items())
            self.fail(f"its lists differ in length: {told}", "MAIA0223")

    def ints(self, name: str) -> list[int] | None:
        """A list of integers; None where it is not given."""
        found = self.attr(name)
        return None if found is None else [int(v) for v in found]

    def tensor_attr(self, name: str) -> np.ndarray[Any, Any] | None:
        """A tensor attribute as a NumPy array."""
        found = self.attr(name)
        return None if found is None else found.numpy()

    def axes(self, index: int = 1, name: str = "axes") -> tuple[DimLike, ...] | None:
        """Axes given as an attribute (old opsets) or as an operand; None where neither is."""
        given = self.ints(name)
        if given is not None:
            return tuple(given)
        return self.dims(index) if self.has(index) else None

    def cast_target(self) -> DType:
        """The dtype that the ``to`` attribute names."""
        return dtype_of(self.attr("to", 1))

    # **** emitting ****

    def emit(self, name: str, *operands: Value | None, **attrs: Any) -> Value:
        """Append an operation with one result."""
        return self.importer.builder.emit(name, *operands, **attrs)

    def emit_op(self, name: str, *operands: Value | None, regions: Sequence[Block] = (), **attrs: Any) -> Op:
        """Append an operation with any number of results."""
        return self.importer.builder.emit_op(name, operands, attrs, regions)

    def const(self, value: bool | int | float, dtype: DType, shape: tuple[int, ...] = ()) -> Value:
        """A constant tensor of one number."""
        return self.emit("constant", value=value, dtype=dtype, shape=shape)

    def const_like(self, value: bool | int | float, x: Value) -> Value:
        """A constant of rank 0 with the element type of x."""
        return self.const(value, tensor_type(x).element)

    def array(self, values: Sequence[bool | int | float], dtype: DType) -> Value:
        """A constant vector."""
        return self.emit("constant", value=tuple(values), dtype=dtype, shape=(len(values),))

    def cast(self, x: Value, to: DType) -> Value:
        """x with another element type; x itself where it has it."""
        return x if tensor_type(x).element is to else self.emit("cast", x, to=to)

    def table(self, name: str, array: np.ndarray[Any, Any]) -> Value:
        """Numbers of the node's attributes as a weight."""
        held = torch.from_numpy(np.ascontiguousarray(array))
        label = f"{self.node.name or self.node.outputs[0].name}.{name}"
        type = TensorType(FROM_TORCH[held.dtype], tuple(array.shape))
        return self.module.add_weight(label, type, HeldTensor(held))

    def reshape(self, x: Value, shape: Sequence[DimLike]) -> Value:
        """x under other dims; x itself where it has them."""
        return x if tensor_type(x).dims == tuple(shape) else self.emit("reshape", x, shape=tuple(shape))

    def transpose(self, x: Value, perm: Sequence[int]) -> Value:
        """x with its dims reordered; x itself where the order stays."""
        return x if list(perm) == list(range(len(perm))) else self.emit("transpose", x, perm=tuple(perm))

    def dim(self, index: int, at: int) -> int:
        """A dim that must be a number."""
        size = self.shape(index)[at]
        if not isinstance(size, int):
            self.fail(f"dim {at} of input {index} is {size}; this operator needs it as a number")
        return size

    def hinted_rank(self, index: int = 0) -> int | None:
        """The number of dims that the file gives for an output."""
        shape = self.node.outputs[index].shape
        return None if shape is None else len(shape)

    def fail(self, message: str, code: str = "MAIA0225") -> NoReturn:
        """Refuse the node: MAIA0225 unless told otherwise."""
        raise MaiaError(code, f"{self.op}: {message}", loc=self.loc)

    @property
    def loc(self) -> Location:
        """Where the node is in the file."""
        return self.importer.location(self.node)

    def region(self, graph: onnx_ir.Graph, args: Sequence[Type]) -> Block:
        """A subgraph as a region whose parameters have these types."""
        return self.importer.import_region(graph, args)


def tensor_type(value: Value) -> TensorType:
    """The type of a value that must be a tensor: MAIA0223, or MAIA0225 where only its rank is missing."""
    if isinstance(value.type, UnrankedType):
        raise MaiaError("MAIA0225", f"the number of dims of {value} is not known")
    if not isinstance(value.type, TensorType):
        raise MaiaError("MAIA0223", f"{value} is {value.type}; expected a tensor")
    return value.type


__all__ = ["Known", "NodeContext", "Slot", "tensor_type"]
