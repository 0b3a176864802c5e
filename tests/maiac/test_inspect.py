"""``maiac inspect``: what a model consists of, and what keeps it from compiling, from any kind of source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from maiac.inspection import inspect_model
from maiac.ir import parse
from maiac.report import costs_by_place, merge_alike, place_of
from tests.maiac.samples import linear_text, onnx_mlp
from tests.maiac.terminal import Say

pytestmark = pytest.mark.usefixtures("terminal")


@pytest.fixture
def columns() -> int:
    """The least width that must do."""
    return 80


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor):
        return self.proj(x) + torch.ops.samples.odd(x)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        assert next(self.parameters()).is_meta, "weights are made"

    def forward(self, x: torch.Tensor):
        for block in self.blocks:
            x = block(x)
        return torch.ops.samples.strange(x)


def unsupported() -> Any:
    return Net(), (torch.ones(3, 8),), {}, ({0: torch.export.Dim("rows", min=1, max=64)},)


class Branch(nn.Module):
    def forward(self, x: torch.Tensor):
        if x.sum() > 0:
            x = torch.ops.samples.strange(x)
        return x + 1


def branch() -> Any:
    return Branch(), (torch.ones(3),)


def row_of(found: dict[str, Any], operator: str) -> dict[str, Any]:
    return next(row for row in found["operators"] if row["operator"] == operator)


def test_a_factory_is_looked_through_on_the_meta_device():
    found = inspect_model(f"{__name__}:unsupported", {"rows": 2})
    assert found["verdict"] == "2 operators at 3 places are not supported"
    odd = row_of(found, "samples::odd.default")
    assert (odd["count"], odd["supported"], odd["runs_on"]) == (2, False, "not supported")
    assert [(p["name"], Path(p["file"]).name) for p in odd["places"]] == [
        ("blocks.0", "test_inspect.py"),
        ("blocks.1", "test_inspect.py"),
    ]
    linear = row_of(found, "aten::linear.default")
    assert linear["becomes"] == {"linear": 2} and linear["runs_on"] == "device"
    assert linear["flops"] == found["summary"]["flops_by_op"]["linear"]
    assert found["summary"]["symbols"] == {"rows": "1..64"}
    assert [f["code"] for f in found["faults"]] == ["MAIA0201", "MAIA0201"]
    assert "custom operator" in found["faults"][0]["advice"] and len(found["faults"][0]["places"]) == 2
    (projections, *_) = merge_alike(found["modules"])
    assert (projections["place"], projections["times"], projections["parameters"]) == ("blocks.*.proj", 2, 144)
    assert projections["bytes"] == 4 * 144


def test_the_page_says_the_verdict_first_and_cuts_nothing_at_80_columns(say: Say):
    spoken = say("inspect", f"{__name__}:unsupported", "--reproducers", "files")
    lines = spoken.out.splitlines()
    assert spoken.code == 1
    assert lines[0] == f"{__name__}:unsupported: 2 operators at 3 places are not supported"
    text = "\n".join(lines)
    assert "x samples.odd  2 places  MAIA0201" in text and "instead: a custom operator" in text
    assert "blocks.*.proj  x2" in text and "rows in 1..64" in text and "…" not in text
    table = [line for line in lines if " samples." in line and not line.startswith("x")]
    assert all(len(line) <= 80 for line in table) and any("samples.strange " in line for line in table)
    assert "reproducer: files/maiac-repro-samples_strange_default.py" in text
    assert len(list(Path("files").iterdir())) == 2


@pytest.mark.parametrize("columns", [140])
def test_a_wide_terminal_shows_what_operators_become(say: Say, tmp_path: Path):
    onnx_mlp(tmp_path / "mlp.onnx")
    text = say("inspect", "mlp.onnx", "--top", "1").out
    assert text.startswith("mlp.onnx: compiles\n") and "linear x2" in text and "modules more (--top" in text


def test_a_model_that_cannot_be_traced_is_looked_through_by_its_example():
    found = inspect_model(f"{__name__}:branch")
    assert found["verdict"] == "cannot be traced at 1 line, 1 operator at 1 place is not supported"
    assert found["unsupported"]["code"] == "MAIA0202"
    line, strange = found["faults"]
    assert line["why"].startswith("`if x.sum() > 0:` at ") and f"{__file__}:" in line["why"]
    assert strange["operator"] == "samples::strange.default" and row_of(found, "aten::add.Tensor")["count"] == 1
    assert found["notes"] == ["operators and figures are those of the way that the example inputs take"]


def odd_onnx(path: Path) -> None:
    made = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20, "acme" : 1]>'
        "g (float[batch, 8] x) => (float[batch, 4] y) {"
        "  a = MatMul(x, w1)"
        "  s = Shape(x)"
        "  z = Reshape(a, s)"
        "  b = acme.FancyAct(z)"
        "  c = Relu(b)"
        "  y = MatMul(c, w2)"
        "}"
    )
    for i, node in enumerate(made.graph.node):
        node.name = f"/layers.{i}/{node.op_type}"
    shapes = {"w1": (8, 8), "w2": (8, 4)}
    made.graph.initializer.extend(numpy_helper.from_array(np.ones(s, np.float32), n) for n, s in shapes.items())
    onnx.save(made, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)


def test_an_onnx_graph_without_its_weights(tmp_path: Path):
    odd_onnx(tmp_path / "odd.onnx")
    (tmp_path / "weights.bin").unlink()
    found = inspect_model("odd.onnx")
    assert found["verdict"] == "1 operator at 1 place is not supported"
    assert found["notes"] == ["2 weights are in files that are not there: judged by the graph alone"]
    assert [(r["operator"], r["count"], r["runs_on"]) for r in found["operators"]] == [
        ("acme.FancyAct", 1, "not supported"),
        ("ai.onnx.MatMul", 2, "device"),
        ("ai.onnx.Relu", 1, "not reached"),
        ("ai.onnx.Reshape", 1, found["operators"][3]["runs_on"]),
        ("ai.onnx.Shape", 1, "compile time"),
    ]
    assert found["operators"][0]["places"] == [{"name": "/layers.3/FancyAct", "file": "", "line": 0}]
    assert found["summary"]["weights"]["f32"]["elements"] == 96
    assert found["modules"][0]["place"] == "layers.0"


def test_an_operator_that_only_a_host_runs(tmp_path: Path):
    made = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]>'
        "g (string[2] x, string[2] z) => (string[2] y) { y = StringConcat(x, z) }"
    )
    onnx.save(made, "text.onnx")
    found = inspect_model("text.onnx")
    assert (found["verdict"], found["operators"][0]["runs_on"]) == ("compiles", "host")


def test_a_hugging_face_folder_needs_its_config_only():
    from transformers import LlamaConfig

    config = LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=128, max_position_embeddings=128, dtype="bfloat16", architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    config.save_pretrained("llama")
    found = inspect_model("llama", {"T": 16})
    assert found["verdict"] == "compiles" and found["kind"] == "huggingface"
    assert set(found["summary"]["weights"]) >= {"bf16"} and found["summary"]["flops_at"] == {"T": 16}
    assert any(row["place"] == "model.layers.0.mlp.up_proj" for row in found["modules"])


def test_exported_programs_and_maia_text(tmp_path: Path):
    program = torch.export.export(nn.Linear(4, 2), (torch.ones(3, 4),))
    torch.export.save(program, tmp_path / "m.pt2")
    assert inspect_model("m.pt2")["operators"][0]["becomes"] == {"linear": 1}
    (tmp_path / "m.maia").write_text(linear_text())
    found = inspect_model("m.maia")
    assert found["verdict"] == "compiles" and found["operators"] == [] and found["summary"]["ops"] == {"linear": 1}


def test_json_holds_everything(say: Say, tmp_path: Path):
    odd_onnx(tmp_path / "odd.onnx")
    spoken = say("inspect", "odd.onnx", "--json")
    assert spoken.code == 1
    parts = {"verdict", "operators", "faults", "modules", "summary", "weights", "reproducers", "notes"}
    assert parts <= set(spoken.json)


def test_costs_count_a_function_as_often_as_it_is_called():
    module = parse(
        """module @m {
  weight @a.w : f32[4, 4]
  weight @spare.w : f32[5]

  func @f(%x: f32[2, 4]) -> f32[2, 4] {
    %y = linear %x, @a.w : f32[2, 4] at "a"
    return %y
  }

  func @main(%x: f32[2, 4]) -> f32[2, 4] {
    %y = call %x {callee = @f} : f32[2, 4]
    %z = call %y {callee = @f} : f32[2, 4]
    return %z
  }
}
"""
    )
    first, spare = costs_by_place(module)
    assert first == {"place": "a", "flops": 2 * 2 * 2 * 4 * 4, "parameters": 16, "bytes": 64}
    assert spare == {"place": "spare", "flops": 0, "parameters": 5, "bytes": 20}


def test_places_that_differ_in_numbers_only_are_one_row():
    row = {"flops": 1, "parameters": 2, "bytes": 8}
    rows = merge_alike([{"place": p, **row} for p in ("layers.0.a", "layers.1.a", "conv2d.3", "head")])
    assert [(r["place"], r["times"], r["flops"]) for r in rows] == [
        ("layers.*.a", 2, 2),
        ("conv2d.3", 1, 1),
        ("head", 1, 1),
    ]
    assert place_of("/layers.0/attn/MatMul") == "layers.0/attn" and place_of("a.b") == "a.b"
