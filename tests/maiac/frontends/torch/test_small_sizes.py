"""One program for one token and for many: dims that may be 1."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch.export import Dim

from maiac.frontends.exported import capture
from maiac.ir import MaiaError, Module, verify
from maiac.passes import run_pipeline
from maiac.passes.pipeline import default_pipeline
from maiac.runtime.executor import Executor

SMALL: dict[str, Any] = {"vocab_size": 64}
MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=64, **SMALL,
        )
    ),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0, **SMALL)
    ),
    "bert": lambda: transformers.BertForMaskedLM(
        transformers.BertConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
            max_position_embeddings=64, **SMALL,
        )
    ),
}  # fmt: skip


class Logits(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model.eval()
        self.options = {"use_cache": False} if model.can_generate() else {}

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model(ids, **self.options).logits


def range_of(module: Module, name: str = "T") -> tuple[int, int | None]:
    return module.symbols[name].low, module.symbols[name].high


@pytest.mark.parametrize("name", MODELS)
def test_one_program_serves_one_token_and_many(name: str) -> None:
    torch.manual_seed(0)
    model = Logits(MODELS[name]())
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        module = capture(model, (torch.arange(16)[None],), dynamic_shapes=({1: Dim("T", min=1, max=64)},))
    run_pipeline(module, default_pipeline())
    verify(module)
    assert range_of(module) == (1, 64)
    run = Executor(module).run
    for length in (1, 2, 17):
        ids = torch.randint(0, 64, (1, length), generator=torch.Generator().manual_seed(length))
        with torch.no_grad():
            torch.testing.assert_close(run([ids])[0], model(ids), rtol=1e-4, atol=1e-5)


def test_a_dim_without_a_least_size_begins_at_one() -> None:
    module = capture(lambda x: x * 2, (torch.ones(4, 3),), dynamic_shapes=({0: Dim("T", max=9)},))
    assert range_of(module) == (1, 9)


def test_derived_dims_follow() -> None:
    one = Dim("T", min=1, max=8)
    module = capture(
        lambda x, y: x.reshape(-1, 2) + y, (torch.ones(6), torch.ones(3, 2)), dynamic_shapes=({0: 2 * one}, {0: one})
    )
    assert range_of(module) == (1, 8)
    assert torch.equal(Executor(module).run([torch.ones(2), torch.ones(1, 2)])[0], torch.full((1, 2), 2.0))


class _Wrapped(torch.nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def branches(x: torch.Tensor) -> torch.Tensor:
    return x.sum(0) if x.shape[0] == 1 else x.mean(0) + 1


def fails(x: torch.Tensor) -> torch.Tensor:
    if x.shape[0] < 2:
        raise ValueError("too short")
    return x * 2


@pytest.mark.parametrize("model", [torch.squeeze, branches, fails])
def test_a_model_that_is_another_one_at_one_keeps_the_plain_range(model: Callable[..., Any]) -> None:
    x = torch.rand(4, 3)
    with pytest.warns(UserWarning, match="sizes of 1 are left out of T"):
        module = capture(_Wrapped(model), (x,), dynamic_shapes=({0: Dim("T", min=1, max=9)},))
    assert range_of(module) == (2, 9)
    assert torch.equal(Executor(module).run([x])[0], model(x))
    with pytest.raises(MaiaError) as caught:
        Executor(module).run([x[:1]])
    assert caught.value.code == "MAIA0502"


def test_dims_that_begin_at_two_are_traced_as_before() -> None:
    module = capture(branches, (torch.rand(4, 3),), dynamic_shapes=({0: Dim("T", min=2, max=9)},))
    assert range_of(module) == (2, 9)


def test_the_model_is_held_at_one_as_it_is_traced() -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        return x + 1 if torch.compiler.is_exporting() else x.sum(0)

    module = capture(lambda x: model(x), (torch.rand(4, 3),), dynamic_shapes=({0: Dim("T", min=1, max=9)},))  # noqa: PLW0108
    assert range_of(module) == (1, 9)
