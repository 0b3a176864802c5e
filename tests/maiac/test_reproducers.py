"""All faults of a model at once, each with where it is, what to write instead, and a file that shows it alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import maiac
from maiac.frontends.advice import ADVICE, advice_for
from maiac.frontends.onnx.registry import onnx_op
from maiac.ir.errors import InternalFault, MaiaError
from maiac.reproducers import fault_of
from tests.maiac import samples

assert samples.LIBRARY  # it holds the operators of torch.ops.samples

ROOT = Path(__file__).parents[2]
X = torch.ones(4, 4)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def refused(model: Any, *args: Any, **options: Any) -> MaiaError:
    with pytest.raises(MaiaError) as caught:
        maiac.compile(model, args, **options)
    return caught.value


def run_alone(script: Path) -> str:
    """What a script says in a process of its own."""
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, env=ENV)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    return done.stderr[done.stderr.index("MAIA") :]  # torch may warn before


ENV = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": "/tmp"}


# **** PyTorch ****


class Odd(nn.Module):
    def forward(self, x: torch.Tensor):
        a, b = torch.ops.samples.twist(x, 3)
        c, _ = torch.ops.samples.twist(x.t(), 4)
        return a + 1, b, c, torch.ops.samples.odd(x)


def test_operators_come_with_advice_and_a_script_that_fails_alike():
    error = refused(Odd(), X)
    assert error.code == "MAIA0201"
    twist, odd = error.details
    assert twist.startswith("samples::twist.default: 2x at ") and f"{__file__}:" in twist and "decomposition" in twist
    assert odd.startswith("samples::odd.default: 1x at ")
    assert [p.name for p in error.reproducers] == [
        "maiac-repro-samples_twist_default.py",
        "maiac-repro-samples_odd_default.py",
    ]
    assert all(f"reproducer: {path}" in str(error) for path in error.reproducers)
    said = run_alone(error.reproducers[0])
    assert said.startswith("MAIA0201") and "samples::twist" in said


def test_dynamic_dims_stay_dynamic_in_a_script(tmp_path: Path):
    length = torch.export.Dim("T", min=2, max=64)
    error = refused(Odd(), X, dynamic_shapes=({0: length, 1: length},), dump_ir=tmp_path / "dumps")
    twist, *_ = error.reproducers
    assert twist.parent == tmp_path / "dumps"
    assert "dynamic_shapes" in (text := twist.read_text()) and "{0: torch.export.Dim.AUTO, 1:" in text
    assert fault_of(twist) == "MAIA0201"


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.limit = 3

    def forward(self, x: torch.Tensor, y: torch.Tensor):
        if (x * self.weight).sum() > self.limit:
            x = x + 1
        if y.sum() > 3:
            x = x * 2
        return torch.ops.samples.odd(x)


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, x: torch.Tensor, y: torch.Tensor):
        return self.inner(x, y)


def test_every_branch_on_data_is_told_and_what_else_is_not_supported(capfd: pytest.CaptureFixture[str]):
    error = refused(Outer(), X, torch.ones(2))
    assert error.code == "MAIA0202"
    assert "`if (x * self.weight).sum() > self.limit:`" in error.message
    assert error.loc is not None and error.loc.name == "inner" and error.loc.file == __file__
    first, second, other = error.details
    assert "self.limit" in first and "`if y.sum() > 3:` at inner (" in second and f"{__file__}:" in second
    assert "samples::odd" in other and other.endswith("(MAIA0201)")
    line, odd = error.reproducers
    assert line.name == f"maiac-repro-line_{error.loc.line}.py"
    assert "if (x * self_weight).sum() > 3:" in line.read_text()
    assert fault_of(line) == "MAIA0202"
    assert fault_of(odd) == "MAIA0201"
    assert capfd.readouterr().err == ""  # torch would print its graph


def test_an_operator_that_torch_cannot_trace_is_named():
    class Opaque(nn.Module):
        def forward(self, x: torch.Tensor):
            return torch.ops.samples.opaque(x) + 1

    error = refused(Opaque(), X)
    assert error.code == "MAIA0204" and "samples" in error.message
    assert any("register_fake" in d for d in error.details)


def test_a_line_that_fails_is_shown_alone():
    class Wrong(nn.Module):
        def forward(self, x: torch.Tensor):
            y = x.reshape(1, 16)
            return torch.cat([x, y])

    error = refused(Wrong(), X)
    assert error.code == "MAIA0204"
    (script,) = error.reproducers
    assert "torch.cat([x, y])" in script.read_text() and fault_of(script) == "MAIA0204"


def test_a_number_that_cannot_be_told_blames_no_other_operator():
    class Number(nn.Module):
        def forward(self, x: torch.Tensor):
            n = x.sum().item()
            return x * (n * 2.0) + torch.ops.samples.odd(x)

    error = refused(Number(), X)
    assert error.code in ("MAIA0201", "MAIA0202") and not isinstance(error, InternalFault)


def test_a_broken_handler_is_our_fault_and_named(monkeypatch: pytest.MonkeyPatch):
    from maiac.frontends.aten import handlers

    def broken(*_: Any) -> None:
        raise KeyError("lost")

    table = {**handlers(), "aten::relu.default": broken}
    monkeypatch.setattr("maiac.frontends.importer.handlers", lambda: table)
    error = refused(nn.ReLU(), X)
    assert isinstance(error, InternalFault) and error.code == "MAIA0229"
    assert "KeyError: 'lost', raised at test_reproducers.py:" in error.details[0]
    assert isinstance(error.__cause__, KeyError)
    (script,) = error.reproducers
    assert "torch.ops.aten.relu.default(x0)" in script.read_text()
    monkeypatch.undo()
    assert fault_of(script) == ""  # the fault went away with the broken handler


# **** ONNX ****


def model(text: str, **tensors: Any) -> onnx.ModelProto:
    made = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20, "acme" : 1]>\n{text}')
    made.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in tensors.items())
    return made


def test_faults_of_several_kinds_come_at_once_and_each_has_a_file():
    error = refused(
        model(
            "g (float[2, 3] x, int64[n] s) => (float[2, 3] y, float[2, 3] v, int64[2] k) {"
            "  a = acme.Frobnicate <level = 3> (x)"
            "  b = Relu(a)"  # nothing is known of a: not to blame
            "  i = acme.Index(x)"
            "  c = Reshape(x, i)"
            "  y = Add(b, c)"
            "  e = Reshape(x, s)"  # how many dims it has is not told
            "  v = MatMul(x, x)"  # dims that do not fit
            "  k = Shape(x)"
            "}"
        )
    )
    assert error.code == "MAIA0220"
    assert error.message == "2 operators of the model are not supported, and 2 other faults"
    first, second, form, wrong = error.details
    assert first.startswith("acme.Frobnicate (opset 1): 1 node, first 'a'; put its function body into the file")
    assert second.startswith("acme.Index (opset 1): 1 node, first 'i'; ")
    assert form.startswith("ai.onnx.Reshape (opset 20): 1 node, first 'e': ") and form.endswith("(MAIA0225)")
    assert wrong.startswith("ai.onnx.MatMul (opset 20): 1 node, first 'v': ") and wrong.endswith("(MAIA0105)")
    assert [fault_of(p) for p in error.reproducers] == ["MAIA0220", "MAIA0220", "MAIA0225", "MAIA0105"]
    alone = onnx.load(error.reproducers[0])
    assert [n.op_type for n in alone.graph.node] == ["Frobnicate"] and alone.graph.node[0].attribute[0].i == 3
    assert error.reproducers[0].name == "maiac-repro-acme.Frobnicate.onnx"


def test_a_name_of_the_model_stays_a_name_of_one_file(tmp_path: Path):
    proto = model("g (float[2, 3] x) => (float[2, 2] y) { y = acme.Frobnicate(x) }")
    proto.graph.node[0].op_type = "../../\0" + "x" * 300
    (path,) = refused(proto).reproducers
    assert path.parent.resolve() == tmp_path.resolve() and len(path.name) < 130
    assert fault_of(path) == "MAIA0220"


def test_a_single_fault_keeps_its_own_message_and_place():
    error = refused(model("g (float[2, 3] x) => (float[2, 2] y) { y = MatMul(x, x) }"))
    assert error.code == "MAIA0105" and error.message.startswith("matmul(") and error.loc is not None
    assert error.loc.name == "y" and len(error.reproducers) == 1


def test_constants_and_values_around_a_subgraph_are_in_the_file():
    import numpy as np

    branch = helper.make_graph(
        [helper.make_node("Mystery", ["x", "w"], ["t"], domain="acme")],
        "then",
        [],
        [helper.make_empty_tensor_value_info("t")],
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "g",
        [info("x", TensorProto.FLOAT, [2]), info("c", TensorProto.BOOL, [])],
        [info("y", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(np.ones(2, np.float32), "w")],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("acme", 1)]
    error = refused(helper.make_model(graph, opset_imports=opsets))
    assert error.message == "an operator of the model is not supported"
    (detail,) = error.details
    assert detail.startswith("acme.Mystery (opset 1): 2 nodes, first 't'; ")
    (path,) = error.reproducers
    alone = onnx.load(path)
    assert [i.name for i in alone.graph.input] == ["x"] and [i.name for i in alone.graph.initializer] == ["w"]
    assert alone.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2


def test_a_fault_inside_a_function_or_a_loop_is_told_once():
    text = (
        "g (float[2, 3] x, int64 n, bool c) => (float[2, 3] y) {"
        "  y = Loop <body = b (int64 i, bool go, float[2, 3] s) => (bool go2, float[2, 3] t) {"
        "    go2 = Identity(go)"
        "    t = MatMul(s, s)"
        "  }> (n, c, x)"
        "}"
    )
    error = refused(model(text))
    assert error.code == "MAIA0105" and error.details == ()


def test_a_node_in_a_function_is_shown_with_the_attributes_of_the_call():
    made = model("g (float[2, 3] x) => (float[2, 3] y) { y = own.Layer <width = 3> (x) }")
    inner = helper.make_node("DepthToSpace", ["a"], ["b"])
    inner.attribute.add(name="blocksize", ref_attr_name="width", type=onnx.AttributeProto.INT)
    opsets = [helper.make_opsetid("", 13)]
    made.functions.append(helper.make_function("own", "Layer", ["a"], ["b"], [inner], opsets, ["width"]))
    made.opset_import.append(helper.make_opsetid("own", 1))
    error = refused(made)
    assert error.code == "MAIA0223"
    (path,) = error.reproducers
    alone = onnx.load(path)
    assert alone.graph.node[0].attribute[0].i == 3 and not alone.graph.node[0].attribute[0].ref_attr_name
    assert {o.domain: o.version for o in alone.opset_import}[""] == 13


def test_a_node_that_no_handler_can_read_has_a_file(monkeypatch: pytest.MonkeyPatch):
    from maiac.frontends.onnx import registry

    monkeypatch.setattr(registry, "_TABLE", {k: list(v) for k, v in registry._TABLE.items()})

    @onnx_op("Broken", domain="acme")
    def broken(c: Any) -> Any:
        raise IndexError("nothing there")

    error = refused(model("g (float[2] x) => (float[2] y) { y = acme.Broken(x) }"))
    assert error.code == "MAIA0228" and "IndexError: nothing there, raised at test_reproducers.py:" in error.message
    (path,) = error.reproducers
    assert fault_of(path) == "MAIA0228"


def test_a_damaged_constant_is_copied_as_it_is():
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3, 3], bytes(36), raw=True)
    weight.dims[:] = [5]
    made = model("g (float[5] x) => (float[5] y) { y = Add(x, w) }")
    made.graph.initializer.append(weight)
    error = refused(made)
    assert error.code == "MAIA0228" and [fault_of(p) for p in error.reproducers] == ["MAIA0228"]


# **** the files ****


def test_a_file_that_shows_nothing_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("maiac.reproducers.fault_of", lambda path: "")
    assert refused(Odd(), X).reproducers == [] and list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_no_file_that_was_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(path: Path) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("maiac.reproducers.fault_of", interrupt)
    with pytest.raises(KeyboardInterrupt):
        maiac.compile(Odd(), (X,))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_does_not_hide_the_fault(tmp_path: Path):
    (tmp_path / "file").write_text("")
    error = refused(Odd(), X, dump_ir=tmp_path / "file" / "dumps")
    assert error.code == "MAIA0201" and error.reproducers == []


def test_advice_is_for_names_that_exist():
    for operator, words in (
        ("aten::nonzero.default", "size depends on data"),
        ("aten::bernoulli.p", "random numbers"),
        ("mylib::attention.default", "decomposition"),
        ("hop::triton_kernel_wrapper_mutation", "plain PyTorch form"),
        ("com.microsoft.FusedFoo (opset 1)", "before ONNX Runtime"),
        ("org.pytorch.aten.ATen (opset 1)", "dynamo=True"),
    ):
        assert words in advice_for(operator)
    assert advice_for("aten::add.Tensor") == advice_for("ai.onnx.Reshape (opset 20)") == advice_for("") == ""
    assert len({text for _, text in ADVICE}) == len(ADVICE)
