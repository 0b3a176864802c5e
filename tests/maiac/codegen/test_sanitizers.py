"""Kernels under the compiler's sanitizers: memory, undefined behaviour, and races between threads."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from maiac.codegen.build import SOURCES, require_compiler

pytestmark = pytest.mark.slow
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=all -g0 -O1"


def runtime(name: str) -> str:
    """The path of a sanitizer's library."""
    command = [*require_compiler().command, f"-print-file-name={name}"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert os.path.isabs(found), f"these tests need a compiler that comes with {name}, as g++ and clang do"
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sanitized")


def drive(cache: Path, *arguments: str, threads: int = 2) -> subprocess.CompletedProcess[str]:
    """Sheets in a process with AddressSanitizer and UndefinedBehaviorSanitizer."""
    environment = {
        **os.environ,
        "MAIAC_NATIVE": "1",
        "MAIAC_NUM_THREADS": str(threads),
        "MAIAC_CACHE_DIR": str(cache),
        "MAIAC_CXXFLAGS": FLAGS,
        "LD_PRELOAD": f"{runtime('libasan.so')} {runtime('libubsan.so')}",
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter leaves much to the end of the process
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    command = [sys.executable, "-m", "tests.maiac.codegen.drive", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize("threads", [1, 3])
def test_kernels_stay_in_their_memory(built: Path, threads: int):
    done = drive(built, "--walls", "0", "25", "1", threads=threads)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "runtime error" not in done.stderr and "AddressSanitizer" not in done.stderr


def test_a_step_beyond_a_buffer_is_seen(built: Path):
    done = drive(built, "--narrow", "0", "5", "1", "rows")
    assert done.returncode != 0 and "AddressSanitizer: use-after-poison" in done.stderr


@pytest.fixture(scope="module")
def race(built: Path) -> Path:
    """The kernel library and race.cpp in one program, built for ThreadSanitizer."""
    runtime("libtsan.so")
    program, own = built / "race", Path(__file__).with_name("race.cpp")
    flags = ["-std=c++17", "-O1", "-ffp-contract=fast", "-Wno-psabi", "-fsanitize=thread", "-pthread", f"-I{SOURCES}"]
    sources = [*map(str, sorted(SOURCES.glob("*.cpp"))), str(own)]
    compiler = require_compiler()
    subprocess.run([*compiler.command, *compiler.machine_flags, *flags, *sources, "-o", str(program)], check=True)
    return program


def raced(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MAIAC_NUM_THREADS": "3", "TSAN_OPTIONS": "halt_on_error=1"}
    # ThreadSanitizer keeps its shadow at fixed addresses, which randomised ones may lie in.
    fixed = ["setarch", platform.machine(), "-R"] if shutil.which("setarch") else []
    command = [*fixed, str(program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_two_callers_do_not_race(race: Path):
    done = raced(race, "10")
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert done.stdout == "3 threads, 0 wrong\n"


def test_a_race_is_seen(race: Path):
    assert "data race" in raced(race, "1", "on purpose").stderr
