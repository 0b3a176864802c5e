"""Writing an artifact: program, weights one by one, golden results, report; the manifest last."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from .ir import Module, print_module
from .ir.dims import evaluate
from .ir.errors import MaiaError, raise_all
from .ir.graph import TensorData, Weight
from .ir.ops.values import QTensor, to_torch
from .ir.types import Quantized, TensorType
from .runtime.archive import MANIFEST, plain_file
from .runtime.loading import GOLDEN, PROGRAM, REPORT, STATES, WEIGHTS
from .runtime.manifest import Link, Manifest, Piece, Stored, Sum
from .runtime.safetensors import NAMES, Slot, header_bytes
from .runtime.weights import DerivedTensor, HeldTensor, MappedTensor, MetaTensor, file_origin
from .storage import Container, replacing

Progress = Callable[[str, int, int], None]
PAGE = 4096
_CHUNK = 1 << 24


def write_artifact(
    path: Path,
    module: Module,
    manifest: Manifest,
    *,
    report: Mapping[str, Any],
    golden: Mapping[str, torch.Tensor],
    folder: bool = False,
    link_weights: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Write an artifact to ``path``; gives the manifest as written.

    ``manifest`` holds everything but the tables of entries, weights, states and links, which are made here.
    """
    linker = _Linker(path, enabled=link_weights)
    weights = _Bundle(WEIGHTS, module.weights, linker)
    states = _Bundle(STATES, module.states, linker)
    raise_all("MAIA0412", f"cannot store {path.name}", [*weights.faults, *states.faults])
    with replacing(path, folder=folder) as out:
        entries = {PROGRAM: _write_text(out, PROGRAM, print_module(module))}
        for bundle in (weights, states):
            if bundle.slots:
                entries[bundle.file] = bundle.write(out, progress)
        if golden:
            entries[GOLDEN] = _write_tensors(out, GOLDEN, golden)
        entries[REPORT] = _write_text(out, REPORT, json.dumps(report, indent=1))
        done = replace(
            manifest, entries=entries, weights=weights.stored, states=states.stored, links=tuple(linker.links)
        )
        text = done.to_json()
        out.write(MANIFEST, len(text), [text])
    return done


def _write_text(out: Container, name: str, text: str) -> Sum:
    data = text.encode()
    return out.write(name, len(data), [data])


def _write_tensors(out: Container, name: str, tensors: Mapping[str, torch.Tensor]) -> Sum:
    slots: dict[str, Slot] = {}
    at = 0
    for key, tensor in tensors.items():
        size = tensor.numel() * tensor.dtype.itemsize
        slots[key] = _slot(at, size, tensor.dtype, tuple(tensor.shape))
        at += size
    head = header_bytes(slots)
    body = (chunk for tensor in tensors.values() for chunk in tensor_bytes(tensor))
    return out.write(name, len(head) + at, _chain(head, body))


def _chain(head: bytes, body: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    yield head
    yield from body


def tensor_bytes(tensor: torch.Tensor) -> Iterator[memoryview]:
    """A tensor's elements in row-major order, little-endian, in chunks; copied only where it is not contiguous."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    if not flat.numel():
        return
    data: Any = memoryview(flat.view(torch.uint8).numpy())  # pyright: ignore[reportArgumentType]
    for start in range(0, len(data), _CHUNK):
        yield data[start : start + _CHUNK]


def _slot(at: int, size: int, dtype: torch.dtype, shape: tuple[int, ...]) -> Slot:
    """A slot of a dtype that safetensors can name; other elements are stored as bytes."""
    return Slot(at, size, dtype, shape) if dtype in NAMES else Slot(at, size, torch.uint8, (size,))


@dataclass(slots=True)
class _Part:
    """One tensor to write: how to get it, and what it must be."""

    key: str
    load: Callable[[], torch.Tensor]
    dtype: torch.dtype
    shape: tuple[int, ...]
    nbytes: int


class _Source:
    """The tensors of one weight, read or computed when they are written and not kept after."""

    def __init__(self, weight: Weight) -> None:
        self.weight = weight
        self.small: tuple[torch.Tensor, torch.Tensor | None] | None = None  # scales are small; codes are not kept

    def main(self) -> torch.Tensor:
        """The elements, or the codes of a quantized weight."""
        data = self.weight.data
        made = data.peek() if isinstance(data, DerivedTensor) else data.load() if data is not None else None
        if not isinstance(made, QTensor):
            assert isinstance(made, torch.Tensor), f"@{self.weight.name} has no contents"
            return made
        zero = made.zero_point
        self.small = made.scale, zero if zero is None else zero.to(made.codes.dtype)
        return made.codes

    def scale(self) -> torch.Tensor:
        """The scales."""
        if self.small is None:
            self.main()
        assert self.small is not None, f"@{self.weight.name} is typed as quantized, but its contents are not"
        return self.small[0]

    def zero_point(self) -> torch.Tensor:
        """The zero points."""
        self.scale()
        assert self.small is not None and self.small[1] is not None, f"@{self.weight.name} has no zero point"
        return self.small[1]


class _Bundle:
    """All weights (or states) that go into one safetensors file, in an order that keeps them aligned."""

    def __init__(self, file: str, table: Mapping[str, Weight], linker: _Linker) -> None:
        self.file = file
        self.linker = linker
        self.parts: list[_Part] = []
        self.keys: set[str] = set(table)
        self.same: dict[object, Stored] = {}  # contents -> how they are stored already: tied weights once
        self.faults: list[str] = []
        self.stored = {name: self.place(weight) for name, weight in table.items()}
        # safetensors allows no gaps. Sizes that are multiples of 64 go first, then of 32, ...: each tensor begins at a
        # multiple of 64, or of the largest power of two in its own size.
        self.parts.sort(key=lambda part: -math.gcd(part.nbytes, 64))
        self.slots: dict[str, Slot] = {}
        at = 0
        for part in self.parts:
            self.slots[part.key] = _slot(at, part.nbytes, part.dtype, part.shape)
            at += part.nbytes
        self.size = at

    def place(self, weight: Weight) -> Stored:
        """Decide how a weight is stored."""
        type, data = weight.type, weight.data
        if not isinstance(type, TensorType) or any(not isinstance(d, int) for d in type.dims):
            self.faults.append(f"@{weight.name} is {type}: only tensors with static dims can be stored")
            return Stored(str(type))
        if data is None or isinstance(data, MetaTensor):
            return Stored(str(type))
        link = self.linker.place(data, type)
        if link is not None:
            return Stored(str(type), link)
        content = _content(data)
        if content not in self.same:
            self.same[content] = self.contain(weight, type)
        return replace(self.same[content], type=str(type))

    def contain(self, weight: Weight, type: TensorType) -> Stored:
        """Take a weight into this file: a quantized one as codes, scales and zero points."""
        source = _Source(weight)
        dims = tuple(evaluate(d, {}) for d in type.dims)
        codes = self.add(weight.name, source.main, to_torch(type.element), dims)
        if not isinstance(type.dtype, Quantized):
            return Stored(str(type), codes)
        dims = tuple(evaluate(d, {}) for d in type.dtype.scale_shape(dims))
        scale = self.add(self.free(f"{weight.name}.scale"), source.scale, to_torch(type.dtype.scale), dims)
        if not type.dtype.zero_point:
            return Stored(str(type), codes, scale)
        zero = self.add(self.free(f"{weight.name}.zero_point"), source.zero_point, to_torch(type.element), dims)
        return Stored(str(type), codes, scale, zero)

    def free(self, key: str) -> str:
        """A key that no weight has."""
        unique, n = key, 0
        while unique in self.keys:
            n += 1
            unique = f"{key}_{n}"
        self.keys.add(unique)
        return unique

    def add(self, key: str, load: Callable[[], torch.Tensor], dtype: torch.dtype, shape: tuple[int, ...]) -> Piece:
        """Take a tensor into this file."""
        self.parts.append(_Part(key, load, dtype, shape, math.prod(shape) * dtype.itemsize))
        return Piece(self.file, key)

    def write(self, out: Container, progress: Progress | None) -> Sum:
        """Write the file, one tensor in memory at a time."""
        head = header_bytes(self.slots)
        return out.write(self.file, len(head) + self.size, _chain(head, self.body(progress)), PAGE)

    def body(self, progress: Progress | None) -> Iterator[memoryview]:
        """The bytes of all tensors in order."""
        done = 0
        for part in self.parts:
            if progress:
                progress(f"writing {part.key}", done, self.size)
            tensor = part.load()
            if tensor.dtype is not part.dtype or tuple(tensor.shape) != part.shape:
                raise MaiaError(
                    "MAIA0412",
                    f"{part.key} is {tensor.dtype}{list(tensor.shape)}, but its type says "
                    f"{part.dtype}{list(part.shape)}",
                )
            yield from tensor_bytes(tensor)
            done += part.nbytes


def _content(data: TensorData) -> object:
    """What two weights with the same contents share: a place in memory or in a file."""
    if isinstance(data, HeldTensor) and isinstance(data.tensor, torch.Tensor) and data.tensor.numel():
        held = data.tensor
        return held.data_ptr(), tuple(held.shape), held.stride(), held.dtype
    return data if isinstance(data, MappedTensor) else id(data)


class _Linker:
    """Weights that stay in the file where they are."""

    def __init__(self, artifact: Path, *, enabled: bool) -> None:
        self.artifact = artifact
        self.enabled = enabled
        self.links: list[Link] = []
        self.numbers: dict[Path, int] = {}

    def place(self, data: TensorData | None, type: TensorType) -> Piece | None:
        """A piece of a linked file, where the contents lie in one; the artifact itself is none."""
        if not self.enabled or isinstance(type.dtype, Quantized):
            return None
        if isinstance(data, HeldTensor) and isinstance(data.tensor, torch.Tensor):
            data = file_origin(data.tensor)  # a model that was built over mapped files holds views of them
        if not isinstance(data, MappedTensor):
            return None
        path = data.path.absolute()
        if path == self.artifact.absolute():
            return None
        if path not in self.numbers:
            self.numbers[path] = len(self.links)
            relative = os.path.relpath(path, self.artifact.absolute().parent)
            self.links.append(Link(relative, path.stat().st_size, plain_file(path).sha256("")))
        return Piece(link=self.numbers[path], offset=data.offset)
