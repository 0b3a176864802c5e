"""Writes the small inputs that fuzzing begins with: ``python -m tests.fuzz.seeds``. Findings stand beside them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from maiac.ir import print_module
from maiac.runtime.manifest import _digest
from tests.ir.test_text import EXAMPLE
from tests.maiac.samples import artifact_of, every_dtype, linear_module

from .targets import pack

CORPUS = Path(__file__).with_name("corpus")
CONTROL = """module @m {
  sym T in 1..inf
  func @half(%x: f32[T, 4]) -> f32[T, 2] {
    %a, %b = split %x {dim = 1, parts = [2, 2]} : (f32[T, 2], f32[T, 2])
    return %b
  }
  func @main(%x: f32[T, 4], %c: bool[], %n: i64[]) -> (f32[T, 2], f32[T, 4]) {
    %h = call %x {callee = @half} : f32[T, 2]
    %y = if %c : f32[T, 4] () {
      %p = neg %x : f32[T, 4]
      yield %p
    } () {
      yield %x
    }
    %z = loop %n, %c, %y : f32[T, 4] (%i: i64[], %go: bool[], %s: f32[T, 4]) {
      %t = relu %s : f32[T, 4]
      yield %go, %t
    }
    return %h, %z
  }
}
"""


def texts() -> dict[str, bytes]:
    """Maia text with most constructs of the grammar."""
    return {"example": EXAMPLE.encode(), "control": CONTROL.encode(), "all": print_module(every_dtype()).encode()}


# **** ONNX ****


def _model(nodes: Sequence[onnx.NodeProto], held: Sequence[onnx.TensorProto] = (), **more: Any) -> bytes:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
    y = helper.make_empty_tensor_value_info("y")
    graph = helper.make_graph(nodes, "g", [x], [y], held)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, **more).SerializeToString()


def external(location: str, offset: int = 0) -> onnx.TensorProto:
    """A matrix [4, 4] that lies in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", str(offset)), ("length", "64")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def models() -> dict[str, bytes]:
    """ONNX models of a few nodes: shapes, control flow, functions, and weights in another file."""
    weight = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    shape = numpy_helper.from_array(np.array([2, -1]), "s")
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    outside = helper.make_node("Constant", [], ["w"], value=external("../outside.bin"))
    branch = helper.make_graph([helper.make_node("Add", ["x", "w"], ["b"])], "b", [], _made("b"), [weight])
    far = helper.make_graph([helper.make_node("Add", ["x", "w"], ["b"])], "b", [], _made("b"), [external("link.bin")])
    condition = helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0)
    boolean = helper.make_node("Cast", ["m"], ["c"], to=TensorProto.BOOL)
    one = helper.make_node("Constant", [], ["w"], value=external("../outside.bin"))
    function = helper.make_function(
        "own",
        "Times",
        ["a"],
        ["b"],
        [one, helper.make_node("MatMul", ["a", "w"], ["b"])],
        [helper.make_opsetid("", 20)],
    )
    return {
        "product": _model([product], [weight]),
        "reshape": _model([helper.make_node("Reshape", ["x", "s"], ["y"])], [shape]),
        "inside": _model([product], [external("weights.bin", 64)]),
        "outside": _model([product], [external("../outside.bin")]),
        "linked": _model([product], [external("link.bin")]),
        "constant_outside": _model([outside, product]),
        "if": _model(
            [condition, boolean, helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)]
        ),
        "if_outside": _model(
            [condition, boolean, helper.make_node("If", ["c"], ["y"], then_branch=far, else_branch=far)]
        ),
        "function_outside": _model([helper.make_node("Times", ["x"], ["y"], domain="own")], functions=[function]),
        "gelu": _model([helper.make_node("BiasGelu", ["x", "x"], ["y"], domain="com.microsoft")]),
        "norm": _model([helper.make_node("LayerNormalization", ["x", "w"], ["y"], axis=0)], [weight]),
    }  # fmt: skip


def _made(name: str) -> list[onnx.ValueInfoProto]:
    return [helper.make_empty_tensor_value_info(name)]


# **** artifacts ****


def artifacts() -> dict[str, bytes]:
    """Artifacts as bytes, and taken apart; some with names and links that lead elsewhere."""
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "m.maia"
        artifact_of(linear_module()).save(path, golden=False)
        whole = path.read_bytes()
        artifact_of(linear_module()).save(f"{home}/m/", golden=False)
        parts = {f.name: f.read_bytes() for f in sorted((Path(home) / "m").iterdir())}
        control = {**parts, "program.maia": CONTROL.encode()}
        artifact_of(every_dtype()).save(f"{home}/all/", golden=False)
        every = {f.name: f.read_bytes() for f in sorted((Path(home) / "all").iterdir())}
    return {
        "file": whole,
        "zip": pack(parts, "zip"),
        "folder": pack(parts, "dir"),
        "every_dtype": pack(every, "dir"),
        "control": pack(control, "dir"),
        "name_outside": pack({**parts, "../outside.bin": b"x"}, "zip"),
        "name_absolute": pack({**parts, "/etc/passwd": b"x"}, "zip"),
        "link": pack({**parts, "extra.bin -> ../../outside.bin": b""}, "dir"),
        "linked_outside": pack(linked(parts, "../outside.bin"), "dir"),
        "linked_absolute": pack(linked(parts, "/etc/passwd"), "zip"),
    }


def linked(parts: dict[str, bytes], path: str) -> dict[str, bytes]:
    """Entries whose weight lies in another file of 256 bytes."""
    table = json.loads(parts["manifest.json"])
    table["links"] = [{"path": path, "size": 256, "sha256": "0" * 64}]
    table["weights"]["w"]["data"] = {"link": 0}
    table["digest"] = _digest({k: v for k, v in table.items() if k != "digest"})
    return {**parts, "manifest.json": json.dumps(table).encode()}


def main() -> None:
    """Write all seeds."""
    for target, seeds in (("text", texts()), ("onnx", models()), ("artifact", artifacts())):
        (CORPUS / target).mkdir(parents=True, exist_ok=True)
        for name, data in seeds.items():
            (CORPUS / target / f"seed-{name}").write_bytes(data)


if __name__ == "__main__":
    main()
