"""What this machine can do at most: float32 multiply-adds and reads from memory, with all threads, measured.

A measurement holds until the machine starts anew; it is kept in the cache folder, for each processor and number of
threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .ir.errors import MaiaError
from .storage import write_text

# Short runs, and many: on a machine that others use as well, some of them have it to themselves. They go on until all
# threads together do nearly what one does alone times their number, or, where the processor cannot, to the limit.
FLOPS_RUN, FLOPS_RUNS = 0.001, 100  # seconds of one, how many at a time
READ_RUNS = 120
LEAST_ROUNDS, MOST_ROUNDS, ENOUGH = 3, 12, 0.95
CACHES = 8  # how many times the caches' size is read through
LEAST_BYTES, MOST_BYTES = 1 << 26, 1 << 30


@dataclass(frozen=True)
class Peaks:
    """FLOP/s of float32 and bytes/s read, of ``threads`` threads together."""

    flops: float
    read: float
    threads: int

    def bound(self, flops: float, bytes: float) -> float:
        """The least seconds that so much work takes: whichever of arithmetic and memory is slower (the roofline)."""
        return max(flops / self.flops, bytes / self.read)


def machine_peaks(*, fresh: bool = False) -> Peaks:
    """The peaks of this machine with the threads that kernels use here; measured where nobody has since it started.

    fresh: measure in any case. MAIA0512 where there is no C++ compiler.
    """
    from .codegen.library import library as kernel_library
    from .ir.caches import cache_folder

    library: Any = kernel_library("peaks")
    threads = int(library.maia_threads())
    file = cache_folder() / "peaks.json"
    known = {} if fresh else _read(file)
    key = f"{processor()}, {threads} threads"
    row = known.get(key)
    if isinstance(row, dict) and row.get("boot") == _boot():
        try:
            return Peaks(float(row["flops"]), float(row["read"]), threads)
        except (KeyError, TypeError, ValueError):
            pass
    peaks = measure(library)
    _write(file, {**_read(file), key: {**asdict(peaks), "boot": _boot()}})
    return peaks


def measure(library: Any) -> Peaks:
    """Measure with the kernel library's own threads; takes one to five seconds."""
    library.maia_peak_flops.restype = library.maia_peak_read.restype = ctypes.c_double
    threads = int(library.maia_threads())
    size = min(max(CACHES * _cache_bytes(), LEAST_BYTES), MOST_BYTES)
    alone = flops = read = 0.0
    for done in range(MOST_ROUNDS):
        alone = max(alone, _flops(library, 1))
        flops = max(flops, _flops(library, threads))
        read = max(read, library.maia_peak_read(ctypes.c_int64(size), ctypes.c_int(READ_RUNS)))
        if done + 1 >= LEAST_ROUNDS and flops >= ENOUGH * threads * alone:
            break
    return Peaks(flops, read, threads)


def _flops(library: Any, threads: int) -> float:
    return library.maia_peak_flops(ctypes.c_int(threads), ctypes.c_double(FLOPS_RUN), ctypes.c_int(FLOPS_RUNS))


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _cache_bytes() -> int:
    """The size of the largest cache; of a common one where the system does not say."""
    sizes: list[int] = []
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text(encoding="ascii").strip()
        unit = {"K": 1 << 10, "M": 1 << 20}.get(text[-1:], 1)
        sizes.append(int(text.rstrip("KM")) * unit)
    return max(sizes, default=1 << 25)


def _boot() -> str:
    """What changes when the machine starts."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def _write(file: Path, table: dict[str, Any]) -> None:
    """Keep the measurements; a folder that cannot be written only means measuring again."""
    with contextlib.suppress(OSError, MaiaError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(table, indent=2))
