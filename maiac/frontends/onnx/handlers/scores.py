"""What operators of ai.onnx.ml make of scores: names of classes, shares, and what post_transform says."""

from __future__ import annotations

import numpy as np

from maiac.ir import DType, Value

from ..context import NodeContext


def class_labels(c: NodeContext) -> tuple[int | str, ...]:
    """The names of classes."""
    words = c.texts("classlabels_strings")
    return words or tuple(c.ints("classlabels_ints") or c.ints("classlabels_int64s") or ())


def class_names(c: NodeContext, at: Value, labels: tuple[int | str, ...]) -> Value:
    """Positions of classes as their names."""
    if labels and isinstance(labels[0], str):
        keys = tuple(range(len(labels)))
        return c.emit("look_up", at, to=DType.STR, keys=keys, values=labels, default="")
    return c.emit("gather", c.table("labels", np.asarray(labels, np.int64)), at, dim=0)


def of_both(c: NodeContext, score: Value, how: str, positive: bool) -> Value:
    """[n 2] from the score [n 1] of the second class, which is a share where it is positive."""
    if how == "PROBIT":
        c.fail("PROBIT of one score is not supported")
    if positive and how != "LOGISTIC":
        return c.emit("concat", c.emit("sub", c.const_like(1.0, score), score), score, dim=1)
    both = c.emit("concat", c.emit("neg", score), score, dim=1)
    return c.emit("sigmoid", both) if how == "LOGISTIC" else both


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
