"""Golden inputs and outputs: what a model gave where it was compiled, kept in the artifact for its self-test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from .difference import Difference, close_enough, difference
from .ir.errors import MaiaError

LIMIT = 1 << 26  # bytes of all golden tensors; more would weigh on every copy of the artifact


def pack(inputs: Sequence[Any], outputs: Sequence[Any], origin: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The manifest's table and the tensors to store; a table that says why where values cannot be stored."""
    tensors: dict[str, torch.Tensor] = {}
    try:
        table = {
            "origin": origin,
            "inputs": [_pack(f"in.{i}", v, tensors) for i, v in enumerate(inputs)],
            "outputs": [_pack(f"out.{i}", v, tensors) for i, v in enumerate(outputs)],
        }
    except _Unstorable as e:
        return skipped(str(e)), {}
    reason = too_large(sum(t.numel() * t.dtype.itemsize for t in tensors.values()))
    return (skipped(reason), {}) if reason else (table, tensors)


def too_large(size: int) -> str:
    """Why golden tensors of so many bytes are not stored; empty where they are."""
    return f"golden tensors would take {size:,} bytes; at most {LIMIT:,} are stored" if size > LIMIT else ""


def skipped(reason: str) -> dict[str, Any]:
    """A table that says why there are no golden results."""
    return {"skipped": reason}


class _Unstorable(Exception):
    pass


def _pack(key: str, value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        if value.is_meta:
            raise _Unstorable("its tensors are meta tensors")
        tensors[key] = value.detach().clone()
        return {"tensor": key}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"value": value}
    if isinstance(value, (list, tuple)):
        return {"list": [_pack(f"{key}.{i}", v, tensors) for i, v in enumerate(value)]}  # pyright: ignore[reportUnknownArgumentType]
    raise _Unstorable(f"{type(value).__name__} cannot be stored")


def unpack(rows: Any, tensors: Mapping[str, torch.Tensor]) -> list[Any]:
    """The values of a table; MAIA0408 where it does not fit the tensors."""
    if not isinstance(rows, list):
        raise MaiaError("MAIA0408", "the golden table of manifest.json is not a list of values")
    return [_unpack(row, tensors) for row in rows]  # pyright: ignore[reportUnknownVariableType]


def _unpack(row: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    match row:
        case {"tensor": str(key)} if key in tensors:
            return tensors[key]
        case {"value": None | bool() | int() | float() | str() as value}:
            return value
        case {"list": list(rows)}:
            return unpack(rows, tensors)  # pyright: ignore[reportUnknownArgumentType]
        case _:
            raise MaiaError("MAIA0408", f"the golden table of manifest.json has the row {row!r}")


def check(names: Sequence[str], found: Sequence[Any], golden: Sequence[Any]) -> list[Difference]:
    """Compare a run with the golden outputs; MAIA0413 lists every output that differs."""
    if len(found) != len(golden):
        raise MaiaError("MAIA0413", f"the model gave {len(found)} outputs; {len(golden)} were stored")
    all = [difference(n, a, b) for n, a, b in zip(names, found, golden, strict=True)]
    wrong = [
        f"{d.name}: {d.problem or f'differs by {d.max_abs:.3g} at values up to {d.scale:.3g} (SQNR {d.sqnr:.1f} dB)'}"
        for d, b in zip(all, golden, strict=True)
        if not close_enough(d, b.dtype if isinstance(b, torch.Tensor) else None)
    ]
    if wrong:
        raise MaiaError("MAIA0413", f"{len(wrong)} of {len(all)} outputs differ from the stored ones", details=wrong)
    return all
