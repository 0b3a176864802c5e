"""Contents of weights that fusions make of others: scaled, shifted, joined. Computed at each read, never kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from maiac.ir import DType, Module, State, TensorType, Value, Weight
from maiac.ir.graph import TensorData

Slices = tuple[slice, ...]


def constant_weight(value: Value | None) -> Weight | None:
    """The value, if it is a weight that never changes."""
    return value if isinstance(value, Weight) and not isinstance(value, State) else None


def plain_type(weight: Weight) -> TensorType | None:
    """The type of a weight of real numbers, whole on every rank."""
    type = weight.type
    if not isinstance(type, TensorType) or not isinstance(type.dtype, DType) or not type.dtype.is_float:
        return None
    return None if type.is_sharded or not type.is_static else type


@dataclass(frozen=True, slots=True)
class Vector:
    """A number for each channel: ``scale`` [c], ``scale * x + shift`` in double precision.

    Of a batch norm, the scale is g / sqrt(var + eps) and the shift b - mean * scale.
    """

    g: TensorData | None = None
    b: TensorData | None = None
    mean: TensorData | None = None
    var: TensorData | None = None
    eps: float = 0.0

    def scale(self) -> Any:
        """What channels are multiplied by; None where that is 1."""
        g = None if self.g is None else self.g.load().double().reshape(-1)
        if self.var is None:
            return g
        root = (self.var.load().double() + self.eps).rsqrt()
        return root if g is None else g * root

    def shift(self) -> Any:
        """What is added to channels after that; None where it is nothing."""
        b = None if self.b is None else self.b.load().double().reshape(-1)
        if self.mean is None:
            return b
        moved = self.mean.load().double() * self.scale()
        return -moved if b is None else b - moved


@dataclass(frozen=True, slots=True)
class ScaledData:
    """A tensor times a factor for each index of a dim."""

    source: TensorData
    factors: Vector
    dim: int

    def load(self) -> Any:
        """The whole product, in the dtype of the source."""
        return self._times(self.source.load(), slice(None))

    def load_slice(self, slices: Slices) -> Any:
        """A part; reads no more of the source."""
        own = slices[self.dim] if self.dim < len(slices) else slice(None)
        return self._times(self.source.load_slice(slices), own)

    def _times(self, x: Any, own: slice) -> Any:
        scale = self.factors.scale()
        if scale is None:
            return x
        shape = [-1 if d == self.dim else 1 for d in range(x.ndim)]
        return (x.double() * scale[own].reshape(shape)).to(x.dtype)


@dataclass(frozen=True, slots=True)
class ScaleData:
    """The scale of a vector as a tensor of some shape and dtype."""

    factors: Vector
    shape: tuple[int, ...]
    dtype: DType

    def load(self) -> Any:
        """The factors."""
        return _rounded(self.factors.scale(), self.dtype).reshape(self.shape)

    def load_slice(self, slices: Slices) -> Any:
        """A part, in storage of its own."""
        return self.load()[slices].clone()


@dataclass(frozen=True, slots=True)
class ShiftedData:
    """A bias after scale and shift: ``bias * scale + shift``."""

    bias: TensorData | None
    factors: Vector
    shape: tuple[int, ...]
    dtype: DType

    def load(self) -> Any:
        """The new bias."""
        scale, total = self.factors.scale(), self.factors.shift()
        if self.bias is not None:
            bias = self.bias.load().double()
            bias = bias if scale is None else bias * scale
            total = bias if total is None else bias + total
        return _rounded(total, self.dtype).reshape(self.shape)

    def load_slice(self, slices: Slices) -> Any:
        """A part, in storage of its own."""
        return self.load()[slices].clone()


def _rounded(x: Any, dtype: DType) -> Any:
    from maiac.ir.ops.values import to_torch  # late: it imports torch

    return x.to(to_torch(dtype))


@dataclass(frozen=True, slots=True)
class ZeroData:
    """Zeros of a shape; ``like`` says the dtype."""

    shape: tuple[int, ...]
    like: TensorData

    def load(self) -> Any:
        """The zeros."""
        return self.like.load().new_zeros(self.shape)

    def load_slice(self, slices: Slices) -> Any:
        """A part of them."""
        return self.load()[slices].clone()


@dataclass(frozen=True, slots=True)
class JoinedData:
    """Tensors joined along their first dim; ``sizes`` are theirs there. Quantized ones join codes and scales."""

    parts: tuple[TensorData, ...]
    sizes: tuple[int, ...]

    def load(self) -> Any:
        """The whole."""
        return _join([part.load() for part in self.parts])

    def load_slice(self, slices: Slices) -> Any:
        """A part; reads what it needs of each tensor."""
        start, stop, _ = (slices[0] if slices else slice(None)).indices(sum(self.sizes))
        found: list[Any] = []
        at = 0
        for part, size in zip(self.parts, self.sizes, strict=True):
            low, high = max(start - at, 0), min(stop - at, size)
            if low < high:
                found.append(part.load_slice((slice(low, high), *slices[1:])))
            at += size
        return _join(found) if found else self.load()[slices].clone()


def _join(parts: Sequence[Any]) -> Any:
    import torch

    if not hasattr(parts[0], "codes"):
        return torch.cat(list(parts))
    from maiac.ir.ops.values import QTensor  # late: it imports torch

    zero = None if parts[0].zero_point is None else torch.cat([p.zero_point for p in parts])
    return QTensor(torch.cat([p.codes for p in parts]), torch.cat([p.scale for p in parts]), zero, parts[0].type)


def has_data(*weights: Weight | None) -> bool:
    """Whether all these weights have contents."""
    return all(w is None or w.data is not None for w in weights)


def drop_read(module: Module, weights: Sequence[Weight | None]) -> None:
    """Forget weights that nobody reads any more."""
    for weight in weights:
        if weight is not None and not weight.uses and module.weights.get(weight.name) is weight:
            del module.weights[weight.name]
