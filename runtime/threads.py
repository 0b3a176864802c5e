"""How many threads work on one run: the same answer for kernels, for engines beside them, and for builds and tests.

The kernel library counts for itself, where no Python is (maiac/codegen/cpp/pool.cpp); a test holds both to one answer.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

VARIABLES = ("MAIAC_NUM_THREADS", "OMP_NUM_THREADS")  # whichever says so first
MOST = 1024


def default_threads() -> int:
    """MAIAC_NUM_THREADS, else OMP_NUM_THREADS, else the cores that this process may use."""
    told = (_number(os.environ.get(name, "")) for name in VARIABLES)
    return min(next((n for n in told if n), 0) or cores(), MOST)


def cores() -> int:
    """The cores that this process may use; hardware threads of one core count once."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    return len({_first_sibling(cpu) for cpu in os.sched_getaffinity(0)})


def _first_sibling(cpu: int) -> int:
    """The first of the hardware threads that share a core with this one."""
    file = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return _number(file.read_text(encoding="ascii"), otherwise=cpu)
    except OSError:
        return cpu


def _number(text: str, otherwise: int = 0) -> int:
    """The number that a text begins with: of OMP_NUM_THREADS=4,2 that of the outermost loops."""
    found = re.match(r"\s*\+?(\d+)", text)
    return int(found[1]) if found else otherwise
