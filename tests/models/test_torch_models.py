"""Real models through torch.export: what the executor gives equals eager."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree

from maiac.frontends.exported import capture
from maiac.ir.graph import Module
from maiac.ir.verifier import verify
from maiac.passes.clone import clone_module
from maiac.passes.manager import run_pipeline
from maiac.passes.pipeline import default_pipeline
from maiac.runtime import tree
from maiac.runtime.executor import Executor

from .zoo import BUILDERS, Case

RTOL, ATOL = 1e-4, 1e-5  # float32


def tensors(outputs: Any) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]


def compare(case: Case, executor: Executor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    attrs = executor.module.attrs
    inputs = tree.flatten(tree.loads(str(attrs["in_tree"])), (args, kwargs))
    got = tree.unflatten(tree.loads(str(attrs["out_tree"])), executor.run(inputs))
    with torch.no_grad():
        want = case.model(*args, **kwargs)
    assert type(got) is type(want)
    for a, b in zip(tensors(got), tensors(want), strict=True):
        torch.testing.assert_close(a, b, rtol=RTOL, atol=ATOL)


@functools.cache  # tracing takes longer than all that the tests do with the result
def captured(name: str) -> tuple[Case, Module]:
    case = BUILDERS[name]()
    return case, capture(case.model, case.args, case.kwargs, dynamic_shapes=case.dynamic_shapes)


@pytest.mark.parametrize("name", BUILDERS)
def test_captured_model_equals_eager(name: str) -> None:
    case, module = captured(name)
    verify(module)
    compare(case, Executor(module), case.args, case.kwargs)
    module = clone_module(module)
    run_pipeline(module, default_pipeline())
    executor = Executor(module)
    compare(case, executor, case.args, case.kwargs)
    for length in case.lengths if case.vary else ():
        assert case.vary is not None
        compare(case, executor, *case.vary(length))


def test_dynamic_dims_keep_the_names_that_the_user_gave() -> None:
    _, module = captured("t5")
    assert {(s.name, s.low, s.high) for s in module.symbols.values()} == {("T", 2, 256), ("D", 2, 256)}
    assert json.loads(str(module.attrs["in_tree"]))["c"][1]["k"] == ["input_ids", "decoder_input_ids", "use_cache"]


def test_tied_weights_are_one_weight_over_the_models_own_storage() -> None:
    case, module = captured("gpt2")
    table = case.model.get_parameter("transformer.wte.weight")
    stored = [w.data.load().data_ptr() for w in module.weights.values() if w.data is not None]
    assert stored.count(table.data_ptr()) == 1
    assert len(stored) == len(module.weights)


def test_operations_carry_the_module_path_and_the_line_of_the_model() -> None:
    _, module = captured("llama")
    locs = [op.loc for op in module.walk() if op.name == "linear"]
    assert locs[0].name == "model.layers.0.self_attn.q_proj"
    assert locs[0].file.endswith("modeling_llama.py")
    assert locs[0].line > 0
