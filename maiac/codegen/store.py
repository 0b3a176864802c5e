"""Packed weights beside the artifact that they come from, in a file named by what is in it, mapped by every process."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from maiac.ir.caches import cache_folder
from maiac.runtime.loading import Loaded
from maiac.runtime.memory import ALIGNMENT
from maiac.runtime.weights import forget_pages, map_file
from maiac.storage import whole_file

SMALLEST = 1 << 22  # bytes of panels that are worth a file
Fill = Callable[[int, torch.Tensor], None]  # (which block, its memory)


@dataclass(frozen=True)
class PackStore:
    """The files of one artifact. ``content``: what tells its weights from any other's."""

    path: Path
    content: str

    def blocks(self, key: str, sizes: Sequence[int], fill: Fill) -> list[torch.Tensor] | None:
        """Memory for blocks of bytes as ``fill`` makes them, mapped from a file; None where none can be written."""
        if sum(sizes) < SMALLEST:
            return None
        name = f"{self.path.name}.{hashlib.sha256(f'{self.content} {key}'.encode()).hexdigest()[:24]}.packed"
        offsets, total = _layout(sizes)
        for folder in (self.path.absolute().parent, cache_folder() / "packed"):
            found = folder / name
            if _whole(found, total) or self._written(found, total, offsets, sizes, fill):
                data = torch.frombuffer(map_file(found), dtype=torch.uint8)
                return [data[at : at + size] for at, size in zip(offsets, sizes, strict=True)]
        return None

    def _written(self, target: Path, total: int, offsets: Sequence[int], sizes: Sequence[int], fill: Fill) -> bool:
        """Write the file whole under another name and rename it; false where the folder or the disk refuses."""
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(target) as file:  # lasting, as only its size is looked at later
                _reserve(file.fileno(), total)
                with mmap.mmap(file.fileno(), total) as memory:
                    for i, (at, size) in enumerate(zip(offsets, sizes, strict=True)):
                        block = torch.frombuffer(memory, dtype=torch.uint8, count=max(size, 1), offset=at)
                        fill(i, block)
                        del block
                        forget_pages(self.path)
        except OSError:
            return False
        return True


def store_of(loaded: Loaded | None) -> PackStore | None:
    """The store of an artifact that was loaded from a file; None for one that only lives in memory."""
    if loaded is None:
        return None
    sums = sorted((name, entry.sha256) for name, entry in loaded.manifest.entries.items())
    links = sorted((link.path, link.sha256) for link in loaded.manifest.links)
    return PackStore(loaded.path, repr((sums, links)))


def _layout(sizes: Sequence[int]) -> tuple[list[int], int]:
    offsets: list[int] = []
    at = 0
    for size in sizes:
        offsets.append(at)
        at += -(-max(size, 1) // ALIGNMENT) * ALIGNMENT
    return offsets, at


def _reserve(descriptor: int, size: int) -> None:
    """Give a file its size: where the system can, a full disk is told here, not by a signal while filling."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)


def _whole(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False
