"""The same bits in every run and in every process, for each number of threads."""

from __future__ import annotations

import subprocess
import sys

import pytest


def drive(threads: int, *arguments: str) -> str:
    """What a process with so many threads prints."""
    code = f"import os; os.environ['MAIAC_NUM_THREADS'] = '{threads}'\nfrom tests.maiac.codegen.drive import main\n"
    command = [sys.executable, "-c", f"{code}main({list(arguments)})"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_three_threads_repeat_themselves():
    assert drive(3, "0", "3", "4", "products", "attention", "rows")


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_repeat_themselves_in_every_process(threads: int):
    assert drive(threads, "0", "25", "5") == drive(threads, "0", "25", "2")
