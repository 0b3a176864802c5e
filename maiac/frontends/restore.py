"""Leaves a model as it was before it was traced."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any, cast

import torch

Container = dict[Any, Any] | list[Any] | set[Any]


@contextlib.contextmanager
def unchanged(model: torch.nn.Module) -> Generator[None]:
    """Give the model its attributes back afterwards, and what stood in their lists, dicts and sets.

    What forward caches while it is traced are fake tensors. Both are needed: a library that registers hooks on first
    use and notes in a flag that it has done so would otherwise register them twice.
    """
    tables: list[Container] = [module.__dict__ for module in model.modules()]
    held = [v for table in tables for v in cast(dict[str, Any], table).values() if isinstance(v, (dict, list, set))]
    tables += cast(list[Container], held)
    before = [(table, table.copy()) for table in tables]
    try:
        yield
    finally:
        for table, contents in before:
            if not _same(table, contents):
                _refill(table, contents)


def _same(now: Container, before: Container) -> bool:
    """Whether a container holds the very same objects as its copy."""
    if len(now) != len(before):
        return False
    if isinstance(now, dict) and isinstance(before, dict):
        return all(k in now and now[k] is v for k, v in before.items())
    return all(a is b for a, b in zip(now, before, strict=True))


def _refill(table: Container, contents: Container) -> None:
    table.clear()
    if isinstance(table, list):
        table.extend(contents)
    else:
        table.update(contents)  # type: ignore[arg-type]
