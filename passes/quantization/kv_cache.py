"""The dtype of KV caches: states that say how they are laid out (``{layout = paged}``)."""

from __future__ import annotations

from collections.abc import Iterator

from maiac.ir import MaiaError, Module, State, TensorType
from maiac.ir.dtypes import BY_NAME


def kv_caches(module: Module) -> Iterator[State]:
    """The states that are KV caches; other states (running statistics, counters) have no layout."""
    return (s for s in module.states.values() if "layout" in s.attrs)


def require_kv_dtype(module: Module, dtype: str) -> None:
    """MAIA0322 where the program has no KV cache, or has one whose elements are not ``dtype``."""
    wanted = BY_NAME.get(dtype)
    caches = list(kv_caches(module))
    if not caches:
        raise MaiaError("MAIA0322", f"the KV cache shall hold {dtype}, but the program has no state that is one")
    others = [
        f"@{s.name} : {s.type}" for s in caches if not (isinstance(s.type, TensorType) and s.type.dtype is wanted)
    ]
    if others:
        raise MaiaError("MAIA0322", f"the KV cache shall hold {dtype}, but it holds something else", details=others)
