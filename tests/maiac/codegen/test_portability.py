"""The kernel library for other compilers and processors, against plain loops (naive.cpp)."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from maiac.codegen.build import FLAGS, SOURCES, require_compiler

pytestmark = pytest.mark.slow
PROGRAM = Path(__file__).with_name("naive.cpp")


def run(folder: Path, command: list[str], runner: list[str]) -> str:
    """Build the library and the program, run it; what it prints."""
    made = folder / "naive"
    sources = [*map(str, sorted(SOURCES.glob("*.cpp"))), str(PROGRAM)]
    subprocess.run([*command, *FLAGS, "-Wno-psabi", "-O2", f"-I{SOURCES}", *sources, "-o", str(made)], check=True)
    done = subprocess.run([*runner, str(made)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_this_machine(tmp_path: Path):
    compiler = require_compiler()
    assert run(tmp_path, [*compiler.command, *compiler.machine_flags], []).endswith(" 0 wrong\n")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="flags of x86")
def test_four_lanes(tmp_path: Path):
    assert run(tmp_path, [*require_compiler().command, "-march=x86-64"], []).startswith("4 lanes")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="flags of x86")
def test_sixteen_lanes_compile(tmp_path: Path):
    for source in (*SOURCES.glob("*.cpp"), PROGRAM):
        command = [*require_compiler().command, *FLAGS, "-march=skylake-avx512", "-Wno-psabi", f"-I{SOURCES}"]
        subprocess.run([*command, "-c", str(source), "-o", str(tmp_path / "o")], check=True)


@pytest.mark.parametrize("name", ["g++-11", "clang++"])
def test_other_compilers(tmp_path: Path, name: str):
    if shutil.which(name) is None:
        pytest.skip(f"there is no {name}")
    assert run(tmp_path, [name, *require_compiler().machine_flags], []).endswith(" 0 wrong\n")


def test_neon_in_an_emulator(tmp_path: Path):
    compiler, emulator = (shutil.which(n) for n in ("aarch64-linux-gnu-g++", "qemu-aarch64"))
    if compiler is None or emulator is None:
        pytest.skip("needs g++-aarch64-linux-gnu and qemu-user")
    assert run(tmp_path, [compiler], [emulator, "-L", "/usr/aarch64-linux-gnu"]).endswith(" 0 wrong\n")
