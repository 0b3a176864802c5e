"""Runs sheets in a process of its own: python -m tests.maiac.codegen.drive [WALLS] SEED TIMES REPEATS [FAMILY...]

Compares with the reference at TIMES sizes, runs each REPEATS times more, and prints a digest of all results. Under
AddressSanitizer, WALLS is --walls for guarded memory, or --narrow for buffers that are too small on purpose.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys

import torch

from .guards import Walls
from .sheet import sizes_within
from .sheets import FAMILIES, sheet


def digest(family: str, seed: int, times: int, repeats: int) -> str:
    """A digest of a sheet's results, the same in every repetition."""
    runner, pick = sheet(family, seed), random.Random(seed)
    whole = hashlib.sha256()
    for i in range(times):
        sizes = sizes_within(runner.symbols, pick)
        runner.compare(sizes, i)
        inputs, first = runner.sheet.inputs(sizes, i), b""
        for repeat in range(1 if runner.sheet.module.states else repeats):
            found = hashlib.sha256()
            for x in runner.ran.run(inputs):
                found.update(x.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
            first = first or found.digest()
            assert found.digest() == first, f"{family} at {sizes}: other bits in repetition {repeat}"
        whole.update(first)
    return whole.hexdigest()[:16]


def main(argv: list[str]) -> None:
    """See above."""
    os.environ.pop("LD_PRELOAD", None)  # this process has it; compilers do without
    if argv[0].startswith("--"):
        Walls(missing=8 if argv[0] == "--narrow" else 0).install()
        argv = argv[1:]
    seed, times, repeats = map(int, argv[:3])
    for family in argv[3:] or FAMILIES:
        print(family, digest(family, seed, times, repeats), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
