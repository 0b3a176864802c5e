"""The scripts that print the README's tables: their figures, their command lines, their models."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import maiac
from benchmarks import decode, host, kernels, models, phases
from maiac.benchmark import Measured, Timing
from maiac.peaks import Peaks

ROOT = Path(__file__).parents[2]


def row(ours: float, **peers: float) -> dict[str, Any]:
    engines = {"maiac": ours, **peers}
    return {
        "engines": {e: {"median": t, "versions": f"{e} of x 1.2.3+cpu"} for e, t in engines.items()},
        "failures": {},
        "difference": dict.fromkeys(peers, 1e-6),
        "ratio": min(peers.values()) / ours if peers else None,
        "cold": {"capture": 1.0, "total": 3.0, "flops": 2e9},
        "warm": {"capture": 1.0, "total": 1.5},
        "load": {"load": 0.1, "memory": 175e6, "weights": 80e6, "live": 20e6},
        "inductor": {"total": 30.0},
    }


def test_the_table_of_times():
    rows = {"a": row(0.010, ort=0.020, eager=0.040), "b": row(0.010, eager=0.005)}
    lines = host.time_table(rows, ["ort", "eager"], Peaks(200e9, 30e9, 2))
    assert lines == [
        "| model | FLOPs / peak | eager PyTorch 1.2.3 | ONNX Runtime 1.2.3 | maiac | best peer / maiac |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| a | 10.0 | 40.0 | 20.0 | 10.0 | 2.00 |",
        "| b | 10.0 | 5.0 | – | 10.0 | 0.50 |",
        "| geometric mean |  |  |  |  | 1.00 |",
    ]
    assert host.time_table({"a": row(0.01)}, ["ort"], None)[-1] == "| a |  | 10.0 | – |"


def test_the_table_of_compiling_and_memory():
    lines = host.life_table({"a": row(0.01), "b": {**row(0.01), "inductor": {}}})
    figures = "| a | 1.0 s | 3.0 s | 1.5 s | 0.50 s | 30.0 s | 0.10 | 0.10 s | 175 MB | 100 MB | 100% |"
    assert lines[2] == figures
    assert "| – | – |" in lines[3]


def test_notes_say_what_did_not_run_and_what_differs():
    odd = row(0.01, ort=0.02, eager=0.03)
    odd["failures"] = {"openvino": "not installed"}
    odd["difference"] = {"ort": 0.5, "eager": math.nan}
    said = host.notes({"a": odd, "b": row(0.01, ort=0.02)})
    assert len(said) == 3 and "openvino did not run: not installed" in said[0] and "differ from ort's by 0.5" in said[1]


def test_differences_between_outputs(tmp_path: Path):
    x = torch.tensor([1.0, -4.0])
    for name, outputs in {"maiac": [x], "ort": [x + 1], "eager": [x, x], "inductor": [x]}.items():
        torch.save(outputs, tmp_path / f"{name}.pt")
    timings = [Timing(e, 0, 1, [1.0]) for e in ("maiac", "ort", "eager", "inductor")]
    assert host.differences(Measured(timings, {}), tmp_path) == {"ort": 1 / 3, "eager": math.inf, "inductor": 0}


def test_the_command_line(capsys: pytest.CaptureFixture[str]):
    options = host.read_options([])
    assert options.models == list(models.TABLE) and options.engines == ["ort", "openvino", "inductor", "eager"]
    assert host.read_options(["--siblings"]).models == list(models.SIBLINGS)
    assert host.read_options(["--models", "bert,gpt2", "--engines", "ort"]).models == ["bert", "gpt2"]
    for wrong in (["--models", "alexnet"], ["--engines", "tvm"]):
        with pytest.raises(SystemExit):
            host.read_options(wrong)
        assert f"unknown: {wrong[1]}" in capsys.readouterr().err


def test_a_phase_that_fails_says_why():
    with pytest.raises(SystemExit, match="alexnet: expected one of resnet50"):
        host.phase("inductor", "alexnet")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells")
def test_memory_figures_are_read():
    before = phases._reset_peak()
    held = bytearray(50_000_000)
    assert 40e6 < phases._status("VmHWM") - before < 200e6
    del held


def test_live_bytes_are_those_of_the_program():
    class Chain(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x.exp()
            return (y.neg() + y).sum(0)

    artifact = maiac.compile(Chain(), (torch.zeros(64, 1024),))
    block = 64 * 1024 * 4
    assert artifact.executor.live_bytes([torch.zeros(64, 1024)]) == 3 * block  # exp, neg, and their sum


@pytest.mark.slow
@pytest.mark.parametrize("name", [*models.TABLE, *models.SIBLINGS])
def test_models_are_the_same_every_time_and_capture(name: str):
    model, args, kwargs = models.factory(name)()
    again = models.factory(name)()
    assert not model.training
    for a, b in zip(model.parameters(), again[0].parameters(), strict=True):
        assert torch.equal(a, b)
    assert maiac.capture(model, args, kwargs).main.args


def test_unknown_models_are_named():
    with pytest.raises(KeyError, match="vae_decoder"):
        models.factory("alexnet")


def small_decode() -> tuple[models.Decode, tuple[torch.Tensor, torch.Tensor]]:
    models._declare_torchvision()
    small = {"num_hidden_layers": 2, "hidden_size": 96, "intermediate_size": 64, "vocab_size": 50, "head_dim": 8}
    torch.manual_seed(0)
    model = models._transformer("Llama", "ForCausalLM", {**models.LLAMA, **small})
    return models.Decode(model, 6).eval(), (torch.tensor([[3]]), torch.tensor([0]))


def test_decoding_token_by_token_is_the_whole_sequence():
    """The decode step, eager and compiled, gives what the model gives for all tokens at once."""
    model, example = small_decode()
    artifact = maiac.compile(model, example)
    tokens = torch.tensor([[3, 7, 1, 40, 2]])
    with torch.no_grad():
        wanted = model.model(tokens, use_cache=False).logits
        for i in range(5):
            step = tokens[:, i : i + 1], torch.tensor([i])
            torch.testing.assert_close(model(*step)[0, 0], wanted[0, i], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(artifact(*step)[0, 0], wanted[0, i], rtol=1e-4, atol=1e-5)


def test_a_step_reads_all_weights_but_the_embedding_table():
    model, example = small_decode()
    artifact = maiac.compile(model, example)
    held = sum(p.numel() for p in model.parameters()) - model.model.model.embed_tokens.weight.numel()
    cache = 2 * 2 * 6 * 4 * 8
    assert 4 * (held + cache) <= decode.bytes_read(artifact) <= 4 * (held + cache) + 1024


def test_kernels_have_figures(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kernels, "machine_peaks", lambda: Peaks(200e9, 30e9, 2))
    found = kernels.of_case("linear 1x768x2048", 0.05)
    assert found["flops"] == 2 * 768 * 2048 and found["bytes"] == 4 * (768 * 2048 + 768 + 2048)
    assert found["difference"] < 1e-5 and 0 < found["best"] <= found["median"]


@pytest.mark.slow
def test_the_whole_command(tmp_path: Path):
    command = [sys.executable, "-m", "benchmarks.host", "--models", "resnet18", "--engines", "eager", "--rounds", "1"]
    done = subprocess.run(
        [*command, "--seconds", "0.1", "--json", str(tmp_path / "x.json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "| resnet18 |" in done.stdout and "geometric mean" in done.stdout
    found = json.loads((tmp_path / "x.json").read_text())["models"]["resnet18"]
    assert found["load"]["weights"] > 46e6 and found["difference"]["eager"] < 1e-4
