"""Decision trees of ai.onnx.ml: their lists of nodes become the tables of ``tree_ensemble``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from maiac.ir import DType, Value

from ..context import NodeContext, tensor_type
from ..registry import onnx_op
from .scores import class_labels, class_names, of_both, transformed

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
    forest = _forest_of_indices(c)
    modes = list(forest.mode)
    members = _sets(c)
    for node in [i for i, m in enumerate(modes) if m == MEMBER]:
        if not members:
            c.fail("membership_values has fewer sets than there are nodes that test for membership", "MAIA0223")
        forest.add_equal(node, members.pop(0))
    weights, targets = _numbers(c, "leaf_weights"), c.ints("leaf_targetids") or []
    c.same_length(leaf_weights=weights, leaf_targetids=targets)
    reduce = ("mean", "sum", "min", "max")[c.choice("aggregate_function", 1, range(4))]
    given = [(i, t, w) for i, (t, w) in enumerate(zip(targets, weights, strict=True))]
    leaf = _leaves(c, given, len(targets), _targets(c), reduce)
    after = _AFTER[c.choice("post_transform", 0, range(len(_AFTER)))]
    return transformed(c, _emit(c, forest, leaf, reduce), after)


def _targets(c: NodeContext) -> int:
    count = int(c.need("n_targets"))
    return count if count > 0 else c.fail(f"n_targets is {count}", "MAIA0223")


def _forest_of_indices(c: NodeContext) -> Forest:
    """The forest as the attributes of TreeEnsemble list it."""
    names = ("featureids", "truenodeids", "trueleafs", "falsenodeids", "falseleafs")
    columns = {f"nodes_{n}": c.ints(f"nodes_{n}") or [] for n in names}
    modes, splits = [int(m) for m in _numbers(c, "nodes_modes")], [float(v) for v in _numbers(c, "nodes_splits")]
    missing = c.ints("nodes_missing_value_tracks_true") or [0] * len(modes)
    c.same_length(nodes_modes=modes, nodes_splits=splits, nodes_missing_value_tracks_true=missing, **columns)
    strange = sorted(set(modes) - set(range(MEMBER + 1)))
    if strange:
        c.fail(f"nodes have the modes {strange}, which do not exist", "MAIA0223")
    features, *ends = columns.values()
    yes, no = (
        [~i if is_leaf else i for i, is_leaf in zip(nodes, leaves, strict=True)]
        for nodes, leaves in (ends[:2], ends[2:])
    )
    roots = c.ints("tree_roots") or []
    if not all(0 <= r < len(yes) for r in roots):
        c.fail("a tree has its root at a node that is not there", "MAIA0223")
    # A tree that is one leaf has a node whose ends are both that leaf.
    roots = [yes[r] if yes[r] == no[r] and yes[r] < 0 else r for r in roots]
    return Forest(features, splits, modes, yes, no, [bool(m) for m in missing], roots)


@onnx_op("TreeEnsembleRegressor", domain="ai.onnx.ml")
def tree_ensemble_regressor(c: NodeContext) -> Value:
    """The older form: nodes by the ids of tree and node, leaves among them."""
    y = _named_trees(c, "target", _targets(c), _REDUCE[c.choice("aggregate_function", "SUM", list(_REDUCE))])
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


def _named_trees(c: NodeContext, what: str, targets: int, reduce: str) -> Value:
    """[n targets] of trees by the ids of tree and node; weights are of a ``target`` or ``class``.

    Where there is one target only, weights are of that, whatever its number.
    """
    forest, leaves = _forest_of_names(c)
    columns = {f"{what}_{n}": c.ints(f"{what}_{n}") or [] for n in ("treeids", "nodeids", "ids")}
    weights = _numbers(c, f"{what}_weights")
    c.same_length(**columns, **{f"{what}_weights": weights})
    given: list[tuple[int, int, float]] = []
    for tree, node, target, weight in zip(*columns.values(), weights, strict=True):
        if (tree, node) not in leaves:
            c.fail(f"a weight is of node {node} of tree {tree}, which is no leaf", "MAIA0223")
        given.append((leaves[tree, node], target if targets > 1 else 0, weight))
    y = c.cast(_emit(c, forest, _leaves(c, given, len(leaves), targets, reduce), reduce), DType.F32)
    base = _numbers(c, "base_values")
    return c.emit("add", y, c.table("base", np.asarray(base, np.float32))) if len(base) else y


def _forest_of_names(c: NodeContext) -> tuple[Forest, dict[tuple[int, int], int]]:
    """The forest, and the numbers of its leaves. The first node of each tree is its root."""
    columns = {
        f"nodes_{n}": c.ints(f"nodes_{n}") or []
        for n in ("treeids", "nodeids", "featureids", "truenodeids", "falsenodeids")
    }
    modes, splits = c.texts("nodes_modes"), _numbers(c, "nodes_values")
    missing = c.ints("nodes_missing_value_tracks_true") or [0] * len(modes)
    c.same_length(nodes_modes=modes, nodes_values=splits, nodes_missing_value_tracks_true=missing, **columns)
    trees, nodes, features, yes, no = columns.values()
    names = list(zip(trees, nodes, strict=True))
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
            tensor = c.tensor_attr(given) if hasattr(found, "numpy") else None
            return found if tensor is None else tensor.reshape(-1)
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
    _check_features(c, forest)
    x = c[0] if c.dtype(0) in (DType.F32, DType.F64) else c.cast(c[0], DType.F32)
    integers = {n: np.asarray(getattr(forest, n), np.int64) for n in ("feature", "yes", "no", "roots")}
    y = c.emit(
        "tree_ensemble",
        x,
        c.table("feature", integers["feature"]),
        c.table("split", np.asarray(forest.split, leaf.dtype)),
        c.table("mode", np.asarray(forest.mode, np.int8)),
        c.table("yes", integers["yes"]),
        c.table("no", integers["no"]),
        c.table("missing", np.asarray(forest.missing, np.bool_)),
        c.table("roots", integers["roots"]),
        c.table("leaf", leaf),
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


def _check_features(c: NodeContext, forest: Forest) -> None:
    """MAIA0223 where nodes test columns that rows do not have."""
    width = c.shape(0, 2)[1]
    strange = [f for f in forest.feature if f < 0 or (isinstance(width, int) and f >= width)]
    if strange:
        c.fail(f"nodes test feature {strange[0]}, but rows have {width}", "MAIA0223")
