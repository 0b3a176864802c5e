"""Quantized weights that a source writes as integers with ``dequantize_linear``: types of their own instead.

ONNX models that were quantized elsewhere keep a weight as i8 codes, a scale and a ``DequantizeLinear`` before each use.
Where an op's definition lets that operand be quantized, the codes become a weight of type ``channel<i8, 0>`` or
``tensor<i8>``: as small as the file has them, and visible to every pass. The result differs from that of dequantized
weights by the rounding of one product. Codes with zero points, scales along other dims, and activations stay as they
are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from maiac.ir import Builder, DType, Module, Op, Quantized, State, TensorType, Value, Weight, get_op
from maiac.ir.graph import TensorData

from ..pattern import producer
from ..rewrite import Miss, explainable, note_miss

NAME = "qdq_weight"
explainable(NAME, "Fold dequantize_linear of a constant i8 weight into the weight's type.")


@dataclass(frozen=True, slots=True)
class CodedData:
    """Codes and scales that lie apart, as one ``QTensor``; ``flipped``: the transpose of a matrix of codes."""

    codes: TensorData
    scale: Any  # TensorData, or the numbers that the text holds
    type: Quantized
    flipped: bool

    def load(self) -> Any:
        """The whole tensor; codes are a view of what the source holds."""
        import torch

        from maiac.ir.ops.values import QTensor

        codes = self.codes.load()
        codes = codes.mT if self.flipped else codes
        scale: Any = self.scale.load() if hasattr(self.scale, "load") else torch.tensor(self.scale, dtype=torch.float32)
        return QTensor(codes, scale.reshape(self.type.scale_shape(tuple(codes.shape))), None, self.type)

    def load_slice(self, slices: tuple[slice, ...]) -> Any:
        """A part, in storage of its own."""
        return self.load().part(slices)


def fold_qdq(module: Module) -> list[str]:
    """Fold every weight that it can; the names of the weights made."""
    made: dict[tuple[Weight, Weight | Op, Quantized, bool], Weight] = {}
    for op in list(module.walk()):
        for at, source, flipped, channel in _uses(op):
            type = _quantized_type(source, flipped, channel)
            if isinstance(type, Miss):
                note_miss(NAME, op, type)
                continue
            codes, scale = source.operand(0), source.operand(1)
            assert isinstance(codes, Weight)
            key = (codes, scale if isinstance(scale, Weight) else scale.op, type, flipped)  # type: ignore[attr-defined]
            if key not in made:
                made[key] = _weight(module, codes, scale, type, flipped)
            _take(module, op, at, made[key])
    return [w.name for w in made.values()]


def _uses(op: Op) -> Iterator[tuple[int, Op, bool, int]]:
    """(operand, the dequantize_linear behind it, whether transposed on the way, channel dim) of a product."""
    if op.name in ("return", "yield", "call"):
        return
    fact = get_op(op.name).quant
    if fact is None and op.name != "matmul":
        return
    at, channel = (1, 0) if fact is None else (_place(op, fact.operand), fact.channel)
    value, flipped = op.operands[at], op.name == "matmul"
    turn = producer(value, "transpose")
    if turn is not None and turn.attrs["perm"] == (1, 0):
        value, flipped = turn.operands[0], not flipped
    source = producer(value, "dequantize_linear")
    if source is not None:
        yield at, source, flipped, channel


def _place(op: Op, operand: str) -> int:
    return [term.name for term in get_op(op.name).signature.operands].index(operand)


def _quantized_type(source: Op, flipped: bool, channel: int) -> Quantized | Miss:
    """The type of the weight as the product sees it, or why it is none."""
    codes, scale = source.operand(0), source.operand(1)
    type, scales = codes.type, scale.type
    assert isinstance(type, TensorType) and isinstance(scales, TensorType)
    if not isinstance(codes, Weight) or isinstance(codes, State) or type.dtype is not DType.I8:
        return Miss("the codes are no constant i8 weight", codes)
    if type.rank < 2 or (flipped and type.rank != 2):
        return Miss("the codes are no matrix", codes)
    if _numbers(scale) is None or scales.dtype is not DType.F32:
        return Miss("the scales are no constants of f32", scale)
    if source.attrs["to"] is not DType.F32 or source.attrs.get("block", 0):
        return Miss("the scales lie in blocks, or the product is not of f32", scale)
    zero = source.operands[2] if len(source.operands) > 2 else None
    if zero is not None and not _all_zero(zero):
        return Miss("the codes have a zero point", zero)
    if scales.elements() == 1:
        return Quantized(DType.I8, "tensor")
    along = source.attrs.get("dim", 0)
    assert isinstance(along, int)
    if (1 - along if flipped else along) != channel:
        return Miss(f"the scales lie along dim {along}, not along the output channels", scale)
    return Quantized(DType.I8, "channel", (channel,))


def _numbers(value: Value) -> Any:
    """The contents of a constant: lazy, or the numbers that the text holds; None where the run tells them."""
    if isinstance(value, Weight):
        return None if isinstance(value, State) else value.data
    op = producer(value, "constant")
    return None if op is None else op.attrs["value"]


def _all_zero(value: Value) -> bool:
    numbers = _numbers(value)
    if numbers is None or not hasattr(numbers, "load"):
        return numbers is not None and all(n == 0 for n in (numbers if isinstance(numbers, tuple) else (numbers,)))
    return not bool(numbers.load().any())


def _weight(module: Module, codes: Weight, scale: Value, type: Quantized, flipped: bool) -> Weight:
    assert isinstance(codes.type, TensorType)
    dims = codes.type.dims[::-1] if flipped else codes.type.dims
    data = None if codes.data is None else CodedData(codes.data, _numbers(scale), type, flipped)
    return module.add_weight(f"{codes.name}.i8", TensorType(type, dims), data, **codes.attrs)


def _take(module: Module, op: Op, at: int, weight: Weight) -> None:
    """Let the product read the weight; a matmul becomes a linear."""
    if op.name != "matmul":
        op.set_operand(at, weight)
        return
    assert op.block is not None
    product = Builder(module, op.block, op, op.loc).emit("linear", op.operand(0), weight)
    assert product.type == op.result.type
    op.replace([product])
