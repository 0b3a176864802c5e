"""Ensembles of decision trees against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from maiac import onnx_backend
from maiac.ir import MaiaError

MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
FEATURES = 4


def model_of(op: str, version: int, attrs: dict[str, Any], targets: int) -> onnx.ModelProto:
    node = helper.make_node(op, ["x"], ["y"], domain="ai.onnx.ml", **attrs)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", FEATURES])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", targets])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", version)]
    return helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=opsets, ir_version=10)


def full_trees(count: int, depth: int, mode: str) -> dict[str, Any]:
    """The attributes of trees whose nodes are numbered as in a heap; each leaf counts for one of two targets."""
    rng = np.random.default_rng(depth)
    attrs: dict[str, list[Any]] = {
        n: [] for n in (
            "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_values", "nodes_modes", "nodes_truenodeids",
            "nodes_falsenodeids", "nodes_missing_value_tracks_true", "target_treeids", "target_nodeids", "target_ids",
            "target_weights",
        )
    }  # fmt: skip
    for tree in range(count):
        for node in range(2**depth - 1):
            leaf = node >= 2 ** (depth - 1) - 1
            row = (tree, node, int(rng.integers(FEATURES)), float(rng.integers(-2, 3)), "LEAF" if leaf else mode)
            ends = (0, 0) if leaf else (2 * node + 1, 2 * node + 2)
            for name, value in zip(attrs, (*row, *ends, int(rng.integers(2)) * (not leaf)), strict=False):
                attrs[name].append(value)
            if leaf:
                target = (tree, node, int(rng.integers(2)), float(rng.random()))
                for name, value in zip(list(attrs)[8:], target, strict=True):
                    attrs[name].append(value)
    return attrs


def rows() -> np.ndarray[Any, Any]:
    x = np.random.default_rng(0).integers(-2, 3, (64, FEATURES)).astype(np.float32)
    x[::7, 1] = np.nan
    return x


def compare(model: onnx.ModelProto) -> None:
    theirs = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ours = onnx_backend.run_model(model, [rows()])[0]
    np.testing.assert_allclose(ours, np.asarray(theirs.run(None, {"x": rows()})[0]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reduce", ["SUM", "AVERAGE", "MIN", "MAX"])
def test_regressors(mode: str, reduce: str):
    attrs = full_trees(5, 4, mode) | {"n_targets": 2, "aggregate_function": reduce}
    compare(model_of("TreeEnsembleRegressor", 3, attrs, 2))


def test_base_values_are_added():
    attrs = full_trees(3, 3, "BRANCH_LEQ")
    attrs |= {"n_targets": 1, "target_ids": [0] * len(attrs["target_ids"]), "base_values": [0.5]}
    compare(model_of("TreeEnsembleRegressor", 3, attrs, 1))


@pytest.mark.parametrize("after", ["SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"])
def test_what_becomes_of_the_sums(after: str):
    compare(
        model_of(
            "TreeEnsembleRegressor", 3, full_trees(3, 3, "BRANCH_LT") | {"n_targets": 2, "post_transform": after}, 2
        )
    )


def test_the_probit_of_a_probability():
    attrs = full_trees(1, 1, "BRANCH_LT") | {
        "n_targets": 1,
        "target_ids": [0],
        "target_weights": [0.975],
        "post_transform": "PROBIT",
    }
    y = onnx_backend.run_model(model_of("TreeEnsembleRegressor", 3, attrs, 1), [rows()])[0]
    np.testing.assert_allclose(y, 1.959964, rtol=1e-5)


def indexed(**changes: Any) -> onnx.ModelProto:
    """One tree that tests features 0 and 1, the second for membership in {-1, 2}, and one that is a leaf."""
    attrs: dict[str, Any] = {
        "n_targets": 2, "aggregate_function": 1, "tree_roots": [0, 2], "nodes_featureids": [0, 1, 0],
        "nodes_modes": helper.make_tensor("m", TensorProto.UINT8, [3], [0, 6, 0]),
        "nodes_splits": helper.make_tensor("s", TensorProto.FLOAT, [3], [0.0, 0.0, 0.0]),
        "membership_values": helper.make_tensor("v", TensorProto.FLOAT, [3], [-1.0, 2.0, float("nan")]),
        "nodes_truenodeids": [1, 0, 3], "nodes_trueleafs": [0, 1, 1],
        "nodes_falsenodeids": [1, 2, 3], "nodes_falseleafs": [1, 1, 1],
        "leaf_targetids": [0, 1, 0, 1],
        "leaf_weights": helper.make_tensor("w", TensorProto.FLOAT, [4], [1.0, 2.0, 4.0, 8.0]),
    }  # fmt: skip
    return model_of("TreeEnsemble", 5, attrs | changes, 2)


def test_membership_and_a_tree_that_is_a_leaf():
    x = np.array([[0, -1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [0, np.nan, 0, 0]], np.float32)
    y = onnx_backend.run_model(indexed(), [x])[0]
    assert y.tolist() == [[1, 8], [1, 8], [4, 8], [0, 10], [4, 8]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes_truenodeids": [0, 0, 3]}, "lead back to themselves"),
        ({"nodes_truenodeids": [7, 0, 3]}, "not there"),
        ({"leaf_targetids": [0, 1, 5, 1]}, r"weights are of \[5\]"),
        ({"membership_values": helper.make_tensor("v", TensorProto.FLOAT, [1], [2.0])}, "fewer sets"),
    ],
)
def test_broken_trees_are_refused(changes: dict[str, Any], message: str):
    with pytest.raises(MaiaError, match=message) as caught:
        onnx_backend.prepare(indexed(**changes))
    assert caught.value.code == "MAIA0223"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes_modes": ["BRANCH_ABOUT", "LEAF", "LEAF"]}, "BRANCH_ABOUT"),
        ({"nodes_truenodeids": [9, 0, 0]}, "no node 9"),
        ({"target_ids": [-1, 2]}, r"weights are of \[-1, 2\]"),
    ],
)
def test_broken_regressors_are_refused(changes: dict[str, Any], message: str):
    attrs = full_trees(1, 2, "BRANCH_LT") | {"n_targets": 2}
    with pytest.raises(MaiaError, match=message):
        onnx_backend.prepare(model_of("TreeEnsembleRegressor", 3, attrs | changes, 2))
