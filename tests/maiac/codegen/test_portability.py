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
COMPILERS = ("c++", "g++-11", "clang++")  # the first is the system's own; others are tried where they are
NARROW = {"x86_64": "x86-64", "aarch64": "armv8-a"}
WIDE = {"x86_64": "skylake-avx512", "aarch64": "armv8.2-a+sve"}


def run(folder: Path, command: list[str], runner: list[str]) -> str:
    """Build the library and the program, run it; what it prints."""
    made = folder / "naive"
    sources = [*map(str, sorted(SOURCES.glob("*.cpp"))), str(PROGRAM)]
    subprocess.run([*command, *FLAGS, "-Wno-psabi", f"-I{SOURCES}", *sources, "-o", str(made)], check=True)
    done = subprocess.run([*runner, str(made)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", [n for n in COMPILERS if shutil.which(n)])
def test_the_compilers_of_this_machine(tmp_path: Path, name: str):
    assert run(tmp_path, [name, *require_compiler().machine_flags], []).endswith(" 0 wrong\n")


def test_four_lanes(tmp_path: Path):
    said = run(tmp_path, [*require_compiler().command, f"-march={NARROW[platform.machine()]}"], [])
    assert said.startswith("4 lanes") and said.endswith(" 0 wrong\n")


def test_the_widest_vectors_compile(tmp_path: Path):
    for source in (*SOURCES.glob("*.cpp"), PROGRAM):
        command = [
            *require_compiler().command,
            *FLAGS,
            f"-march={WIDE[platform.machine()]}",
            "-Wno-psabi",
            f"-I{SOURCES}",
        ]
        subprocess.run([*command, "-c", str(source), "-o", str(tmp_path / "o")], check=True)


def test_neon_in_an_emulator(tmp_path: Path):
    compiler, emulator = (shutil.which(n) for n in ("aarch64-linux-gnu-g++", "qemu-aarch64"))
    assert compiler and emulator, "this test needs g++-aarch64-linux-gnu and qemu-user"
    assert run(tmp_path, [compiler], [emulator, "-L", "/usr/aarch64-linux-gnu"]).endswith(" 0 wrong\n")
