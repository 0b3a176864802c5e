"""The kernel library: a shared library for each of its C++ files, built when a program first needs it.

What x.h declares, x.cpp defines; so a part needs the parts of all headers that its text reaches.
"""

from __future__ import annotations

import ctypes
import functools
import shutil
import threading
from collections.abc import Iterable, Sequence

from maiac.ir.errors import MaiaError

from .build import SOURCES, Build, make_all, reached, source

# What nearly every program needs.
COMMON = ("run", "pool", "gemm", "weights", "move", "index", "window")


def called(text: str) -> list[str]:
    """The parts whose headers a text reaches."""
    return [p for p in (header.removesuffix(".h") for header in reached(text)) if _has(f"{p}.cpp")]


def has_header(part: str) -> bool:
    """Whether a part has a header of its own name: templates are declared once for all types."""
    return _has(f"{part}.h")


def _has(file: str) -> bool:
    return (SOURCES / file).exists()


@functools.cache
def _needs(part: str) -> tuple[str, ...]:
    return tuple(p for p in called(source(f"{part}.cpp")) if p != part)


def with_needs(parts: Iterable[str]) -> list[str]:
    """The parts and all that they call, each after what it calls."""
    found: dict[str, None] = {}

    def enter(part: str) -> None:
        if part in found or not _has(f"{part}.cpp"):  # some headers are all there is
            return
        for other in _needs(part):
            enter(other)
        found[part] = None

    for part in parts:
        enter(part)
    return list(found)


@functools.cache
def build_of(part: str) -> Build:
    """How a part is built."""
    return Build(part, source(f"{part}.cpp"))


@functools.cache
def _loaded(part: str) -> ctypes.CDLL:
    return ctypes.CDLL(str(build_of(part).make()), mode=ctypes.RTLD_GLOBAL)


def load(parts: Iterable[str], others: Sequence[Build] = ()) -> None:
    """Load parts, built first where need be, at the same time as ``others``, which call them.

    The parts' symbols are global: generated code and other parts find them.
    """
    wanted = with_needs([*parts, *(p for b in others for p in called(b.text))])
    make_all([*map(build_of, wanted), *others])
    for part in wanted:
        _loaded(part)


def library(part: str) -> ctypes.CDLL:
    """A part, for calls from Python."""
    load([part])
    return _loaded(part)


def prepare_in_background() -> None:
    """Begin to build what nearly every program needs, one part at a time and out of others' way."""
    builds = [build_of(p) for p in with_needs(COMMON)]
    missing = [b for b in builds if not b.target.exists()]
    if missing:
        threading.Thread(target=_make_quietly, args=(missing,), daemon=True).start()


def _make_quietly(builds: Sequence[Build]) -> None:
    nice = shutil.which("nice")
    for build in builds:
        try:
            build.make([nice, "-n", "19"] if nice else [])
        except MaiaError:
            return  # whoever needs the part will hear of it
