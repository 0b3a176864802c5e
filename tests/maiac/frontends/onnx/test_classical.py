"""Linear models, support vector machines and features of ai.onnx.ml against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from maiac import onnx_backend
from maiac.ir import MaiaError

from .test_trees import full_trees

Array = np.ndarray[Any, Any]
AFTER = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"]
KERNELS = ["LINEAR", "POLY", "RBF", "SIGMOID"]


def reals(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def model_of(op: str, inputs: Sequence[Array], outputs: int, attrs: dict[str, Any]) -> onnx.ModelProto:
    names = [f"x{i}" for i in range(len(inputs))]
    node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], domain="ai.onnx.ml", **attrs)
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for n, x in zip(names, inputs, strict=True)
    ]
    graph = helper.make_graph([node], "g", infos, [helper.make_empty_tensor_value_info(n) for n in node.output])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def compare(op: str, *inputs: Array, outputs: int = 1, tol: float = 2e-5, **attrs: Any) -> None:
    model = model_of(op, inputs, outputs, attrs)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    theirs = session.run(None, {f"x{i}": x for i, x in enumerate(inputs)})
    for ours, their in zip(onnx_backend.run_model(model, list(inputs)), theirs, strict=True):
        wanted = np.asarray(their)
        assert ours.shape == wanted.shape and ours.dtype == wanted.dtype
        if ours.dtype.kind == "f":
            np.testing.assert_allclose(ours, wanted, rtol=tol, atol=tol)
        else:
            np.testing.assert_array_equal(ours, wanted)


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("intercepts", [True, False])
def test_linear_regressors(after: str, intercepts: bool):
    more: dict[str, Any] = {"intercepts": reals(3)} if intercepts else {}
    compare("LinearRegressor", reals(6, 4), coefficients=reals(12), targets=3, post_transform=after, **more)


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize(
    "labels",
    [
        {"classlabels_ints": [4, 7, -1]},
        {"classlabels_strings": ["cat", "dog", "ant"]},
        {"classlabels_ints": [4, 7]},
        {"classlabels_strings": ["cat", "dog"]},
    ],
    ids=str,
)
@pytest.mark.parametrize("scores", ["each", "one"])
def test_linear_classifiers(after: str, labels: dict[str, Any], scores: str):
    classes = len(next(iter(labels.values())))
    count = classes if scores == "each" or classes > 2 else 1
    compare(
        "LinearClassifier", reals(9, 4), outputs=2, coefficients=reals(4 * count, seed=1), intercepts=reals(count),
        post_transform=after, **labels,
    )  # fmt: skip


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("form", ["plain", "one class", "linear"])
def test_machines_that_regress(kernel: str, form: str):
    attrs: dict[str, Any] = {"kernel_type": kernel, "kernel_params": [0.3, 0.2, 2.0], "rho": [0.1]}
    if form == "linear":
        attrs |= {"coefficients": reals(4), "n_supports": 0}
    else:
        attrs |= {"coefficients": reals(5), "support_vectors": reals(20, seed=1), "n_supports": 5}
    compare("SVMRegressor", reals(6, 4), one_class=int(form == "one class"), **attrs)


def machine(classes: int, kernel: str, *, positive: bool = False) -> dict[str, Any]:
    counts = [2, 3, 4][:classes]
    weights = reals((classes - 1) * sum(counts), seed=3)
    return {
        "kernel_type": kernel,
        "kernel_params": [0.3, 0.2, 2.0],
        "vectors_per_class": counts,
        "support_vectors": reals(4 * sum(counts), seed=2),
        "coefficients": np.abs(weights) if positive else weights,
        "rho": reals(classes * (classes - 1) // 2, seed=4),
        "classlabels_ints": [3, 5, 8][:classes],
    }


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("positive", [False, True])
def test_machines_that_classify(kernel: str, classes: int, positive: bool):
    compare("SVMClassifier", reals(30, 4), outputs=2, **machine(classes, kernel, positive=positive))


def test_machines_that_tell_probabilities():
    attrs = {**machine(2, "RBF"), "prob_a": [-1.5], "prob_b": [0.2]}
    # ONNX Runtime searches for them until it is right to 0.005 over the number of classes.
    compare("SVMClassifier", reals(30, 4), outputs=2, tol=0.0025, **attrs)
    named = {k: v for k, v in attrs.items() if k != "classlabels_ints"}
    compare("SVMClassifier", reals(30, 4), outputs=2, tol=0.0025, **named, classlabels_strings=["no", "yes"])


def test_features():
    x = reals(5, 4)
    x[2] = 0
    for norm in ("MAX", "L1", "L2"):
        compare("Normalizer", x, norm=norm)
    compare("Scaler", x, offset=[0.5], scale=[2.0])
    compare("Scaler", x, offset=reals(4), scale=reals(4, seed=1))
    compare("Scaler", (10 * x).astype(np.int64), offset=reals(4), scale=reals(4, seed=1))
    compare("FeatureVectorizer", x, reals(5, 2), inputdimensions=[3, 2])
    compare("FeatureVectorizer", x, reals(5, 2), inputdimensions=[6, 2])
    compare("FeatureVectorizer", (10 * x).astype(np.int64), inputdimensions=[4])


def test_what_is_missing():
    x = reals(5, 4)
    x[1, 2] = x[3, 0] = np.nan
    x[2, 2] = -7
    compare("Imputer", x, imputed_value_floats=reals(4), replaced_value_float=float("nan"))
    compare("Imputer", x, imputed_value_floats=[1.5], replaced_value_float=-7.0)
    compare("Imputer", np.arange(6).reshape(2, 3), imputed_value_int64s=[9], replaced_value_int64=4)


def test_categories():
    numbers, words = np.array([[1, 3], [4, 9]]), np.array(["b", "a", "z"], object)
    compare("OneHotEncoder", numbers, cats_int64s=[9, 1, 3], zeros=1)
    compare("OneHotEncoder", numbers.astype(np.float32), cats_int64s=[9, 1, 3, 4], zeros=0)
    compare("OneHotEncoder", words, cats_strings=["a", "b"], zeros=1)
    compare("CategoryMapper", words, cats_int64s=[5, 6], cats_strings=["a", "b"], default_int64=-3)
    compare("CategoryMapper", numbers, cats_int64s=[1, 4], cats_strings=["a", "b"], default_string="none")


def test_an_element_without_a_category_stops_the_run_where_it_must_have_one():
    model = model_of("OneHotEncoder", [np.array([1, 2])], 1, {"cats_int64s": [1], "zeros": 0})
    with pytest.raises(MaiaError, match="categories"):
        onnx_backend.run_model(model, [np.array([1, 2])])


@pytest.mark.parametrize(
    ("op", "attrs", "message"),
    [
        ("LinearRegressor", {"coefficients": [1.0] * 5, "targets": 2}, "do not fit"),
        ("LinearClassifier", {"coefficients": [1.0] * 4, "intercepts": [0.0], "classlabels_ints": [1]}, "two classes"),
        ("LinearClassifier", {"coefficients": [1.0] * 12, "intercepts": [0.0] * 3}, "0 have labels"),
        ("SVMClassifier", {**machine(2, "RBF"), "post_transform": "SOFTMAX"}, "as they are"),
        ("SVMClassifier", {**machine(3, "RBF"), "prob_a": [1.0] * 3, "prob_b": [0.0] * 3}, "more than two"),
        ("Normalizer", {"norm": "L9"}, "L9"),
        ("Imputer", {"replaced_value_float": 1.0}, "empty"),
        ("FeatureVectorizer", {"inputdimensions": [1, 2]}, "does not name a width for each input"),
    ],
)
def test_forms_that_are_refused(op: str, attrs: dict[str, Any], message: str):
    with pytest.raises(MaiaError, match=message):
        onnx_backend.prepare(model_of(op, [reals(3, 4)], 2 if "Classifier" in op else 1, attrs))


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("weights", ["of each", "of one", "of one, some negative", "of the other"])
@pytest.mark.parametrize("labels", [{"classlabels_int64s": [4, 7]}, {"classlabels_strings": ["cat", "dog"]}], ids=str)
def test_trees_that_classify(after: str, weights: str, labels: dict[str, Any]):
    attrs = {k.replace("target_", "class_"): v for k, v in full_trees(4, 4, "BRANCH_LEQ").items()}
    if weights == "of each":  # of three: of two ONNX Runtime writes 0 and 1, whatever the labels
        labels = {k: [*v, v[0] * 2] for k, v in labels.items()}
        attrs["class_ids"] = [i % 3 for i in range(len(attrs["class_ids"]))]
    else:
        attrs["class_ids"] = [int("other" in weights)] * len(attrs["class_ids"])
    attrs["class_weights"] = [w / 3 - ("negative" in weights) * 0.15 for w in attrs["class_weights"]]
    for x in (reals(40, 4), reals(40, 4).astype(np.float64)):
        compare("TreeEnsembleClassifier", x, outputs=2, post_transform=after, **attrs, **labels)
