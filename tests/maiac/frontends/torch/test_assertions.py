"""What a model asserts holds in the compiled program too, or stops it with the place in the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.export import Dim

from maiac.frontends.exported import capture
from maiac.ir import MaiaError, Module, verify
from maiac.passes import run_pipeline
from maiac.passes.pipeline import default_pipeline
from maiac.runtime.executor import Executor

X = torch.arange(1.0, 9.0)
T = Dim("T", min=4, max=64)


def compiled(function: Callable[..., Any], args: tuple[Any, ...], shapes: Any = None) -> Module:
    module = capture(function, args, dynamic_shapes=shapes)
    run_pipeline(module, default_pipeline())
    verify(module)
    return module


def checks(module: Module) -> list[str]:
    return [str(op.attrs["message"]) for op in module.walk() if op.name == "check"]


def refused(module: Module, *inputs: Any) -> MaiaError:
    with pytest.raises(MaiaError) as caught:
        Executor(module).run(list(inputs))
    assert caught.value.code == "MAIA0511"
    return caught.value


def head(x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
    k: Any = n.item()
    torch._check(k >= 2)
    torch._check(k <= x.shape[0])
    torch._check(k % 2 == 0)
    return x[:k] * 2


def test_conditions_on_numbers_that_data_decide_are_checked_while_running() -> None:
    module = compiled(head, (X, torch.tensor(4)), ({0: T}, None))
    assert any("<= T" in text for text in checks(module)) and any("%2 == 0" in text for text in checks(module))
    for k in (2, 6, 8):
        assert torch.equal(Executor(module).run([X, torch.tensor(k)])[0], head(X, torch.tensor(k)))
    assert "%2 == 0" in refused(module, X, torch.tensor(5)).message
    assert "<= T" in refused(module, X, torch.tensor(10)).message
    for k in (0, -4, 66):
        error = refused(module, X, torch.tensor(k))
        assert f"is {k}" in error.message and error.loc is not None and error.loc.file == __file__


def test_the_place_of_an_assertion_is_where_the_number_comes_from() -> None:
    error = refused(compiled(head, (X, torch.tensor(4)), ({0: T}, None)), X, torch.tensor(5))
    assert error.loc is not None and error.loc.file == __file__


def test_an_assertion_about_a_number_that_nothing_else_reads_stays() -> None:
    def function(x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        k: Any = n.item()
        torch._check(k >= 3)
        torch._check(k < 6)
        return x + 1

    module = compiled(function, (X, torch.tensor(4)))
    Executor(module).run([X, torch.tensor(5)])
    for k in (2, 6, -1):
        refused(module, X, torch.tensor(k))


def test_sizes_of_results_are_held_against_their_ranges() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        found = torch.nonzero(x)
        torch._check(found.shape[0] >= 3)
        return x[: found.shape[0]]

    module = compiled(function, (X,))
    assert Executor(module).run([torch.tensor([1.0, 0, 1, 1, 0, 0, 0, 1])])[0].shape == (4,)
    refused(module, torch.tensor([1.0, 0, 1, 0, 0, 0, 0, 0]))


def test_what_the_ranges_of_inputs_say_needs_no_check() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        torch._check(x.shape[0] >= 2)
        torch._check(x.shape[0] < 100)
        return x + 1

    assert not checks(compiled(function, (X,), ({0: T},)))


def test_assertions_on_tensors() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        torch.ops.aten._assert_async.msg((x > 0).all(), "x must be positive")
        return x.sqrt()

    module = compiled(function, (X,))
    assert torch.equal(Executor(module).run([X])[0], X.sqrt())
    assert refused(module, -X).message == "x must be positive"


def test_a_number_that_may_be_negative_has_no_range_of_sizes() -> None:
    def function(x: torch.Tensor, n: torch.Tensor) -> Any:
        k: Any = n.item()
        return x + k, torch.sym_max(k, 0)

    module = compiled(function, (X, torch.tensor(4)))
    for k in (-3, 0, 5):
        got = Executor(module).run([X, torch.tensor(k)])
        assert torch.equal(got[0], X + k) and got[1] == max(k, 0)
