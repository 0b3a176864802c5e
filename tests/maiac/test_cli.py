"""What all commands have in common: exit codes, JSON errors, faults of ours, Ctrl-C, pipes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maiac.cli import _interrupted
from tests.maiac.terminal import refused

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("terminal")


def test_json_errors_stand_on_stdout_alone(say, tmp_path: Path):
    spoken = say("inspect", "nothing.onnx", "--json")
    assert spoken.code == 1 and spoken.json["error"]["code"] == "MAIA0701" and spoken.err == ""


def test_usage_errors_exit_with_2(say):
    for arguments in (["cook"], ["compile"], ["compile", "a", "--tp", "0"], ["run", "a", "--bad"], ["ops", "a", "b"]):
        spoken = say(*arguments)
        assert spoken.code == 2 and spoken.out == "" and "Usage" in spoken.err


def test_our_own_fault_exits_with_3_and_leaves_a_report(say, mlp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a secret number")

    monkeypatch.setattr("maiac.inspection.inspect_model", fail)
    spoken = say("inspect", mlp[0])
    assert spoken.code == 3 and "ZeroDivisionError" in spoken.err
    (report,) = tmp_path.glob("maiac-crash-*.txt")
    assert str(report) in spoken.err and "Traceback" in report.read_text()
    assert say("inspect", mlp[0], "--json").json["crash"]["message"].startswith("ZeroDivisionError")


def test_too_large_sizes_are_no_fault_of_ours(say, tmp_path: Path):
    """Nothing of such sizes is computed while compiling, and a run says how much it would take."""
    Path("large.maia").write_text(
        "module @large {\n  sym N in 0..4611686018427387904\n"
        "  func @main(%x: f32[N, 1048576]) -> f32[N, 1048576] {\n"
        "    %y = expand %x {shape = [N, 1048576]} : f32[N, 1048576]\n    return %y\n  }\n}\n"
    )
    assert say("compile", "large.maia", "-o", "l.maia").code == 0
    text = refused(say("run", "l.maia", "--random", "--dim", f"N={1 << 40}"), "MAIA0714")
    assert "a tensor of 4.0 EiB does not fit into memory" in text
    text = refused(say("run", "l.maia", "--random", "--dim", f"N={1 << 60}"), "MAIA0714")
    assert "more bytes than can be addressed" in text


def test_a_broken_pass_exits_with_3(say, mlp, monkeypatch: pytest.MonkeyPatch):
    from maiac.passes.cse import Cse

    monkeypatch.setattr(Cse, "run", lambda self, module: 1 // 0)
    spoken = say("compile", mlp[0])
    assert spoken.code == 3 and spoken.err.startswith("MAIA0301")


def test_long_errors_are_cut_short(say, mlp, tmp_path: Path):
    np.savez("x.npz", allow_pickle=False, **{f"z{i}": np.zeros(1) for i in range(40)})
    assert "and 29 more (--json)" in say("run", mlp[1], "--input", "x.npz").err
    assert len(say("run", mlp[1], "--input", "x.npz", "--json").json["error"]["details"]) == 41


def test_ctrl_c_is_quiet(say, mlp, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("maiac.inspection.inspect_model", interrupt)
    spoken = say("inspect", mlp[0])
    assert (spoken.code, spoken.out, spoken.err.strip()) == (130, "", "")


def test_ctrl_c_that_a_library_swallows_is_quiet_too(say, mlp, monkeypatch: pytest.MonkeyPatch):
    def swallow(*_: Any, **__: Any) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            _interrupted(signal.SIGINT, None)
        raise RecursionError("half-imported")

    monkeypatch.setattr("maiac.cli._interruptions", [])
    monkeypatch.setattr("maiac.inspection.inspect_model", swallow)
    spoken = say("inspect", mlp[0])
    assert (spoken.code, spoken.out, spoken.err.strip()) == (130, "", "")


def test_no_terminal_no_progress_bar():
    from maiac.console import progress

    with progress() as report:
        report("working", 0, 10)  # nothing listens


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "maiac", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_help_needs_no_heavy_library():
    code = (
        "import sys; from maiac.cli import run_command; run_command(['--help']);"
        "print([m for m in ('torch', 'onnx', 'numpy', 'lark', 'sympy') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"
    for command in ("compile", "run", "compare", "bench", "inspect", "opt", "ops", "targets", "explain", "version"):
        assert command in done.stdout


def test_a_reader_that_leaves_early_is_no_fault():
    command = f"{sys.executable} -m maiac explain | head -2"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.slow
def test_ctrl_c_while_compiling_leaves_nothing(tmp_path: Path):
    code = (
        "import sys, time, torch\n"
        "class M(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        print('tracing', flush=True); time.sleep(60); return x\n"
        "def make(): return M(), (torch.zeros(2),)\n"
    )
    (tmp_path / "slow_factory.py").write_text(code)
    process = subprocess.Popen(
        [sys.executable, "-m", "maiac", "compile", "slow_factory:make", "-o", "m.maia"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"tracing\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert b"Traceback" not in process.stderr.read()
    assert not (tmp_path / "m.maia").exists()
