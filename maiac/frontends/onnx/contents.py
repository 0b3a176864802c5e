"""IR values of what is known while importing: initializers as weights, small tensors and dims in the text."""

from __future__ import annotations

from typing import Any

import onnx_ir

from maiac.ir import Builder, Dim, DType, Module, TensorType, Value

from .context import Slot
from .types import TransposedTensor, dtype_of, static_shape, tensor_data

SMALL = 8  # constants of up to this many elements are written in the text


def in_text(tensor: onnx_ir.TensorProtocol) -> bool:
    """Whether an initializer or Constant is a constant in the text, not a weight."""
    dtype = dtype_of(tensor.dtype)
    if tensor.size > SMALL or isinstance(tensor, onnx_ir.ExternalTensor):
        return False
    if dtype in (DType.F32, DType.F64, DType.F16, DType.BF16) and tensor.size == 1:
        return abs(float(tensor.numpy().reshape(-1)[0])) != float("inf")
    return dtype.family in ("int", "uint", "bool") and dtype.bits >= 8 and dtype is not DType.U64


def weight(module: Module, tensor: onnx_ir.TensorProtocol) -> Value:
    """An initializer as a weight."""
    type = TensorType(dtype_of(tensor.dtype), static_shape(tensor))
    return module.add_weight(tensor.name or "const", type, tensor_data(tensor))


def transposed_weight(module: Module, slot: Slot) -> Value:
    """A matrix initializer as a weight with its dims swapped: a strided view of the same memory."""
    if slot.turned is None:
        tensor = slot.tensor
        assert tensor is not None
        type = TensorType(dtype_of(tensor.dtype), static_shape(tensor)[::-1])
        slot.turned = module.add_weight(f"{tensor.name or 'const'}.T", type, TransposedTensor(tensor_data(tensor)))
    return slot.turned


def write_out(builder: Builder, slot: Slot) -> Value:
    """Known elements, or those of a small tensor, as a constant, or as dims joined together."""
    if slot.known is None:
        tensor = slot.tensor
        assert tensor is not None
        return _constant(builder, tensor.numpy().reshape(-1).tolist(), static_shape(tensor), dtype_of(tensor.dtype))
    array, dtype = slot.known, slot.dtype
    assert dtype is not None
    items = [bool(v) if dtype is DType.BOOL else v for v in array.flat]
    if not any(isinstance(v, Dim) for v in items):
        return _constant(builder, items, array.shape, dtype)
    parts = [builder.emit("dim_tensor", value=v, dtype=dtype) for v in items]
    if not array.ndim:
        return parts[0]
    rows = [builder.emit("reshape", p, shape=(1,)) for p in parts]
    flat = rows[0] if len(rows) == 1 else builder.emit("concat", *rows, dim=0)
    return flat if array.ndim == 1 else builder.emit("reshape", flat, shape=array.shape)


def _constant(builder: Builder, items: list[Any], shape: tuple[int, ...], dtype: DType) -> Value:
    content = items[0] if len(items) == 1 else tuple(items)
    return builder.emit("constant", value=content, dtype=dtype, shape=shape)
