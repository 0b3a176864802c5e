"""Indices of equal elements are free where the documentation says so, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from .opinfo import compare
from .ties import named

X = torch.tensor([1.0, 0.0, 1.0, 0.0])


def check(operator: str, got: list[Any], want: list[Any], *args: Any, x: torch.Tensor = X, **kwargs: Any) -> None:
    """Compare as the suite does."""
    results = [[torch.tensor(r) for r in leaves] for leaves in (got, want)]
    ours, theirs = (named(operator, [(x, args, kwargs)], leaves) for leaves in results)
    compare(ours, theirs, set())


def test_equal_elements_may_be_named_in_any_order():
    check("argsort", [[3, 1, 0, 2]], [[1, 3, 0, 2]])
    check("topk", [[1.0, 1.0], [2, 0]], [[1.0, 1.0], [0, 2]], 2)
    check("kthvalue", [[0.0], [3]], [[0.0], [1]], 2, 1, x=X[None])
    check("argsort", [[[1, 1], [0, 0]]], [[[0, 1], [1, 0]]], 0, x=torch.tensor([[0, 5], [0, 3]]))
    check("argsort", [0], [0], x=X[0])


def test_other_elements_may_not():
    with pytest.raises(AssertionError, match="not equal"):
        check("argsort", [[0, 1, 3, 2]], [[1, 3, 0, 2]])
    with pytest.raises(AssertionError, match="not equal"):  # by their value, however near
        check("kthvalue", [1.0, 1], [1.0, 0], 1, x=torch.tensor([1.0, 1.0 + 1e-7]))
    with pytest.raises(AssertionError, match="named twice"):
        check("argsort", [[1, 1, 0, 2]], [[1, 3, 0, 2]])


def test_a_stable_order_and_other_operators_are_held_to_the_index():
    options: dict[str, Any] = {"argsort": {"stable": True}, "argmax": {}}
    for operator, given in options.items():
        with pytest.raises(AssertionError, match="not equal"):
            check(operator, [[3, 1, 0, 2]], [[1, 3, 0, 2]], **given)
