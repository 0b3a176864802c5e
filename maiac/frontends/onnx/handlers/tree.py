"""Decision trees of ai.onnx.ml: their lists of nodes become the tables of ``tree_ensemble``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from maiac.ir import DType, TensorType, Value
from maiac.ir.ops.values import FROM_TORCH
from maiac.runtime.weights import HeldTensor

from ..context import NodeContext, tensor_type
from ..registry import onnx_op

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
EQUAL, MEMBER = 4, 6
_AFTER = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
_REDUCE = {"AVERAGE": "mean", "SUM": "sum", "MIN": "min", "MAX": "max"}


@dataclass
class Forest:
    """Nodes as tree_ensemble has them: in ``yes``, ``no`` and ``roots`` a leaf i is ~i."""

    feature: list[int]
    split: list[float]
    mode: list[int]
    yes: list[int]
    no: list[int]
    missing: list[bool]
    roots: list[int] = field(default_factory=list[int])

    def add_equal(self, node: int, values: Sequence[float]) -> None:
        """Make a node test for membership: it and nodes behind it compare with one value each."""
        self.mode[node], self.split[node] = EQUAL, values[0] if values else np.nan
        for value in values[1:]:
            new = len(self.feature)
            for column in (self.feature, self.mode, self.yes, self.no):
                column.append(column[node])
            self.split.append(value)
            self.missing.append(False)
            self.no[node] = new
            node = new


@onnx_op("TreeEnsemble", domain="ai.onnx.ml", since=5)
def tree_ensemble(c: NodeContext) -> Value:
    """Trees by the indices of nodes and leaves, with tests for membership in sets."""
    ends = {
        name: (c.ints(f"nodes_{name}nodeids") or [], c.ints(f"nodes_{name}leafs") or []) for name in ("true", "false")
    }
    yes, no = ([~i if is_leaf else i for i, is_leaf in zip(*ends[name], strict=True)] for name in ("true", "false"))
    modes = [int(m) for m in _numbers(c, "nodes_modes")]
    missing = c.ints("nodes_missing_value_tracks_true") or [0] * len(modes)
    forest = Forest(
        c.ints("nodes_featureids") or [], [float(v) for v in _numbers(c, "nodes_splits")], modes, yes, no,
        [bool(m) for m in missing],
    )  # fmt: skip
    # A tree that is one leaf has a node whose ends are both that leaf.
    forest.roots = [yes[r] if yes[r] == no[r] and yes[r] < 0 else r for r in c.ints("tree_roots") or []]
    members = _sets(c)
    for node in [i for i, m in enumerate(modes) if m == MEMBER]:
        if not members:
            c.fail("membership_values has fewer sets than there are nodes that test for membership", "MAIA0223")
        forest.add_equal(node, members.pop(0))
    weights, targets = _numbers(c, "leaf_weights"), c.ints("leaf_targetids") or []
    reduce = ("mean", "sum", "min", "max")[int(c.attr("aggregate_function", 1))]
    given = [(i, t, w) for i, (t, w) in enumerate(zip(targets, weights, strict=True))]
    leaf = _leaves(c, given, len(targets), int(c.attr("n_targets")), reduce)
    return transformed(c, _emit(c, forest, leaf, reduce), _AFTER[int(c.attr("post_transform", 0))])


@onnx_op("TreeEnsembleRegressor", domain="ai.onnx.ml")
def tree_ensemble_regressor(c: NodeContext) -> Value:
    """The older form: nodes by the ids of tree and node, leaves among them."""
    y = _named_trees(c, "target", int(c.attr("n_targets")), _REDUCE[str(c.attr("aggregate_function", "SUM"))])
    return transformed(c, y, str(c.attr("post_transform", "NONE")))


@onnx_op("TreeEnsembleClassifier", domain="ai.onnx.ml")
def tree_ensemble_classifier(c: NodeContext) -> list[Value]:
    """The class of the greatest sum of weights, and the sums; if all are of the first of two, which side they tell."""
    labels, ids = class_labels(c), set(c.ints("class_ids") or ())
    if len(labels) != 2 or ids != {0}:
        scores = _named_trees(c, "class", len(labels), "sum")
        after = transformed(c, scores, str(c.attr("post_transform", "NONE")))
        return [class_names(c, c.emit("argmax", scores, dim=1), labels), after]
    score = _named_trees(c, "class", 1, "sum")
    positive = bool((np.asarray(_numbers(c, "class_weights")) >= 0).all())
    second = c.emit("gt", score, c.const_like(0.5 if positive else 0.0, score))
    at = c.cast(c.reshape(second, tensor_type(score).dims[:1]), DType.I64)
    return [class_names(c, at, labels), of_both(c, score, str(c.attr("post_transform", "NONE")), positive)]


def class_labels(c: NodeContext) -> tuple[int | str, ...]:
    """The names of classes."""
    words = tuple(v.decode() if isinstance(v, bytes) else str(v) for v in c.attr("classlabels_strings") or ())
    return words or tuple(c.ints("classlabels_ints") or c.ints("classlabels_int64s") or ())


def class_names(c: NodeContext, at: Value, labels: tuple[int | str, ...]) -> Value:
    """Positions of classes as their names."""
    if labels and isinstance(labels[0], str):
        keys = tuple(range(len(labels)))
        return c.emit("look_up", at, to=DType.STR, keys=keys, values=labels, default="")
    return c.emit("gather", table(c, "labels", np.asarray(labels, np.int64)), at, dim=0)


def of_both(c: NodeContext, score: Value, how: str, positive: bool) -> Value:
    """[n 2] from the score [n 1] of the second class, which is a share where it is positive."""
    if how == "PROBIT":
        c.fail("PROBIT of one score is not supported")
    if positive and how != "LOGISTIC":
        return c.emit("concat", c.emit("sub", c.const_like(1.0, score), score), score, dim=1)
    both = c.emit("concat", c.emit("neg", score), score, dim=1)
    return c.emit("sigmoid", both) if how == "LOGISTIC" else both


def _named_trees(c: NodeContext, what: str, targets: int, reduce: str) -> Value:
    """[n targets] of trees by the ids of tree and node; weights are of a ``target`` or ``class``.

    Where there is one target only, weights are of that, whatever its number.
    """
    names = list(zip(c.ints("nodes_treeids") or [], c.ints("nodes_nodeids") or [], strict=True))
    modes = [m.decode() if isinstance(m, bytes) else str(m) for m in c.attr("nodes_modes") or ()]
    forest, leaves = _forest_of_names(c, names, modes)
    ids = [i if targets > 1 else 0 for i in c.ints(f"{what}_ids") or []]
    of = zip(c.ints(f"{what}_treeids") or [], c.ints(f"{what}_nodeids") or [], strict=True)
    given = [(leaves[name], i, w) for name, i, w in zip(of, ids, _numbers(c, f"{what}_weights"), strict=True)]
    y = c.cast(_emit(c, forest, _leaves(c, given, len(leaves), targets, reduce), reduce), DType.F32)
    base = _numbers(c, "base_values")
    return c.emit("add", y, table(c, "base", np.asarray(base, np.float32))) if len(base) else y


def _forest_of_names(
    c: NodeContext, names: list[tuple[int, int]], modes: list[str]
) -> tuple[Forest, dict[tuple[int, int], int]]:
    """The forest, and the numbers of its leaves. The first node of each tree is its root."""
    inner = [i for i, m in enumerate(modes) if m != "LEAF"]
    place = {names[i]: at for at, i in enumerate(inner)}
    leaves = {names[i]: at for at, i in enumerate(i for i, m in enumerate(modes) if m == "LEAF")}
    unknown = {modes[i] for i in inner} - set(MODES)
    if unknown:
        c.fail(f"nodes have the modes {sorted(unknown)}, which do not exist", "MAIA0223")

    def end(name: tuple[int, int]) -> int:
        if name in leaves:
            return ~leaves[name]
        return place[name] if name in place else c.fail(f"tree {name[0]} has no node {name[1]}", "MAIA0223")

    yes, no = (c.ints(f"nodes_{n}nodeids") or [] for n in ("true", "false"))
    features, splits = c.ints("nodes_featureids") or [], _numbers(c, "nodes_values")
    missing = c.ints("nodes_missing_value_tracks_true") or [0] * len(names)
    forest = Forest(
        [features[i] for i in inner],
        [float(splits[i]) for i in inner],
        [MODES.index(modes[i]) for i in inner],
        [end((names[i][0], yes[i])) for i in inner],
        [end((names[i][0], no[i])) for i in inner],
        [bool(missing[i]) for i in inner],
    )
    firsts: dict[int, tuple[int, int]] = {}
    for name in names:
        firsts.setdefault(name[0], name)
    forest.roots = [end(name) for name in firsts.values()]
    return forest, leaves


def _numbers(c: NodeContext, name: str) -> Any:
    """A list of numbers, given as such or as a tensor (in the older operators under another name)."""
    for given in (name, f"{name}_as_tensor"):
        found = c.attr(given)
        if found is not None:
            return found.numpy() if hasattr(found, "numpy") else found
    return []


def _sets(c: NodeContext) -> list[list[float]]:
    """Sets of values, each ended by NaN."""
    found: list[list[float]] = [[]]
    for value in _numbers(c, "membership_values"):
        if np.isnan(value):
            found.append([])
        else:
            found[-1].append(float(value))
    return found[:-1]


def _leaves(
    c: NodeContext, given: list[tuple[int, int, float]], count: int, targets: int, reduce: str
) -> np.ndarray[Any, Any]:
    """[leaf, target]: weights, and where a leaf has none for a target what changes no reduction."""
    strange = sorted({target for _, target, _ in given} - set(range(targets)))
    if strange:
        c.fail(f"weights are of {strange}, but there are {targets} targets or classes, which count from 0", "MAIA0223")
    dtype = np.dtype(np.float64 if c.dtype(0) is DType.F64 else np.float32)
    absent = {"min": np.inf, "max": -np.inf}.get(reduce, 0.0)
    table = np.full((count, targets), absent, dtype)
    apply = {"min": np.minimum, "max": np.maximum}.get(reduce, np.add)
    for leaf, target, weight in given:
        table[leaf, target] = apply(table[leaf, target], weight)
    return table


def _emit(c: NodeContext, forest: Forest, leaf: np.ndarray[Any, Any], reduce: str) -> Value:
    _check(c, forest, len(leaf))
    x = c[0] if c.dtype(0) in (DType.F32, DType.F64) else c.cast(c[0], DType.F32)
    integers = {n: np.asarray(getattr(forest, n), np.int64) for n in ("feature", "yes", "no", "roots")}
    y = c.emit(
        "tree_ensemble",
        x,
        table(c, "feature", integers["feature"]),
        table(c, "split", np.asarray(forest.split, leaf.dtype)),
        table(c, "mode", np.asarray(forest.mode, np.int8)),
        table(c, "yes", integers["yes"]),
        table(c, "no", integers["no"]),
        table(c, "missing", np.asarray(forest.missing, np.bool_)),
        table(c, "roots", integers["roots"]),
        table(c, "leaf", leaf),
        reduce=reduce,
    )
    if reduce in ("sum", "mean") or np.isfinite(leaf).all():
        return y
    # A target that no tree reaches is 0, as in ONNX Runtime; ONNX does not say.
    return c.emit("where", c.emit("is_inf", y), c.const_like(0.0, y), y)


def _check(c: NodeContext, forest: Forest, leaves: int) -> None:
    """MAIA0223 where an end is no node and no leaf, or where nodes lead back to themselves."""
    yes, no = np.asarray(forest.yes, np.int64), np.asarray(forest.no, np.int64)
    at = np.asarray(forest.roots, np.int64)
    for _ in range(len(yes) + 1):
        if at.size and not (-leaves <= at.min() and at.max() < len(yes)):
            c.fail("a tree leads to a node or leaf that is not there", "MAIA0223")
        at = np.unique(at[at >= 0])
        if not at.size:
            return
        at = np.concatenate([yes[at], no[at]])
    c.fail("nodes of a tree lead back to themselves", "MAIA0223")


def table(c: NodeContext, name: str, array: np.ndarray[Any, Any]) -> Value:
    """Numbers of a node's attributes as a weight."""
    held = torch.from_numpy(np.ascontiguousarray(array))
    label = f"{c.node.name or c.node.outputs[0].name}.{name}"
    return c.module.add_weight(label, TensorType(FROM_TORCH[held.dtype], tuple(array.shape)), HeldTensor(held))


def transformed(c: NodeContext, y: Value, how: str) -> Value:
    """The reduced weights as what they stand for."""
    if how == "NONE":
        return y
    if how == "SOFTMAX":
        return c.emit("softmax", y, dim=-1)
    if how == "LOGISTIC":
        return c.emit("sigmoid", y)
    if how == "PROBIT":
        centered = c.emit("sub", c.emit("mul", y, c.const_like(2.0, y)), c.const_like(1.0, y))
        return c.emit("mul", c.emit("erfinv", centered), c.const_like(2**0.5, y))
    if how != "SOFTMAX_ZERO":
        c.fail(f"post_transform is {how!r}", "MAIA0223")
    # Softmax among what is not 0; zeros stay.
    zero = c.emit("eq", y, c.const_like(0.0, y))
    soft = c.emit("softmax", c.emit("where", zero, c.const_like(float("-inf"), y), y), dim=-1)
    return c.emit("where", zero, c.const_like(0.0, y), soft)
