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


_TREE: dict[str, Any] = {
    "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [1, 0, 0],
    "nodes_values": [0.5, 0.0, 0.0], "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
    "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0],
}  # fmt: skip
_WEIGHTS = {"treeids": [0, 0], "nodeids": [1, 2], "ids": [0, 1], "weights": [1.0, 2.0]}
_TARGETS, _CLASSES = ({f"{what}_{k}": v for k, v in _WEIGHTS.items()} for what in ("target", "class"))
_SUPPORT: dict[str, Any] = {
    "kernel_type": "RBF", "kernel_params": [0.5, 0.0, 3.0], "support_vectors": [1.0] * 8, "rho": [0.5],
}  # fmt: skip
_NAMES: dict[str, Any] = {"classlabels_ints": [3, 5]}
# Of ai.onnx.ml: the dims of f32 operands, and attributes.
_ML: dict[str, tuple[list[tuple[int, ...]], dict[str, Any]]] = {
    "TreeEnsembleRegressor": ([(2, 4)], {**_TREE, "n_targets": 2, **_TARGETS}),
    "TreeEnsembleClassifier": ([(2, 4)], {**_TREE, "classlabels_int64s": [3, 5], **_CLASSES}),
    "TreeEnsemble": (
        [(2, 4)],
        {
            "nodes_featureids": [0], "nodes_splits": numpy_helper.from_array(np.ones(1, np.float32)),
            "nodes_modes": numpy_helper.from_array(np.zeros(1, np.uint8)), "nodes_truenodeids": [0],
            "nodes_trueleafs": [1], "nodes_falsenodeids": [1], "nodes_falseleafs": [1], "tree_roots": [0],
            "leaf_targetids": [0, 0], "leaf_weights": numpy_helper.from_array(np.ones(2, np.float32)), "n_targets": 1,
        },
    ),
    "LinearRegressor": ([(2, 4)], {"coefficients": [1.0] * 8, "intercepts": [0.5, 1.0], "targets": 2}),
    "LinearClassifier": ([(2, 4)], {"coefficients": [1.0] * 8, "intercepts": [0.5, 1.0], **_NAMES}),
    "SVMRegressor": ([(2, 4)], {**_SUPPORT, "coefficients": [1.0, -1.0], "n_supports": 2}),
    "SVMClassifier": ([(2, 4)], {**_SUPPORT, **_NAMES, "coefficients": [1.0, -1.0], "vectors_per_class": [1, 1]}),
    "Scaler": ([(2, 4)], {"offset": [1.0] * 4, "scale": [2.0]}),
    "Imputer": ([(2, 4)], {"imputed_value_floats": [1.0] * 4, "replaced_value_float": 0.0}),
    "FeatureVectorizer": ([(2, 4), (2, 1)], {"inputdimensions": [3, 2]}),
    "OneHotEncoder": ([(2, 4)], {"cats_int64s": [1, 2]}),
    "LabelEncoder": ([(2, 4)], {"keys_floats": [1.0, 2.0], "values_strings": ["a", "b"]}),
}  # fmt: skip
# Of com.microsoft: the same.
_RUNTIME: dict[str, tuple[list[tuple[int, ...]], dict[str, Any]]] = {
    "FusedConv": (
        [(1, 2, 4, 4), (2, 2, 3, 3)],
        {"activation": "LeakyRelu", "activation_params": [0.5], "pads": [1] * 4},
    ),
    "FusedGemm": ([(2, 4), (4, 3), (3,)], {"activation": "Relu", "transA": 0}),
    "FusedMatMul": ([(2, 4), (3, 4)], {"transB": 1, "alpha": 2.0}),
    "SkipLayerNormalization": ([(1, 2, 4), (1, 2, 4), (4,), (4,)], {"epsilon": 1e-5}),
    "MultiHeadAttention": ([(1, 2, 8), (1, 2, 8), (1, 2, 8), (24,)], {"num_heads": 2}),
    "Attention": ([(1, 2, 8), (8, 24), (24,)], {"num_heads": 2, "unidirectional": 1}),
}


def nodes() -> dict[str, bytes]:
    """Models of one node of operators that ONNX's own checks know little of."""
    ml = {name: _one(name, "ai.onnx.ml", *given) for name, given in _ML.items()}
    return ml | {name: _one(name, "com.microsoft", *given) for name, given in _RUNTIME.items()}


def _one(op: str, domain: str, shapes: Sequence[tuple[int, ...]], attrs: dict[str, Any]) -> bytes:
    names = [f"x{i}" for i in range(len(shapes))]
    outputs = ["y", "z"] if op.endswith("Classifier") else ["y"]
    graph = helper.make_graph(
        [helper.make_node(op, names, outputs, domain=domain, **attrs)],
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip(names, shapes, strict=True)],
        [helper.make_empty_tensor_value_info(n) for n in outputs],
    )
    version = 5 if op == "TreeEnsemble" else 1 if domain == "com.microsoft" else 3
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(domain, version)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


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
    for target, seeds in (("text", texts()), ("onnx", models() | nodes()), ("artifact", artifacts())):
        (CORPUS / target).mkdir(parents=True, exist_ok=True)
        for name, data in seeds.items():
            (CORPUS / target / f"seed-{name}").write_bytes(data)


if __name__ == "__main__":
    main()
