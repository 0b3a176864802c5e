"""From every kind of source to an artifact: in memory, from files, by name; and over several ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch

import maiac
from maiac import MaiaError
from maiac.cli import run_command
from maiac.ir import print_module
from tests.maiac.samples import Perceptron, linear_module, linear_text, onnx_mlp, perceptron

X = torch.linspace(-1, 1, 24).reshape(3, 8)


def dynamic() -> dict[str, Any]:
    return {"x": {0: torch.export.Dim("N", min=1, max=32)}, "scale": None}


def close(found: Any, expected: Any) -> None:
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-6, atol=1e-6)


def test_a_module_with_dynamic_shapes_runs_at_all_of_them():
    model, _ = perceptron()
    artifact = maiac.compile(model, (X, 1.0), dynamic_shapes=dynamic())
    assert artifact.inputs[0].type == "f32[N, 8]" and artifact.manifest.symbols == {"N": "1..32"}
    with torch.no_grad():
        for rows in (1, 2, 32):
            x = torch.randn(rows, 8)
            close(artifact(x, 1.0), model(x))
    with pytest.raises(MaiaError, match="MAIA0502"):
        artifact(torch.randn(33, 8), 1.0)


def test_an_exported_program_and_its_file(tmp_path: Path):
    model, _ = perceptron()
    program = torch.export.export(model, (X,), strict=False)
    torch.export.save(program, tmp_path / "m.pt2")
    expected = model(X)
    for source, kind in ((program, "exported program"), (tmp_path / "m.pt2", "pt2")):
        artifact = maiac.compile(source)
        close(artifact(X), expected)
        assert artifact.manifest.source["kind"] == kind
        artifact.save(tmp_path / "m.maia")
        assert maiac.load(tmp_path / "m.maia").manifest.golden["origin"] == "example"


def test_a_function():
    artifact = maiac.compile(lambda a, b: a @ b, (torch.eye(3), torch.ones(3, 2)))
    assert torch.equal(artifact(torch.eye(3), torch.ones(3, 2)), torch.ones(3, 2))


def test_maia_text_and_modules(tmp_path: Path):
    (tmp_path / "m.maia").write_text(linear_text())
    assert print_module(maiac.capture(tmp_path / "m.maia")) == linear_text()
    module = linear_module()
    before = print_module(module)
    artifact = maiac.compile(module, quantize="int8")
    assert print_module(module) == before, "a module that the caller holds is not changed"
    assert "channel<i8" in print_module(artifact.module)


def test_an_artifact_can_be_captured_again(tmp_path: Path):
    maiac.compile(linear_module()).save(tmp_path / "m.maia")
    assert maiac.capture(tmp_path / "m.maia").name == "tiny"


def test_a_factory_by_name():
    artifact = maiac.compile("tests.maiac.samples:perceptron")
    assert artifact.manifest.source == {
        **artifact.manifest.source,
        "kind": "factory",
        "name": "tests.maiac.samples:perceptron",
    }
    close(artifact(X), perceptron()[0](X))


def test_example_inputs_are_needed():
    with pytest.raises(MaiaError, match="MAIA0713"):
        maiac.compile(Perceptron())


def test_a_tensor_in_place_of_arguments_is_refused():
    with pytest.raises(MaiaError, match=r"args is a Tensor; expected a tuple.*\n.*\(x,\)") as caught:
        maiac.compile(torch.nn.Linear(4, 4), cast(Any, torch.zeros(2, 4)))
    assert caught.value.code == "MAIA0713"


def test_random_weights_are_for_folders():
    with pytest.raises(MaiaError, match="MAIA0706"):
        maiac.compile("tests.maiac.samples:perceptron", random_weights=True)


def test_onnx_in_memory_and_on_disk(tmp_path: Path):
    model = onnx_mlp(tmp_path / "m.onnx")
    x = torch.randn(4, 5)
    a, b = maiac.compile(model)(x), maiac.compile(tmp_path / "m.onnx")(x)
    assert torch.equal(a[0], b[0])


def test_progress_is_told():
    said: list[str] = []
    maiac.compile(linear_module(), progress=lambda what, done, total: said.append(what))
    assert said[0] == "capturing" and "cse" in said


@pytest.mark.slow
def test_a_hugging_face_folder(tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=64,
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).eval()
    model.save_pretrained(tmp_path / "tiny")
    assert run_command(["compile", str(tmp_path / "tiny"), "-o", str(tmp_path / "tiny.maia")]) == 0
    assert run_command(["compare", str(tmp_path / "tiny.maia"), str(tmp_path / "tiny"), "--layers"]) == 0
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_bytes((tmp_path / "tiny" / "config.json").read_bytes())
    assert run_command(["compile", str(bare), "-o", str(tmp_path / "bare.maia")]) == 1
    assert run_command(["compile", str(bare), "-o", str(tmp_path / "bare.maia"), "--random-weights"]) == 0
    assert run_command(["compare", str(tmp_path / "bare.maia"), str(bare)]) == 0
    linked = tmp_path / "linked.maia"
    maiac.compile(tmp_path / "tiny").save(linked, link_weights=True)
    assert linked.stat().st_size < (tmp_path / "tiny.maia").stat().st_size
    assert len(maiac.load(linked).self_test()) >= 1


@pytest.mark.slow
@pytest.mark.distributed
def test_one_artifact_on_one_and_on_several_ranks(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    import json

    path = str(tmp_path / "m.maia")
    assert run_command(["compile", "tests.maiac.samples:perceptron", "-o", path, "--tp", "2"]) == 0
    capsys.readouterr()
    outputs: list[Any] = []
    for options in ([], ["--nproc", "2"], ["--tp", "2"]):
        assert run_command(["run", path, "--random", "--json", *options]) == 0
        found = json.loads(capsys.readouterr().out)
        outputs.append(found["outputs"]["y"]["first"])
        assert len(found["ranks"]) == (2 if options else 1)
        assert all(r["weight_bytes"] < 8 * 16 * 4 for r in found["ranks"][: len(options)]), "each holds its slices only"
    for other in outputs[1:]:
        assert other == pytest.approx(outputs[0], rel=1e-5, abs=1e-6)
    assert run_command(["run", path, "--random", "--nproc", "3"]) == 1
