"""How many threads a run has: the count in Python is the kernel library's."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from maiac.runtime import threads

BOTH = """
from maiac import peaks
from maiac.runtime.threads import default_threads
peaks.measure = lambda library: peaks.Peaks(1, 1, library.maia_threads())
peaks._write = lambda *_: None
print(default_threads(), peaks.machine_peaks(fresh=True).threads)
"""


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"OMP_NUM_THREADS": "3"},
        {"OMP_NUM_THREADS": " 5,2"},
        {"MAIAC_NUM_THREADS": "7", "OMP_NUM_THREADS": "3"},
        {"MAIAC_NUM_THREADS": "many", "OMP_NUM_THREADS": "3"},
        {"MAIAC_NUM_THREADS": "0", "OMP_NUM_THREADS": "-2"},
        {"MAIAC_NUM_THREADS": "5000"},
    ],
)
def test_kernels_have_as_many_threads(told: dict[str, str]):
    environment = {k: v for k, v in os.environ.items() if k not in threads.VARIABLES}
    code = [sys.executable, "-c", BOTH]
    done = subprocess.run(code, env={**environment, **told}, capture_output=True, text=True, check=True)
    ours, theirs = map(int, done.stdout.split())
    assert ours == theirs


def test_hardware_threads_of_one_core_count_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 5}, raising=False)
    monkeypatch.setattr(threads, "_first_sibling", lambda cpu: cpu % 4)
    assert threads.cores() == 3  # 1 and 5 are one core


def test_where_the_system_tells_no_affinity(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert threads.cores() == 1


def test_where_the_system_tells_no_siblings():
    assert threads._first_sibling(99_999) == 99_999
