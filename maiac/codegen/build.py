"""Building C++: which compiler, with which flags, into a cache by content that processes share safely."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from maiac.ir.caches import cache_folder
from maiac.ir.errors import MaiaError
from maiac.runtime.threads import cores

SOURCES = Path(__file__).parent / "cpp"
# Loops over the registers of a tile must be unrolled whole, which GCC's -O2 does only where the code gets no longer.
# The loop of a product runs up to 9% faster where it begins with a line of the instruction cache.
OPTIMIZED = ("-O2", "-fpeel-loops", "-falign-loops=64")
FLAGS = (
    "-std=c++17",
    *OPTIMIZED,
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fPIC",
    "-pthread",
)
QUIET = ("-Wall", "-Wno-psabi", "-Wno-unused-function", "-Wno-unused-variable")


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler: how it is called, and what it says of itself."""

    command: tuple[str, ...]
    version: str

    @property
    def machine_flags(self) -> tuple[str, ...]:
        """Flags for the very processor that it runs on."""
        return ("-mcpu=native",) if platform.machine() in ("aarch64", "arm64") else ("-march=native",)


@functools.cache
def find_compiler() -> Compiler | None:
    """CXX, else c++, g++ or clang++ on the path, else the ``ziglang`` wheel; None where there is none.

    MAIAC_CXX=none says that there is none.
    """
    wanted = os.environ.get("MAIAC_CXX") or os.environ.get("CXX")
    if wanted == "none":
        return None
    candidates = [shlex.split(wanted)] if wanted else [["c++"], ["g++"], ["clang++"]]
    found = next((c for c in candidates if shutil.which(c[0])), None)
    if found is None and not wanted and importlib.util.find_spec("ziglang"):
        found = [sys.executable, "-m", "ziglang", "c++"]
    if found is None:
        return None
    try:
        said = subprocess.run([*found, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return Compiler(tuple(found), said.splitlines()[0] if said else "")


@functools.cache
def _processor() -> str:
    """What distinguishes this processor from others that may share the cache (a home folder on many machines)."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.machine() + platform.processor()
    kept = [line for line in text.splitlines() if line.split("\t")[0] in ("model name", "flags", "Features")]
    return "\n".join(dict.fromkeys(kept)) or platform.machine()


def require_compiler() -> Compiler:
    """The compiler; MAIA0512 where there is none."""
    found = find_compiler()
    if found is None:
        raise MaiaError("MAIA0512", "no C++ compiler was found")
    return found


def _digest(compiler: Compiler, flags: Sequence[str], texts: Sequence[str]) -> str:
    whole = hashlib.sha256()
    for part in (*compiler.command, compiler.version, _processor(), *flags, *texts):
        whole.update(part.encode())
        whole.update(b"\0")
    return whole.hexdigest()[:32]


def includes(text: str) -> list[str]:
    """The headers of the kernel library that a text includes, in order."""
    return re.findall(r'^#include "(.+)"', text, re.MULTILINE)


@functools.cache
def source(name: str) -> str:
    """The text of a file of the kernel library."""
    return (SOURCES / name).read_text(encoding="utf-8")


def reached(text: str) -> list[str]:
    """All headers that a text includes, directly or through others."""
    found, left = dict[str, None](), includes(text)
    while left:
        header = left.pop()
        if header not in found:
            found[header] = None
            left += includes(source(header))
    return sorted(found)


class Build:
    """A shared library that is made of one C++ text, or lies in the cache already.

    ``extra`` are further compiler flags.
    """

    def __init__(self, name: str, text: str, extra: Sequence[str] = ()) -> None:
        compiler = require_compiler()
        own = (*FLAGS, *compiler.machine_flags, *QUIET, *extra, *shlex.split(os.environ.get("MAIAC_CXXFLAGS", "")))
        self.command = [*compiler.command, *own, "-shared", f"-I{SOURCES}"]
        self.text = text
        key = _digest(compiler, own, [text, *map(source, reached(text))])
        self.target = cache_folder() / "code" / f"{name}-{key}.so"
        self._lock = threading.Lock()

    def make(self, prefix: Sequence[str] = ()) -> Path:
        """The library's path, once it is there. ``prefix`` comes before the compiler's command.

        MAIA0513 where the compiler refuses the text.
        """
        with self._lock:  # in this process one thread makes it
            if not self.target.exists():
                self._compile(prefix)
        return self.target

    def _compile(self, prefix: Sequence[str]) -> None:
        self.target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.target.parent) as scratch:
            text, made = Path(scratch) / "text.cpp", Path(scratch) / "library.so"
            text.write_text(self.text, encoding="utf-8")
            command = [*prefix, *self.command, str(text), "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise _refusal(text, done.stderr)
            # Processes do not wait for each other: the first renames a whole file into place, others replace it by its
            # equal.
            os.replace(made, self.target)


def make_all(builds: Sequence[Build]) -> list[Path]:
    """Their paths, once all are there; as many are made at a time as there are cores."""
    if all(b.target.exists() for b in builds):
        return [b.target for b in builds]
    with ThreadPoolExecutor(cores()) as pool:
        made = [pool.submit(b.make) for b in sorted(builds, key=lambda b: len(b.text), reverse=True)]
        try:
            for future in made:
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)
    return [b.target for b in builds]


def _refusal(text: Path, said: str) -> MaiaError:
    kept = Path(tempfile.gettempdir()) / f"maiac-refused-{os.getpid()}.cpp"
    shutil.copyfile(text, kept)
    errors = [line for line in said.splitlines() if "error" in line][:6] or said.splitlines()[-6:]
    return MaiaError(
        "MAIA0513", "the C++ compiler refused generated code", details=errors, hint=f"please report this with {kept}"
    )
