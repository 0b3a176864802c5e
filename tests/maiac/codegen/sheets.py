"""All families of sheets, by name, with how many graphs a quick one has."""

from __future__ import annotations

import functools
from collections.abc import Callable

from . import sheets_attention, sheets_images, sheets_products, sheets_rows
from .sheet import Runner

FAMILIES: dict[str, tuple[Callable[[int, int], Runner], int]] = {
    "products": (sheets_products.products, 24),
    "convolutions": (sheets_products.convolutions, 20),
    "rows": (sheets_rows.rows, 24),
    "elementwise": (sheets_rows.elementwise, 10),
    "attention": (sheets_attention.attention, 24),
    "rotary": (sheets_attention.rotary, 6),
    "caches": (sheets_attention.caches, 5),
    "images": (sheets_images.images, 20),
    "joined": (sheets_images.joined, 10),
    "indexed": (sheets_images.indexed, 20),
}


@functools.cache
def sheet(family: str, seed: int, times: int = 1) -> Runner:
    """One sheet, built once; ``times`` as many graphs as a quick one has."""
    make, count = FAMILIES[family]
    return make(seed, count * times)
