"""How commands speak: results on stdout, progress and errors on stderr, JSON where asked."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

PIPED_WIDTH = 120  # where nobody watches, wrapping only breaks lines that a program reads

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]


@cache
def out() -> Console:
    """The console for results."""
    return _console(stderr=False)


@cache
def err() -> Console:
    """The console for progress and errors."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else PIPED_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=False)


def emit(value: Mapping[str, Any]) -> None:
    """Print a result as JSON; numbers that JSON has no word for become null."""
    sys.stdout.write(json.dumps(finite(value), indent=2, default=str) + "\n")


def finite(value: Any) -> Any:
    """The same value with None for inf and nan."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]  # pyright: ignore[reportUnknownVariableType]
    return value


# **** progress ****


@contextlib.contextmanager
def progress() -> Generator[Callable[[str, int, int], None]]:
    """A callback (what, done, total) that shows a bar on stderr; silent where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn())
    with Progress(*columns, console=err(), transient=True) as shown:
        task = shown.add_task("", total=None)
        yield lambda what, done, total: shown.update(task, description=what, completed=done, total=total or None)


# **** tables ****


def table(*columns: str, right: Iterable[str] = (), title: str = "", wrap: Iterable[str] = ()) -> Table:
    """A plain table; ``right`` names the columns of figures, ``wrap`` those whose text may take several lines."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(box=SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold", pad_edge=False)
    figures, folded = set(right), set(wrap)
    for name in columns:
        justify = "right" if name in figures else "left"
        made.add_column(name, justify=justify, header_style="dim", no_wrap=name in figures, overflow="fold")
        if folded and name not in folded:
            made.columns[-1].no_wrap = True
    return made


def facts(rows: Sequence[tuple[str, RenderableType]]) -> Table:
    """Two columns: what, and its value."""
    from rich.table import Table

    made = Table.grid(padding=(0, 2))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row("  " + name, value)
    return made


# **** figures in words ****


def bytes_text(size: float) -> str:
    """``97.5 MiB``"""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} EiB"


def count_text(count: float) -> str:
    """``25.6 M``"""
    for unit in ("", "k", "M", "G", "T", "P"):
        if abs(count) < 1000:
            return f"{count:.0f}" if unit == "" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} E"


def seconds_text(seconds: float) -> str:
    """``1.24 ms``"""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def plural(count: int, one: str, many: str = "") -> str:
    """``1 op``, ``2 ops``"""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def decibels(value: float) -> str:
    """``43.2`` or, for equal tensors, ``exact``."""
    return "exact" if value == math.inf else f"{value:.1f}"
