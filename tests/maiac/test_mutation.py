"""Models that write to their inputs: the caller's tensors hold afterwards what eager PyTorch leaves in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils._pytree as pytree

import maiac
from maiac.compare import compare
from maiac.ir import MaiaError, parse, verify


def adds_and_returns(x: torch.Tensor, y: torch.Tensor) -> Any:
    x.add_(1)
    return x * y


def writes_a_part(x: torch.Tensor, y: torch.Tensor) -> Any:
    x[:, 1:3] = y[:, :2]
    return x.sum(), x


def swaps(x: torch.Tensor, y: torch.Tensor) -> Any:
    old = x.clone()
    x.copy_(y)
    y.copy_(old)
    return {"was": old}


def returns_the_other(x: torch.Tensor, y: torch.Tensor) -> Any:
    x.copy_(y)
    y.mul_(0)
    return x.view(-1)


def only_writes(x: torch.Tensor, y: torch.Tensor) -> Any:
    x.copy_(y)


def fresh() -> tuple[torch.Tensor, torch.Tensor]:
    gen = torch.Generator().manual_seed(0)
    return torch.rand(3, 4, generator=gen), torch.rand(3, 4, generator=gen)


def leaves(value: Any) -> list[Any]:
    return pytree.tree_leaves(value)


@pytest.mark.parametrize("model", [adds_and_returns, writes_a_part, swaps, returns_the_other, only_writes])
def test_inputs_hold_what_eager_leaves_in_them(model: Callable[..., Any], tmp_path: Path) -> None:
    artifact = maiac.compile(model, fresh())
    artifact.save(tmp_path / "m.maia")
    loaded = maiac.load(tmp_path / "m.maia")
    assert all(d.fits for d in loaded.self_test())
    for run in (artifact, loaded):
        for _ in range(3):  # plain, recorded, planned
            ours, theirs = fresh(), fresh()
            ours[0].requires_grad_()
            expected, found = model(*theirs), run(*ours)
            for a, b in zip([*leaves(found), *ours], [*leaves(expected), *theirs], strict=True):
                assert a is b if b is None else torch.equal(a, b)


def test_the_program_says_what_it_changes() -> None:
    artifact = maiac.compile(adds_and_returns, fresh())
    assert artifact.module.attrs["mutates"] == ((0, 1),)
    assert [p.name for p in artifact.outputs][1:] == ["x.after"]
    x, y = fresh()
    before = x.clone()
    first, after = artifact.run([x, y])
    assert torch.equal(x, before) and torch.equal(after, before + 1) and torch.equal(first, (before + 1) * y)


def test_a_model_that_writes_to_its_input_compares_with_its_source() -> None:
    artifact = maiac.compile(adds_and_returns, fresh())
    found = compare(artifact, torch.export.export(_Adds(), fresh()), list(fresh()), layers=True)
    assert found.fits and [d.name for d in found.outputs][1] == "x.after"


class _Adds(torch.nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return adds_and_returns(x, y)


def test_arrays_are_written_too() -> None:
    artifact = maiac.compile(adds_and_returns, fresh())
    x, y = (t.numpy() for t in fresh())
    want = x + 1
    artifact(x, y)
    assert np.array_equal(x, want)


@pytest.mark.parametrize("kind", ["read-only", "shared", "list"])
def test_an_input_that_cannot_take_the_new_value_is_refused(kind: str) -> None:
    artifact = maiac.compile(adds_and_returns, fresh())
    x, y = fresh()
    given: Any = x.numpy()
    if kind == "read-only":
        given.flags.writeable = False
    args = (x, x.view(3, 4)) if kind == "shared" else (given, y)
    if kind == "list":
        artifact = maiac.compile(lambda x, y: x.add_(y), (torch.tensor(1.0), torch.tensor(2.0)))
        args = (1.0, torch.tensor(2.0))
    with pytest.raises(MaiaError) as caught:
        artifact(*args)
    assert caught.value.code == "MAIA0510"


@pytest.mark.parametrize(
    ("mutates", "message"),
    [
        ("[[0, 1]]", "but mutates puts f32[2] into it"),
        ("[[1, 0]]", "does not pair"),
        ("[[0, 2]]", "does not pair"),
        ("[[7, 1]]", "parameter 7 is missing"),
        ("[3]", "is not a list of pairs"),
        ("true", "is not a list of pairs"),
    ],
)
def test_the_verifier_checks_what_is_mutated(mutates: str, message: str) -> None:
    text = f"""module @m {{mutates = {mutates}}} {{
      func @main(%x: f32[3], %y: f32[2]) -> (f32[3], f32[2]) {{
        %0 = neg %x : f32[3]
        %1 = neg %y : f32[2]
        return %0, %1
      }}
    }}"""
    with pytest.raises(MaiaError) as caught:
        verify(parse(text))
    assert caught.value.code == "MAIA0106" and message in str(caught.value.details)
