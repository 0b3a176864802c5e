"""Linear models, support vector machines and the preparation of features (ai.onnx.ml), as scikit-learn exports them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from maiac.ir import DType, Value

from ..context import NodeContext, tensor_type
from ..registry import onnx_op
from .scores import class_labels, class_names, of_both, transformed

ML = "ai.onnx.ml"


def _real(c: NodeContext, index: int = 0) -> Value:
    """An operand as f32."""
    return c.cast(c[index], DType.F32)


def _floats(c: NodeContext, name: str) -> np.ndarray[Any, Any]:
    return np.asarray([float(v) for v in c.attr(name) or ()], np.float32)


def _matrix(c: NodeContext, name: str, rows: int) -> np.ndarray[Any, Any]:
    """A list of numbers as so many rows."""
    numbers = _floats(c, name)
    if rows < 1 or not len(numbers) or len(numbers) % rows:
        c.fail(f"{name} has {len(numbers)} numbers, which do not make {rows} rows", "MAIA0223")
    return numbers.reshape(rows, -1)


def _at_least(c: NodeContext, name: str, count: int) -> np.ndarray[Any, Any]:
    """A list of so many numbers or more."""
    numbers = _floats(c, name)
    return numbers if len(numbers) >= count else c.fail(f"{name} has {len(numbers)} numbers, not {count}", "MAIA0223")


def _rows(c: NodeContext) -> Value:
    """x[n k]; a vector is one row."""
    x = _real(c)
    return c.reshape(x, (1, *tensor_type(x).dims)) if tensor_type(x).rank == 1 else x


# **** linear models ****


def _scores(c: NodeContext, count: int) -> Value:
    """x coefficients^T + intercepts, for so many targets."""
    weight, bias = _floats(c, "coefficients"), _floats(c, "intercepts")
    if count < 1 or not len(weight) or len(weight) % count or len(bias) not in (0, count):
        c.fail(f"{len(weight)} coefficients and {len(bias)} intercepts do not fit {count} targets", "MAIA0223")
    held = c.table("coefficients", weight.reshape(count, -1))
    return c.emit("linear", _rows(c), held, c.table("intercepts", bias) if len(bias) else None)


@onnx_op("LinearRegressor", domain=ML)
def linear_regressor(c: NodeContext) -> Value:
    """A linear function of the features for each target."""
    return transformed(c, _scores(c, int(c.attr("targets", 1))), str(c.attr("post_transform", "NONE")))


@onnx_op("LinearClassifier", domain=ML)
def linear_classifier(c: NodeContext) -> list[Value]:
    """The class of the greatest score, and the scores; one score of two classes is that of the second."""
    labels, count = class_labels(c), len(_floats(c, "intercepts"))
    scores, how = _scores(c, count), str(c.attr("post_transform", "NONE"))
    if count > 1:
        if len(labels) < count:
            c.fail(f"{count} intercepts tell {count} classes apart, but {len(labels)} have labels", "MAIA0223")
        return [class_names(c, c.emit("argmax", scores, dim=1), labels), transformed(c, scores, how)]
    if len(labels) != 2:
        c.fail("one score tells two classes apart")
    second = c.reshape(c.emit("gt", scores, c.const_like(0.0, scores)), tensor_type(scores).dims[:1])
    return [class_names(c, c.cast(second, DType.I64), labels), of_both(c, scores, how, True)]


# **** support vector machines ****


def _kind(c: NodeContext) -> str:
    return str(c.attr("kernel_type", "LINEAR"))


def _kernel(c: NodeContext, vectors: np.ndarray[Any, Any], kind: str) -> Value:
    """[n m]: the kernel of each row of x with each of m vectors."""
    params = _floats(c, "kernel_params")
    gamma, coef0, degree = (float(v) for v in (params if len(params) == 3 else (0.0, 0.0, 3.0)))
    x, held = _rows(c), c.table("vectors", vectors)
    dot = c.emit("linear", x, held)
    if kind == "LINEAR":
        return dot
    if kind == "RBF":
        squares = c.table("squares", (vectors.astype(np.float64) ** 2).sum(-1).astype(np.float32))
        own = c.emit("sum", c.emit("square", x), dims=(1,), keepdim=True)
        distance = c.emit("sub", c.emit("add", own, squares), c.emit("mul", dot, c.const_like(2.0, dot)))
        return c.emit("exp", c.emit("mul", distance, c.const_like(-gamma, dot)))
    shifted = c.emit("add", c.emit("mul", dot, c.const_like(gamma, dot)), c.const_like(coef0, dot))
    if kind == "POLY":
        return c.emit("pow", shifted, c.const_like(degree, dot))
    return c.emit("tanh", shifted) if kind == "SIGMOID" else c.fail(f"kernel_type is {kind!r}", "MAIA0223")


@onnx_op("SVMRegressor", domain=ML)
def svm_regressor(c: NodeContext) -> Value:
    """A weighted sum of kernels with the support vectors; or, of one class, on which side of it a row lies."""
    count, rho = int(c.attr("n_supports", 0)), _at_least(c, "rho", 1)
    if count:
        found = _kernel(c, _matrix(c, "support_vectors", count), _kind(c))
        weights = _at_least(c, "coefficients", count)
        y = c.emit("linear", found, c.table("coefficients", weights[None, :count]))
    else:
        y = _kernel(c, _matrix(c, "coefficients", 1), "LINEAR")
    y = c.emit("add", y, c.const_like(float(rho[0]), y))
    if not c.attr("one_class", 0):
        return transformed(c, y, str(c.attr("post_transform", "NONE")))
    inside = c.emit("gt", y, c.const_like(0.0, y))
    return c.emit("where", inside, c.const_like(1.0, y), c.const_like(-1.0, y))


@onnx_op("SVMClassifier", domain=ML)
def svm_classifier(c: NodeContext) -> list[Value]:
    """Classes by votes of pairs, each pair's decision a weighted sum of kernels; or by the probabilities of two."""
    labels, counts = class_labels(c), c.ints("vectors_per_class") or []
    prob_a = _floats(c, "prob_a")
    if str(c.attr("post_transform", "NONE")) != "NONE" or min(counts, default=0) < 1 or len(labels) != len(counts):
        c.fail("it takes support vectors of each class, and scores as they are")
    decisions = _decisions(c, counts)
    if len(prob_a):
        return _probable(c, decisions, float(prob_a[0]), float(_at_least(c, "prob_b", 1)[0]), labels)
    pairs = list(itertools.combinations(range(len(counts)), 2))
    ahead = c.emit("gt", decisions, c.const_like(0.0, decisions))
    first = np.zeros((len(counts), len(pairs)), np.float32)
    for e, (i, j) in enumerate(pairs):
        first[i, e], first[j, e] = 1, -1
    # A vote for i where the pair is ahead, for j where not: (for i) - (for j) and what j has without it.
    votes = c.emit("linear", c.cast(ahead, DType.F32), c.table("votes", first))
    votes = c.emit("add", votes, c.table("others", (first < 0).sum(1).astype(np.float32)))
    best = c.emit("argmax", votes, dim=1)
    if len(pairs) == 1:  # ONNX Runtime gives a score of each class
        decisions = c.emit("concat", c.emit("neg", decisions), decisions, dim=1)
    return [class_names(c, best, labels), decisions]


def _decisions(c: NodeContext, counts: list[int]) -> Value:
    """[n pairs]: class i against j, from the kernels with the vectors of both."""
    total, classes = sum(counts), len(counts)
    pairs = list(itertools.combinations(range(classes), 2))
    rho = _at_least(c, "rho", len(pairs))
    found = _kernel(c, _matrix(c, "support_vectors", total), _kind(c))
    given = _matrix(c, "coefficients", classes - 1)
    if given.shape[1] != total:
        c.fail(f"it has {given.size} coefficients for {total} support vectors of {classes} classes", "MAIA0223")
    starts = [0, *itertools.accumulate(counts)]
    weights = np.zeros((len(pairs), total), np.float32)
    for e, (i, j) in enumerate(pairs):
        for one, row in ((i, j - 1), (j, i)):
            part = slice(starts[one], starts[one + 1])
            weights[e, part] = given[row, part]
    return c.emit("linear", found, c.table("coefficients", weights), c.table("rho", rho[: len(pairs)]))


def _probable(c: NodeContext, decision: Value, a: float, b: float, labels: tuple[int | str, ...]) -> list[Value]:
    """Platt's probabilities of two classes."""
    if len(labels) != 2:
        c.fail("probabilities of more than two classes are not supported")
    z = c.emit("add", c.emit("mul", decision, c.const_like(a, decision)), c.const_like(b, decision))
    scores = c.emit("sigmoid", c.emit("concat", c.emit("neg", z), z, dim=1))
    return [class_names(c, c.emit("argmax", scores, dim=1), labels), scores]


# **** features ****


@onnx_op("Scaler", domain=ML)
def scaler(c: NodeContext) -> Value:
    """(x - offset) * scale, each one number or one for each feature."""
    y = _real(c)
    for op, name in (("sub", "offset"), ("mul", "scale")):
        numbers = _floats(c, name)
        if len(numbers):
            y = c.emit(op, y, c.table(name, numbers))
    return y


@onnx_op("Normalizer", domain=ML)
def normalizer(c: NodeContext) -> Value:
    """Rows over their greatest element, sum of magnitudes, or length; a row of zeros stays."""
    x, norm = _real(c), str(c.attr("norm", "MAX"))
    if norm == "MAX":
        by = c.emit("amax", x, dims=(-1,), keepdim=True)
    elif norm == "L1":
        by = c.emit("sum", c.emit("abs", x), dims=(-1,), keepdim=True)
    elif norm == "L2":
        by = c.emit("sqrt", c.emit("sum", c.emit("square", x), dims=(-1,), keepdim=True))
    else:
        c.fail(f"norm is {norm!r}", "MAIA0223")
    zero = c.emit("eq", by, c.const_like(0.0, by))
    return c.emit("div", x, c.emit("where", zero, c.const_like(1.0, by), by))


@onnx_op("Imputer", domain=ML)
def imputer(c: NodeContext) -> Value:
    """Features with another number in the place of one that stands for what is missing."""
    x = c[0]
    real = c.dtype(0).is_float
    names = (
        ("imputed_value_floats", "replaced_value_float") if real else ("imputed_value_int64s", "replaced_value_int64")
    )
    given, missing = c.attr(names[0]) or (), c.attr(names[1], 0.0 if real else 0)
    if not len(given):
        c.fail(f"{names[0]} is empty", "MAIA0223")
    filling = c.table("imputed", np.asarray(given, np.float32 if real else np.int64))
    absent = c.emit("is_nan", x) if missing != missing else c.emit("eq", x, c.const_like(missing, x))
    return c.emit("where", absent, c.cast(filling, c.dtype(0)), x)


@onnx_op("FeatureVectorizer", domain=ML)
def feature_vectorizer(c: NodeContext) -> Value:
    """Features of several inputs side by side, the first so many of each; zeros where there are fewer."""
    parts: list[Value] = []
    widths = c.ints("inputdimensions") or []
    if len(widths) != len(c.inputs) or min(widths, default=0) < 0:
        c.fail("inputdimensions does not name a width for each input", "MAIA0223")
    for i, width in enumerate(widths):
        x = _real(c, i)
        x = x if tensor_type(x).rank > 1 else c.reshape(x, (*tensor_type(x).dims, 1))
        have = tensor_type(x).dims[1]
        if isinstance(have, int) and have < width:
            x = c.emit("pad", x, pads=(0, 0, 0, width - have))
        parts.append(x if have == width else c.emit("slice", x, dim=1, start=0, end=width))
    return parts[0] if len(parts) == 1 else c.emit("concat", *parts, dim=1)


@onnx_op("OneHotEncoder", domain=ML)
def one_hot_encoder(c: NodeContext) -> Value:
    """1 at the category of each element, along a new last dim; all 0 where there is no such category."""
    words = c.texts("cats_strings")
    keys: tuple[int | str, ...] = words or tuple(c.ints("cats_int64s") or ())
    if not keys:
        c.fail("it has no categories", "MAIA0223")
    x = c[0] if words else c.cast(c[0], DType.I64)
    places = tuple(range(len(keys)))
    at = c.emit("look_up", x, to=DType.I64, keys=keys, values=places, default=-1)
    at = c.reshape(at, (*tensor_type(at).dims, 1))
    if not c.attr("zeros", 1):
        known = c.emit("ge", at, c.const(0, DType.I64))
        c.emit_op("check", known, message="OneHotEncoder: an element is none of the categories")
    return c.cast(c.emit("eq", at, c.emit("iota", end=len(keys))), DType.F32)


@onnx_op("CategoryMapper", domain=ML)
def category_mapper(c: NodeContext) -> Value:
    """Strings as the integers that stand for them, or back."""
    numbers, words = tuple(c.ints("cats_int64s") or ()), c.texts("cats_strings")
    c.same_length(cats_int64s=numbers, cats_strings=words)
    if c.dtype(0) is DType.STR:
        default = int(c.attr("default_int64", -1))
        return c.emit("look_up", c[0], to=DType.I64, keys=words, values=numbers, default=default)
    default = str(c.attr("default_string", "_Unused"))
    return c.emit("look_up", c[0], to=DType.STR, keys=numbers, values=words, default=default)
