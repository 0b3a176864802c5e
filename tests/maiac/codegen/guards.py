"""Memory with walls: every buffer of an arena lies alone, between bytes that AddressSanitizer forbids."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import torch

from maiac.codegen import planning, segment
from maiac.runtime.memory import ALIGNMENT, Buffer, Layout

WALL = 256


def own_block(size: int) -> torch.Tensor:
    """Memory without a byte more than is asked for: the sanitizer guards what lies behind it."""
    block = torch.empty(size, dtype=torch.uint8)
    assert not size or block.data_ptr() % ALIGNMENT == 0
    return block.fill_(255)


class Walls:
    """Which bytes of an arena are forbidden, for each plan; ``missing`` bytes of every buffer as well."""

    def __init__(self, missing: int = 0) -> None:
        self.missing = missing
        self.last: list[tuple[int, int]] = []
        self.of: dict[int, tuple[int, list[tuple[int, int]]]] = {}

    def assign(self, buffers: Sequence[Buffer]) -> Layout:
        """Place buffers one behind the other, each with a wall behind it."""
        self.last, offsets, at = [], list[int](), WALL
        start = 0
        for buffer in buffers:
            self.last.append((start, at))
            offsets.append(at)
            start = at + max(buffer.size - self.missing, 0)
            at = -(-(at + buffer.size + WALL) // ALIGNMENT) * ALIGNMENT
        self.last.append((start, at))
        return Layout(tuple(offsets), at)

    def install(self) -> None:
        """Let all segments that are made from now on have walls. The sanitizer must be loaded."""
        library = ctypes.CDLL(None)
        poison, unpoison = (getattr(library, f"__asan_{p}_memory_region") for p in ("poison", "unpoison"))
        for function in (poison, unpoison):
            function.argtypes, function.restype = (ctypes.c_void_p, ctypes.c_size_t), None
        plan, prepare = planning.Arrangement.plan, segment.Segment.prepare

        def planned(self_: Any, *args: Any) -> Any:
            self.last = []
            made = plan(self_, *args)
            self.of[id(made.program)] = made.layout.size, self.last
            return made

        def prepared(self_: Any, *args: Any) -> None:
            if self_._functions is not None:
                return
            prepare(self_, *args)
            call = self_._call

            def guarded(program: Any, bases: Any, times: Any, fault: Any) -> int:
                size, walls = self.of[id(program)]
                base = bases[0] or 0
                for start, end in walls:
                    poison(base + start, end - start)
                found = call(program, bases, times, fault)
                unpoison(base, size)
                return found

            self_._call = guarded

        for owner, name, ours in (
            (planning, "assign", self.assign),
            (planning.Arrangement, "plan", planned),
            (segment.Segment, "prepare", prepared),
            (segment, "aligned_block", own_block),
        ):
            patch.object(owner, name, ours).start()  # which refuses a name that is not there
