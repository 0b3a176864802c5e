"""Many dims at once: a generated function of the symbols' values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from maiac.ir.dims import DimLike
from maiac.runtime.signature import SymbolNames


def evaluator(symbols: Sequence[str], names: SymbolNames, dims: Sequence[DimLike]) -> Callable[..., list[int]]:
    """A function of the symbols' values, in order, that gives the value of each dim."""
    once: dict[DimLike, str] = {}
    lines: list[str] = []
    listed: list[str] = []
    for dim in dims:
        if isinstance(dim, int):
            listed.append(str(dim))
            continue
        if dim not in once:
            once[dim] = f"_d{len(once)}"
            lines.append(f"    {once[dim]} = {names.expression(dim)}")
        listed.append(once[dim])
    text = "\n".join(
        [f"def values({', '.join(names[s] for s in symbols)}):", *lines, f"    return [{', '.join(listed)}]"]
    )
    space: dict[str, Any] = {}
    exec(compile(text, "<maiac sizes>", "exec"), space)  # our own text: names are made here, dims print as expressions
    return space["values"]
