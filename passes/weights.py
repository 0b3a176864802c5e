"""Weights made of other weights: transposed, cut or quantized when they are read, never before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from maiac.ir import Module, Quantized, TensorType, Weight
from maiac.ir.graph import TensorData

Slices = tuple[slice, ...]

PHASES = 8  # scales tried for a channel of 8-bit floats


@dataclass(frozen=True, slots=True)
class TransposedData:
    """The transpose of a matrix: a view of its source."""

    source: TensorData

    def load(self) -> Any:
        """The whole transpose."""
        return self.source.load().mT

    def load_slice(self, slices: Slices) -> Any:
        """A part of the transpose; reads the same part of the source."""
        rows, columns = (*slices, slice(None), slice(None))[:2]
        return self.source.load_slice((columns, rows)).mT


@dataclass(frozen=True, slots=True)
class CutData:
    """Rows ``start`` to ``stop`` of dim ``dim`` of a tensor: a view of its source."""

    source: TensorData
    dim: int
    start: int
    stop: int

    def load(self) -> Any:
        """The whole cut; of a quantized source a copy, as its scales are cut too."""
        whole, rows = self.source.load(), (*[slice(None)] * self.dim, slice(self.start, self.stop))
        return whole.part(rows) if hasattr(whole, "codes") else whole[rows]

    def load_slice(self, slices: Slices) -> Any:
        """A part of the cut; reads no more of the source."""
        cuts = [*slices, *[slice(None)] * (self.dim + 1 - len(slices))]
        start, stop, _ = cuts[self.dim].indices(self.stop - self.start)
        cuts[self.dim] = slice(self.start + start, self.start + stop)
        return self.source.load_slice(tuple(cuts))


@dataclass(frozen=True, slots=True)
class QuantizedData:
    """A tensor rounded to a type with a scale per channel: the greatest magnitude becomes the greatest code.

    A float's relative rounding error hardly depends on its size, but on where in its octave it lies. So for 8-bit
    floats PHASES scales within the octave above are tried, and each channel takes the one of least squared error.

    Computed at each read rather than kept: an artifact's writer reads each weight once, and a model that only just
    fits need not fit twice.
    """

    source: TensorData
    type: Quantized

    def load(self) -> Any:
        """Codes and scales of the whole tensor, a ``QTensor``."""
        return self._encode(self.source.load())

    def load_slice(self, slices: Slices) -> Any:
        """A part. Reads no more than that where each of its scales belongs to it alone, else the whole."""
        (own,) = self.type.at if self.type.per == "channel" else (None,)
        if all(cut == slice(None) for dim, cut in enumerate(slices) if dim != own):
            return self._encode(self.source.load_slice(slices))
        return self.load().part(slices)

    def _encode(self, x: Any) -> Any:
        from maiac.ir.ops.quant import absmax_scale, encode  # late: it imports torch

        scale = absmax_scale(x, self.type)
        if not self.type.storage.is_float or self.type.per != "channel":
            return encode(x, self.type, scale)
        dims = [d for d in range(x.ndim) if d not in self.type.at]
        best, least = scale, (encode(x, self.type, scale).dequantize(x.dtype) - x).square().sum(dims, keepdim=True)
        for phase in range(1, PHASES):
            tried = scale * 2 ** (phase / PHASES)
            error = (encode(x, self.type, tried).dequantize(x.dtype) - x).square().sum(dims, keepdim=True)
            best, least = tried.where(error < least, best), error.minimum(least)
        return encode(x, self.type, best)


def transposed(module: Module, weight: Weight) -> Weight:
    """A new weight that is the transpose of a matrix; the old one stays until nobody uses it."""
    assert isinstance(weight.type, TensorType)
    data = None if weight.data is None else TransposedData(weight.data)
    return module.add_weight(weight.name, weight.type.with_dims(weight.type.dims[::-1]), data, **weight.attrs)


def cut(module: Module, weight: Weight, dim: int, start: int, stop: int, name: str) -> Weight:
    """A new weight that is a run of rows along a dim of another one."""
    assert isinstance(weight.type, TensorType)
    dims = [*weight.type.dims]
    dims[dim] = stop - start
    data = None if weight.data is None else CutData(weight.data, dim, start, stop)
    return module.add_weight(name, weight.type.with_dims(dims), data, **weight.attrs)


def drop_unused(module: Module, weight: Weight, heir: Weight | None = None) -> None:
    """Forget a weight that nobody uses; ``heir`` takes its name and place, so that reports name what users know."""
    if weight.uses or module.weights.get(weight.name) is not weight:
        return
    if heir is None:
        del module.weights[weight.name]
        return
    kept = [heir if w is weight else w for w in module.weights.values() if w is not heir]
    heir.name = weight.name
    module.weights.clear()
    module.weights.update((w.name, w) for w in kept)
