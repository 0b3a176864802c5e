"""Targets: what a chip can do, as one TOML file each. A new target is a new file here.

Rates are dense peaks in TFLOP/s (TOP/s for integers), memories and links as their makers state them.
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from ..ir.dtypes import BY_NAME
from ..ir.errors import MaiaError


@dataclass(frozen=True, slots=True)
class Memory:
    """One level of memory: capacity in bytes and bandwidth in bytes a second, for the whole chip (0: not known)."""

    name: str
    capacity: int
    bandwidth: float
    per: str = "chip"


@dataclass(frozen=True, slots=True)
class Link:
    """One kind of connection to other chips: bytes a second each way, latency in seconds (0: not known)."""

    name: str
    bandwidth: float
    latency: float = 0.0
    peers: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """A chip as the compiler sees it. ``rates`` maps a dtype to operations a second of the matrix units."""

    name: str
    title: str
    kind: str
    rates: dict[str, float]
    memories: tuple[Memory, ...]
    links: tuple[Link, ...] = ()
    storage: tuple[str, ...] = ()
    power: float = 0.0
    notes: str = ""

    @property
    def main_memory(self) -> Memory:
        """The memory that holds weights and caches: the largest."""
        return max(self.memories, key=lambda m: m.capacity)


@cache
def target_names() -> tuple[str, ...]:
    """Every target, sorted."""
    return tuple(sorted(f.name.removesuffix(".toml") for f in files(__name__).iterdir() if f.name.endswith(".toml")))


@cache
def get_target(name: str) -> Target:
    """A target by name; MAIA0707 where there is none."""
    if name not in target_names():
        near = difflib.get_close_matches(name, target_names(), 2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"targets: {', '.join(target_names())}"
        raise MaiaError("MAIA0707", f"there is no target {name!r}", hint=hint)
    return parse_target(name, files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8"))


def parse_target(name: str, text: str) -> Target:
    """Read a target's file. Units in it: tera operations, GB (1e9 bytes) or GiB, GB/s, microseconds, watts."""
    table: dict[str, Any] = tomllib.loads(text)
    for dtype in (*table["rates"], *table["storage"]):
        assert dtype in BY_NAME, f"{name}.toml names {dtype!r}, which is no dtype"
    return Target(
        name,
        table["title"],
        table["kind"],
        {dtype: tera * 1e12 for dtype, tera in table["rates"].items()},
        tuple(
            Memory(m["name"], _bytes(m), m.get("bandwidth_gb_s", 0) * 1e9, m.get("per", "chip"))
            for m in table["memory"]
        ),
        tuple(
            Link(k["name"], k["bandwidth_gb_s"] * 1e9, k.get("latency_us", 0) * 1e-6, k.get("peers", 0))
            for k in table.get("link", [])
        ),
        tuple(table["storage"]),
        table.get("power_w", 0.0),
        table.get("notes", ""),
    )


def _bytes(memory: dict[str, Any]) -> int:
    return int(memory["capacity_gib"] * 2**30 if "capacity_gib" in memory else memory["capacity_gb"] * 1e9)
