"""Reading safetensors where they lie: a header parsed with care, tensors left in the file.

The library's own reader opens whole files only; an artifact holds them at an offset of an archive.
Format: 8 bytes length of the header (little-endian), header JSON, data (github.com/huggingface/safetensors).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from maiac.ir.errors import MaiaError

MAX_HEADER = 100_000_000  # the library's own limit

# Names of dtypes in the header. What is not here (c128) is stored as bytes; the manifest knows the real dtype.
NAMES: dict[torch.dtype, str] = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
    torch.float8_e8m0fnu: "F8_E8M0",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
}
DTYPES: dict[str, torch.dtype] = {name: dtype for dtype, name in NAMES.items()}


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a tensor lies: bytes from the beginning of the safetensors data, with its dtype and shape."""

    offset: int
    nbytes: int
    dtype: torch.dtype
    shape: tuple[int, ...]


def header_bytes(slots: Mapping[str, Slot], align: int = 64) -> bytes:
    """The header for tensors at these slots, padded with spaces so that the data begins aligned."""
    table = {
        key: {"dtype": NAMES[s.dtype], "shape": list(s.shape), "data_offsets": [s.offset, s.offset + s.nbytes]}
        for key, s in slots.items()
    }
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % align)
    return len(text).to_bytes(8, "little") + text


def read_header(path: Path, start: int = 0, size: int | None = None) -> dict[str, Slot]:
    """The tensors of a safetensors file that begins at byte ``start`` of ``path`` and takes ``size`` bytes.

    Offsets are absolute in ``path``. MAIA0404 where the header is not sound.
    """
    with path.open("rb") as file:
        whole = file.seek(0, 2) - start if size is None else size
        file.seek(start)
        length = int.from_bytes(file.read(8), "little") if whole >= 8 else -1
        if not 0 <= length <= min(whole - 8, MAX_HEADER):
            raise _damaged(path, "the header's length does not fit the file")
        text = file.read(length)
    try:
        table: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise _damaged(path, "the header is not JSON") from None
    if not isinstance(table, dict):
        raise _damaged(path, "the header is not a table")
    first, limit = start + 8 + length, whole - 8 - length
    return {key: _slot(path, key, row, first, limit) for key, row in table.items() if key != "__metadata__"}


def _slot(path: Path, key: str, row: Any, first: int, limit: int) -> Slot:
    try:
        dtype, shape, (begin, end) = DTYPES[row["dtype"]], tuple(row["shape"]), row["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise _damaged(path, f"the entry of {key!r} cannot be read") from None
    numbers = (*shape, begin, end)
    if not all(type(n) is int and n >= 0 for n in numbers):
        raise _damaged(path, f"the entry of {key!r} has sizes that are no sizes")
    if not begin <= end <= limit or math.prod(shape) * dtype.itemsize != end - begin:
        raise _damaged(path, f"the data of {key!r} does not fit its shape or the file")
    return Slot(first + begin, end - begin, dtype, shape)


def _damaged(path: Path, what: str) -> MaiaError:
    return MaiaError("MAIA0404", f"{path}: damaged safetensors: {what}")
