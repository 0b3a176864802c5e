"""``maiac bench``: turns with other engines, engines that fail, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import maiac
from maiac import MaiaError
from maiac.bench_source import Setup, chosen_inputs, original
from maiac.benchmark import Measured, Timing, Worker, names_of
from maiac.benchmark import bench as opened
from maiac.cli import run_command
from maiac.engines import tensors_of, versions
from maiac.timing import in_turns, turn
from tests.maiac.samples import linear_text

ROOT = Path(__file__).parents[2]

# What the worker of `openvino` finds instead: it runs, and ends in the middle where the environment says so.
STAND_IN = """
import os, time
class Tensor:
    def __init__(self, array): self.data = array
class Request:
    model_inputs = [None]
    runs = 0
    def set_input_tensor(self, i, tensor): self.output_tensors = [tensor]
    def infer(self):
        self.runs += 1
        time.sleep(0.001)
        if self.runs > int(os.environ.get("DIES_AFTER", 1000000)):
            print("out of luck", flush=True)
            os._exit(3)
class Model:
    def create_infer_request(self): return Request()
class Core:
    def read_model(self, path): return Model()
def compile_model(model, device, hints):
    assert device == "CPU" and hints["INFERENCE_NUM_THREADS"] == 1
    return model
"""


pytestmark = pytest.mark.usefixtures("terminal")


@pytest.fixture
def mlp(mlp: tuple[Path, Path]) -> tuple[str, str]:
    """The same as text, which workers are sent."""
    return str(mlp[0]), str(mlp[1])


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch):
    """Workers import from the folder where the command runs, and find the repository all the same."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def bench(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert run_command(["bench", *arguments, "--rounds", "2", "--seconds", "0.02", "--threads", "1", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def measure(setup: Setup, engines: list[str]) -> Measured:
    with opened(setup, engines) as ready:
        return ready.measure(rounds=1, seconds=0.01)


@pytest.mark.slow
def test_an_engine_that_is_missing_does_not_stop_the_others(mlp, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "openvino.py").write_text("raise ImportError('not here')")
    found = bench(capsys, mlp[1], "--vs", "openvino,ort,eager", "--source", mlp[0])
    assert list(found["engines"]) == ["maiac", "ort"] and found["best_peer"] == "ort"
    assert "pip install 'maiac[bench]'" in found["failures"]["openvino"]
    assert "PyTorch cannot run" in found["failures"]["eager"]
    ort = found["engines"]["ort"]
    assert ort["versions"] == versions("ort") and ort["versions"].startswith("onnxruntime ")
    assert found["ratio"] == pytest.approx(ort["median"] / found["engines"]["maiac"]["median"])


@pytest.mark.slow
def test_an_engine_that_dies_in_the_middle(mlp, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "openvino.py").write_text(STAND_IN)
    monkeypatch.setenv("DIES_AFTER", "12")
    code = run_command(
        ["bench", mlp[1], "--vs", "openvino,ort", "--source", mlp[0], "--threads", "1", "--seconds", "0.05"]
    )
    said = capsys.readouterr()
    assert code == 0
    assert said.err.split() == [
        "openvino",
        "did",
        "not",
        "run:",
        "openvino",
        "stopped",
        "with",
        "exit",
        "code",
        "3:",
        "out",
        "of",
        "luck",
    ]
    assert "best peer / maiac" in said.out and "onnxruntime" in said.out


@pytest.mark.slow
def test_openvino_is_asked_for_latency_on_so_many_threads(mlp, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "openvino.py").write_text(STAND_IN)
    found = bench(capsys, mlp[1], "--vs", "openvino", "--source", mlp[0])
    assert found["failures"] == {} and found["engines"]["openvino"]["median"] >= 0.001


@pytest.mark.slow
def test_where_all_others_fail_the_command_does(mlp, tmp_path: Path):
    (tmp_path / "openvino.py").write_text("raise ImportError('not here')")
    with pytest.raises(MaiaError, match="openvino is not installed") as caught:
        measure(Setup(mlp[1], mlp[0]), ["maiac", "openvino", "eager"])
    assert caught.value.code == "MAIA0711" and "PyTorch cannot run" in caught.value.details[0]


def test_where_ours_fails_the_command_does(mlp):
    with pytest.raises(MaiaError, match="no symbolic dim Q") as caught:
        measure(Setup(mlp[1], dims={"Q": 3}), ["maiac"])
    assert caught.value.code == "MAIA0711"


@pytest.mark.slow
def test_a_source_that_no_other_engine_runs(mlp, tmp_path: Path):
    (tmp_path / "m.maia").write_text(linear_text())
    with pytest.raises(MaiaError, match="no other engine runs"):
        measure(Setup(mlp[1], "m.maia"), ["maiac", "ort"])


def test_names_of_engines():
    assert list(names_of("ort, openvino,,ort")) == ["ort", "openvino"]
    with pytest.raises(MaiaError, match="expected one of ort, openvino, inductor, eager"):
        list(names_of("ort,maiac"))


def test_ratios():
    ours, peer, slow = (Timing(e, 0, 1, t) for e, t in (("maiac", [1.0]), ("ort", [3.0, 1.0, 2.0]), ("eager", [9.0])))
    assert peer.median == 2 and peer.best == 1 and peer.spread > 0 and slow.spread == 0
    assert Measured([ours, slow, peer], {}).ratio == 2
    assert Measured([ours], {}).ratio is None and Measured([peer], {}).ratio is None


class Clock:
    """Time that passes as told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("maiac.timing.clock", lambda: self.now)

    def spend(self, seconds: float) -> None:
        self.now += seconds


def test_a_turn_has_some_runs_however_long_they_take(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    assert turn(lambda: clock.spend(2.0), 1.0) == [2.0] * 3
    assert turn(lambda: clock.spend(0.25), 1.0) == [0.25] * 4


def test_turns_share_the_time(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    quick, slow = in_turns([lambda: clock.spend(0.25), lambda: clock.spend(1.5)], 8.0, turns=4)
    assert quick == [0.25] * 4 * 4 and slow == [1.5] * 4  # a second each in every turn


# **** PyTorch sources ****

FACTORY = """
import torch
class Cell(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 4)
    def forward(self, x, *, scale=1.0, flag=False):
        y = self.layer(x) * scale
        return {"y": y, "z": y.relu()}
def make():
    torch.manual_seed(0)
    return Cell().eval(), (torch.randn(3, 8),), {"scale": 2.0, "flag": False}
"""


@pytest.mark.slow
def test_a_factory_runs_on_every_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("onnxscript")
    (tmp_path / "cell.py").write_text(FACTORY)
    maiac.compile("cell:make").save("cell.maia")
    (tmp_path / "out").mkdir()
    engines = ["maiac", "ort", "inductor", "eager"]
    found = measure(Setup("cell.maia", "cell:make", outputs="out"), engines)
    assert [t.engine for t in found.timings] == engines and found.failures == {}
    outputs = [torch.load(f"out/{e}.pt", weights_only=True) for e in engines]
    for made in outputs[:-1]:
        torch.testing.assert_close(made, outputs[-1])  # the factory's own inputs, not random ones


@pytest.mark.slow
def test_a_pt2_file_runs_on_every_engine(tmp_path: Path):
    pytest.importorskip("onnxscript")
    model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU()).eval()
    torch.export.save(torch.export.export(model, (torch.randn(3, 8),)), "m.pt2")
    maiac.compile("m.pt2").save("m.maia")
    (tmp_path / "out").mkdir()
    found = measure(Setup("m.maia", "m.pt2", outputs="out"), ["maiac", "ort", "eager"])
    assert [t.engine for t in found.timings] == ["maiac", "ort", "eager"]
    ours, ort, eager = (torch.load(f"out/{e}.pt", weights_only=True) for e in ("maiac", "ort", "eager"))
    torch.testing.assert_close(ours, eager)
    torch.testing.assert_close(ort, eager)


@pytest.mark.slow
def test_a_model_that_cannot_be_exported_runs_on_eager(tmp_path: Path):
    """The exporter has no ONNX for it; PyTorch's engines run all the same."""
    code = "import torch\ndef make(): return torch.nn.Sequential(torch.nn.Linear(4, 4)), (torch.randn(2, 4),)\n"
    (tmp_path / "plain.py").write_text(code)
    maiac.compile("plain:make").save("plain.maia")
    (tmp_path / "onnxscript.py").write_text("raise RuntimeError('broken')")
    found = measure(Setup("plain.maia", "plain:make"), ["maiac", "ort", "eager"])
    assert [t.engine for t in found.timings] == ["maiac", "eager"]
    assert "could not be exported to ONNX" in found.failures["ort"]


@pytest.mark.slow
def test_a_folder_without_weights_runs_where_the_artifact_has_random_ones(tmp_path: Path, monkeypatch):
    from transformers import LlamaForCausalLM

    from tests.models.zoo import llama_config

    model = LlamaForCausalLM(llama_config(1, hidden_size=32, intermediate_size=32, num_attention_heads=4))
    model.config.architectures = ["LlamaForCausalLM"]
    model.config.save_pretrained("llama")
    # transformers imports torchvision by itself, which may be one for another torch (see conftest).
    shim = "from tests._torchvision_shim import declare_operators\ndeclare_operators()\n"
    (tmp_path / "sitecustomize.py").write_text(shim)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    maiac.compile("llama", random_weights=True).save("llama.maia")
    (tmp_path / "out").mkdir()
    with opened(Setup("llama.maia", "llama", outputs="out"), ["maiac", "eager"]) as ready:
        assert ready.measure(rounds=1, seconds=0.01).failures == {}
        assert ready.profile(seconds=0.01).steps
    ours, eager = (torch.load(f"out/{e}.pt", weights_only=True) for e in ("maiac", "eager"))
    torch.testing.assert_close(ours, eager, rtol=1e-3, atol=1e-4)


def test_sources_are_opened_without_capturing_them(tmp_path: Path, mlp):
    assert original(mlp[0]).is_onnx
    model = torch.nn.Linear(2, 2)
    assert original(model).model is model
    program = torch.export.export(model, (torch.zeros(1, 2),))
    assert original(program).args[0].shape == (1, 2)
    (tmp_path / "two.py").write_text("import torch\ndef make(): return torch.nn.ReLU(), (torch.ones(3),), {'a': 1}\n")
    found = original("two:make")
    assert isinstance(found.model, torch.nn.ReLU) and found.kwargs == {"a": 1} and not found.is_onnx


def test_inputs_are_the_source_s_own_unless_sizes_are_asked_for(tmp_path: Path, mlp):
    artifact = maiac.load(mlp[1])
    (tmp_path / "three.py").write_text("import torch\ndef make(): return torch.nn.ReLU(), (torch.ones(7, 5),)\n")
    source = original("three:make")

    asked = Setup("")
    artifact.manifest = maiac.compile(torch.nn.ReLU(), (torch.ones(7, 5),)).manifest
    assert chosen_inputs(asked, artifact, source)[0].shape == (7, 5)
    assert chosen_inputs(replace(asked, dims={"N": 9}), artifact, source)[0].shape == (9, 5)


def test_outputs_of_every_kind_become_tensors():
    import numpy as np

    x = torch.ones(2)
    found = tensors_of({"a": [x, np.zeros(3)], "b": (None, 4)})
    assert [tuple(t.shape) for t in found] == [(2,), (3,)] and found[0] is not x


# **** profile and trace ****


def test_profile_and_trace(mlp, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("MAIAC_CXX", "none")  # no peaks: they are measured by tests of their own
    monkeypatch.setenv("MAIAC_CACHE_DIR", str(tmp_path / "cache"))
    found = bench(capsys, mlp[1], "--profile", "--trace", "t.json")
    total = found["profile"]["total"]
    assert total["calls"] == sum(r["calls"] for r in found["profile"]["places"]) > 0
    assert total["seconds"] == pytest.approx(sum(r["seconds"] for r in found["profile"]["kernels"]))
    assert found["profile"]["run"] > 0 and total["share"] == 1
    memory = found["profile"]["memory"]
    assert memory["arena"] == sum(p["arena"] for p in memory["plans"].values()) >= memory["lower_bound"]
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert [e["ph"] for e in events] == ["M", "M"] + ["X"] * total["calls"]


@pytest.mark.slow
def test_the_profile_is_shown(mlp, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("MAIAC_CXX", "none")
    monkeypatch.setenv("MAIAC_CACHE_DIR", str(tmp_path / "cache"))
    assert run_command(["bench", mlp[1], "--profile", "--top", "1", "--rounds", "1", "--seconds", "0.02"]) == 0
    said = capsys.readouterr()
    for text in ("Kernels", "Places", "GFLOP/s", "of bound", "total", "a run takes", "values beside them"):
        assert text in said.out
    assert "the machine's peaks are not known" in said.err


def test_a_trace_that_cannot_be_written_stops_before_anything_runs(mlp, capsys: pytest.CaptureFixture[str]):
    assert run_command(["bench", mlp[1], "--trace", "nowhere/t.json"]) == 1
    assert capsys.readouterr().err.startswith("MAIA0411")


def test_a_profile_of_what_does_not_run(mlp):
    with pytest.raises(MaiaError, match="no symbolic dim Q"), opened(Setup(mlp[1], dims={"Q": 3})) as ready:
        ready.profile(seconds=0.01)


# **** the end ****


def test_a_worker_ends_with_all_that_it_started(mlp):
    with Worker("maiac", Setup(mlp[1])) as worker:
        assert worker.process.poll() is None and worker.ask({"seconds": 0.001})["times"]
    assert worker.process.poll() is not None and worker.said.closed


@pytest.mark.slow
def test_ctrl_c_leaves_nothing(mlp, tmp_path: Path):
    psutil = pytest.importorskip("psutil")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "maiac", "bench", mlp[1], "--vs", "ort", "--source", mlp[0], "--seconds", "60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    with process:
        assert process.stderr is not None
        watched = psutil.Process(process.pid)
        deadline = time.monotonic() + 60
        while len(workers := watched.children(recursive=True)) < 2:  # both engines have been started
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        assert list(temporary.iterdir()), "the inputs lie there"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert b"Traceback" not in process.stderr.read()
    assert not psutil.wait_procs(workers, timeout=10)[1]
    assert list(temporary.iterdir()) == []
