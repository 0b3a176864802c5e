"""Set the process up before any test module imports torch or a model library."""

import os
import signal

import pytest

from maiac.runtime.threads import cores  # which imports no torch
from tests import _environment

_environment.prepare()

# A run in the background ignores Ctrl-C, and so would the processes that tests start and interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Workers share the cores: torch would start a thread for every core in each of them.
_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // _workers)))

from tests import _torchvision_shim  # noqa: E402  (imports torch, which reads the variables above)

# transformers and ultralytics import torchvision by themselves, so this cannot wait for a test to ask.
_torchvision_shim.declare_operators()

from maiac.ir import parse, print_module, verifier  # noqa: E402
from maiac.ir.graph import Module  # noqa: E402

_seen: set[int] = set()


def _round_trip(module: Module) -> None:
    """Every module that a test verifies, and so every module that a pass makes, survives print and parse."""
    text = print_module(module)
    if hash(text) not in _seen:
        _seen.add(hash(text))
        again = print_module(parse(text))
        assert again == text, f"@{module.name} does not survive its text:\n{text}\n---\n{again}"


verifier.also_check.append(_round_trip)


@pytest.fixture(params=["reference", "native"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test runs twice, by reference kernels and by machine code."""
    monkeypatch.setenv("MAIAC_NATIVE", str(int(request.param == "native")))
    return request.param
