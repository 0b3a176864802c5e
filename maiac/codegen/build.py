"""Building C++: which compiler, with which flags, into a cache by content that processes share safely."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from maiac.ir.caches import cache_folder
from maiac.ir.errors import MaiaError

SOURCES = Path(__file__).parent / "cpp"
FLAGS = ("-std=c++17", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-pthread")
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


def headers_text() -> str:
    """All headers of the kernel library: what generated code is compiled against."""
    return "".join(f"{p.name}\n{p.read_text(encoding='utf-8')}" for p in sorted(SOURCES.glob("*.h")))


def build_library(name: str, texts: Sequence[str], extra: Sequence[str] = ()) -> Path:
    """A shared library of these C++ texts, from the cache or built now, its parts side by side.

    ``extra`` are further compiler flags. MAIA0513 where the compiler refuses a text.
    """
    compiler = require_compiler()
    flags = (*FLAGS, *compiler.machine_flags, *QUIET, *extra, *shlex.split(os.environ.get("MAIAC_CXXFLAGS", "")))
    key = _digest(compiler, flags, [headers_text(), *texts])
    folder = cache_folder() / "code"
    target = folder / f"{name}-{key}.so"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        # Nobody waits for a lock: whoever is first renames a whole file into place, and others replace it by its equal.
        built = _compile(compiler, flags, texts, Path(scratch))
        os.replace(built, target)
    return target


def _compile(compiler: Compiler, flags: Sequence[str], texts: Sequence[str], folder: Path) -> Path:
    objects = [folder / f"{i}.o" for i in range(len(texts))]

    def one(index: int) -> None:
        source = folder / f"{index}.cpp"
        source.write_text(texts[index], encoding="utf-8")
        _call([*compiler.command, *flags, f"-I{SOURCES}", "-c", str(source), "-o", str(objects[index])], source)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2) as pool:
        list(pool.map(one, range(len(texts))))
    result = folder / "library.so"
    link = [*compiler.command, "-shared", "-pthread", *(f for f in flags if f.startswith("-fsanitize"))]
    _call([*link, *map(str, objects), "-o", str(result)], result)
    return result


def _call(command: Sequence[str], source: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    kept = Path(tempfile.gettempdir()) / f"maiac-refused-{os.getpid()}{source.suffix}"
    if source.exists():
        shutil.copyfile(source, kept)
    errors = [line for line in done.stderr.splitlines() if "error" in line][:6] or done.stderr.splitlines()[-6:]
    raise MaiaError(
        "MAIA0513", "the C++ compiler refused generated code", details=errors, hint=f"please report this with {kept}"
    )


@functools.cache
def kernel_library() -> ctypes.CDLL:
    """The kernel library, built once for a machine. Its symbols are global: generated code calls into it."""
    texts = [p.read_text(encoding="utf-8") for p in sorted(SOURCES.glob("*.cpp"))]
    library = ctypes.CDLL(str(build_library("kernels", texts, ["-O3"])), mode=ctypes.RTLD_GLOBAL)
    for name in ("maia_run", "maia_conv_choose", "maia_conv_workspace"):
        getattr(library, name).restype = ctypes.c_int64
    library.maia_run.argtypes = (ctypes.c_void_p,) * 4
    library.maia_conv_workspace.argtypes = (ctypes.c_int64, ctypes.c_void_p)
    return library
