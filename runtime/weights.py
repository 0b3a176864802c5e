"""The contents of weights: held, memory-mapped from a file, or computed when first asked for."""

from __future__ import annotations

import math
import mmap
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import torch

from maiac.ir.dtypes import DType
from maiac.ir.errors import MaiaError
from maiac.ir.ops.values import FROM_TORCH, TORCH, QTensor, part
from maiac.ir.types import TensorType, Type

Slices: TypeAlias = tuple[slice, ...]

_MAP_NORESERVE = 0x4000  # <asm-generic/mman.h>; the mmap module of Python 3.11 does not name it


@dataclass(slots=True, eq=False)
class HeldTensor:
    """A tensor that somebody holds already; never copied."""

    tensor: torch.Tensor | QTensor

    def load(self) -> torch.Tensor | QTensor:
        """The tensor itself."""
        return self.tensor

    def load_slice(self, slices: Slices) -> torch.Tensor | QTensor:
        """A part, in storage of its own, so that the whole may be let go."""
        return part(self.tensor, slices)

    def misfit(self, type: Type) -> str:
        """What the tensor is, where that is not ``type`` (maiac.ir.graph.TypedData)."""
        if not isinstance(self.tensor, QTensor):
            return _misfit(self.tensor.dtype, tuple(self.tensor.shape), type)
        fits = isinstance(type, TensorType) and type.dtype == self.tensor.type and type.dims == tuple(self.tensor.shape)
        return "" if fits else f"{self.tensor.type}{list(self.tensor.shape)}"


@dataclass(frozen=True, slots=True)
class MappedTensor:
    """A contiguous little-endian tensor at a byte offset of a file (safetensors, ONNX external data, artifact)."""

    path: Path
    offset: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    buffer: mmap.mmap | None = field(default=None, repr=False, compare=False)  # pins the very file that was checked

    def load(self) -> torch.Tensor:
        """The tensor over the mapped file: pages are read when touched. MAIA0418 where the file was cut since."""
        count = math.prod(self.shape)
        if not count:
            return torch.empty(self.shape, dtype=self.dtype)
        buffer = self.buffer or map_file(self.path)
        if self.offset + count * self.dtype.itemsize > len(buffer):
            raise MaiaError("MAIA0418", f"{self.path} is shorter than it was: its weights are gone")
        return torch.frombuffer(buffer, dtype=self.dtype, count=count, offset=self.offset).reshape(self.shape)

    def load_slice(self, slices: Slices) -> torch.Tensor:
        """A part, copied out of the map: only its pages are read."""
        return self.load()[slices].clone()

    def misfit(self, type: Type) -> str:
        """What the file holds, where that is not ``type`` (maiac.ir.graph.TypedData)."""
        return _misfit(self.dtype, self.shape, type)


def map_file(path: Path) -> mmap.mmap:
    """A file's bytes, mapped once for all tensors in it."""
    try:
        return _mapped(path, identity(path))
    except OSError as e:
        raise MaiaError("MAIA0418", f"cannot map {path}: {e.strerror or e}") from None


def identity(path: Path) -> tuple[int, ...]:
    """What changes when another file takes the place of this one, or when it is written to."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@lru_cache(maxsize=64)
def _mapped(path: Path, _identity: tuple[int, ...]) -> mmap.mmap:
    # Copy-on-write: torch wants writable memory, and a write never reaches the file. Linux counts such a map as memory
    # in use and refuses one larger than the machine, unless told that nothing is reserved for it.
    with path.open("rb") as file:
        if sys.platform == "linux":
            flags = mmap.MAP_PRIVATE | _MAP_NORESERVE
            found = mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        else:
            found = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    _PLACES[torch.frombuffer(found, dtype=torch.uint8, count=1).data_ptr()] = (len(found), path)
    return found


_PLACES: dict[int, tuple[int, Path]] = {}  # address of a map -> its size and file


def forget_pages(path: Path) -> None:
    """Let the system take back the pages of a mapped file that were only read; they come again when they are touched.

    For files whose maps nobody writes to: what was written would be lost.
    """
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    for _, (_, mapped) in _PLACES.items():
        if mapped == path:
            map_file(mapped).madvise(mmap.MADV_DONTNEED)
            return


def file_origin(tensor: torch.Tensor) -> MappedTensor | None:
    """The place in a mapped file that a tensor looks at, whoever made the view; None where it has contents of its own.

    The file is read and compared: a map may have been written to, which its file never sees.
    """
    if not tensor.is_contiguous() or tensor.device.type != "cpu" or not tensor.numel():
        return None
    address, size = tensor.data_ptr(), tensor.numel() * tensor.dtype.itemsize
    for start, (length, path) in _PLACES.items():
        if not start <= address <= address + size <= start + length:
            continue
        found = MappedTensor(path, address - start, tensor.dtype, tuple(tensor.shape))
        return found if _agrees(found, tensor) else None
    return None


def _agrees(place: MappedTensor, tensor: torch.Tensor) -> bool:
    """Whether the file still holds these bytes at that place."""
    size = tensor.numel() * tensor.dtype.itemsize
    if not place.path.is_file() or place.offset + size > place.path.stat().st_size:
        return False
    there = torch.from_file(str(place.path), shared=False, size=place.offset + size, dtype=torch.uint8)[place.offset :]
    return torch.equal(there, tensor.detach().reshape(-1).view(torch.uint8))


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

    def peek(self) -> torch.Tensor | QTensor:
        """The tensor, computed again where it was not kept: for one who writes all weights and holds none."""
        return self.make() if self._made is None else self._made

    def load_slice(self, slices: Slices) -> torch.Tensor | QTensor:
        """A part of the computed tensor."""
        return part(self.load(), slices)


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

    def misfit(self, type: Type) -> str:
        """What the tensor would be, where that is not ``type`` (maiac.ir.graph.TypedData)."""
        return _misfit(self.dtype, self.shape, type)


def _misfit(dtype: torch.dtype, shape: tuple[int, ...], type: Type) -> str:
    """A tensor's dtype and shape where they are not those of a type; symbolic dims of a state fit any size."""
    if isinstance(type, TensorType) and isinstance(type.dtype, DType) and TORCH.get(type.dtype) == dtype:
        sizes = zip(type.dims, shape, strict=False)
        if type.rank == len(shape) and all(d == n for d, n in sizes if isinstance(d, int)):
            return ""
    return f"{FROM_TORCH.get(dtype, dtype)}{list(shape)}"
