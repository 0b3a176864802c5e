"""The contents of weights: held, memory-mapped from a file, or computed when first asked for."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import torch

from maiac.ir.ops.values import QTensor

Slices: TypeAlias = tuple[slice, ...]


@dataclass(slots=True, eq=False)
class HeldTensor:
    """A tensor that somebody holds already; never copied."""

    tensor: torch.Tensor | QTensor

    def load(self) -> torch.Tensor | QTensor:
        """The tensor itself."""
        return self.tensor

    def load_slice(self, slices: Slices) -> torch.Tensor:
        """A part, in storage of its own, so that the whole may be let go."""
        assert isinstance(self.tensor, torch.Tensor)
        return self.tensor[slices].clone()


@dataclass(frozen=True, slots=True)
class MappedTensor:
    """A contiguous little-endian tensor at a byte offset of a file (safetensors, ONNX external data, artifact)."""

    path: Path
    offset: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    def load(self) -> torch.Tensor:
        """The tensor over the mapped file: pages are read when touched."""
        count = 1
        for n in self.shape:
            count *= n
        if not count:
            return torch.empty(self.shape, dtype=self.dtype)
        buffer = _mapped(self.path)
        return torch.frombuffer(buffer, dtype=self.dtype, count=count, offset=self.offset).reshape(self.shape)

    def load_slice(self, slices: Slices) -> torch.Tensor:
        """A part, copied out of the map: only its pages are read."""
        return self.load()[slices].clone()


@lru_cache(maxsize=64)
def _mapped(path: Path) -> mmap.mmap:
    # Copy-on-write: torch wants writable memory, and a write never reaches the file.
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


@dataclass(slots=True, eq=False)
class DerivedTensor:
    """A tensor computed from others when first asked for, then kept (a quantized or folded weight)."""

    make: Callable[[], torch.Tensor | QTensor]
    _made: torch.Tensor | QTensor | None = None
    _lock: Any = field(default_factory=threading.Lock)

    def load(self) -> torch.Tensor | QTensor:
        """The tensor; computed once."""
        with self._lock:
            if self._made is None:
                self._made = self.make()
        return self._made

    def load_slice(self, slices: Slices) -> torch.Tensor:
        """A part of the computed tensor."""
        made = self.load()
        assert isinstance(made, torch.Tensor)
        return made[slices].clone()


@dataclass(frozen=True, slots=True)
class MetaTensor:
    """A weight without contents: a model captured on meta tensors. It compiles, prints and verifies, but cannot run."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    def load(self) -> torch.Tensor:
        """A meta tensor of this type."""
        return torch.empty(self.shape, dtype=self.dtype, device="meta")

    def load_slice(self, slices: Slices) -> torch.Tensor:
        """A part of it."""
        return self.load()[slices]
