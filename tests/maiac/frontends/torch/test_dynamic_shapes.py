"""Dynamic shapes from end to end: ranges and relations of dims, sizes that the data decide, guards, no second build."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from transformers import LlamaForCausalLM

import maiac
from maiac.codegen import build, host
from maiac.ir.errors import MaiaError
from tests.models.zoo import llama_config

T = Dim("T", min=2, max=50)


def compiled(model: Any, *calls: Sequence[Any], shapes: Any, atol: float = 1e-5) -> maiac.Artifact:
    """Compile on the first call's arguments and compare all calls with eager."""
    with torch.no_grad():
        artifact = maiac.compile(model, calls[0], dynamic_shapes=shapes)
        for args in calls:
            torch.testing.assert_close(artifact(*args), model(*args), rtol=1e-4, atol=atol)
    return artifact


def faults(call: Callable[[], Any]) -> list[str]:
    """What a call's guards say, one line for each fault."""
    with pytest.raises(MaiaError) as caught:
        call()
    assert caught.value.code == "MAIA0502"
    return list(caught.value.details)


# **** ranges and relations ****


class Logits(nn.Module):
    """A small Llama as a function of token ids."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = LlamaForCausalLM(llama_config(2, use_cache=False))

    def forward(self, ids: Tensor) -> Tensor:
        return self.model(input_ids=ids).logits


def test_llama_is_built_once_for_all_batches_and_lengths(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, length = Dim("B", min=2, max=8), Dim("L", min=2, max=64)
    sizes = [(2, 9), (2, 2), (8, 64), (3, 17), (2, 64)]
    calls = [(torch.arange(b * n).reshape(b, n) * 7 % 50,) for b, n in sizes]
    model = Logits().eval()
    artifact = compiled(model, calls[0], shapes=({0: batch, 1: length},))

    def again(*_: Any, **__: Any) -> Any:
        raise AssertionError("something is traced, lowered or built again")

    for place, name in ((build.Build, "__init__"), (host, "nativize"), (torch.export, "export")):
        monkeypatch.setattr(place, name, again)
    for args in calls:
        torch.testing.assert_close(artifact(*args), model(*args), rtol=1e-4, atol=1e-4)
    assert faults(lambda: artifact(torch.zeros(9, 65, dtype=torch.int64))) == [
        "dim 0 of input ids makes B = 9; expected B in 2..8",
        "dim 1 of input ids makes L = 65; expected L in 2..64",
    ]


def test_images_of_odd_sizes() -> None:
    high, wide = Dim("H", min=4, max=40), Dim("W", min=4, max=40)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True), nn.Conv2d(8, 4, 3))
    calls = [(torch.linspace(-1, 1, 3 * h * w).reshape(1, 3, h, w),) for h, w in ((21, 33), (9, 81), (81, 9))]
    artifact = compiled(model.eval(), *calls, shapes=({2: 2 * high + 1, 3: 2 * wide + 1},))
    assert [str(a.type) for a in artifact.module.main.args] == ["f32[1, 3, 2*H+1, 2*W+1]"]
    assert [str(t) for t in artifact.module.main.result_types] == ["f32[1, 4, H-1, W-1]"]
    assert faults(lambda: artifact(torch.zeros(2, 3, 20, 83))) == [
        "dim 0 of input input is 2; expected 1",
        "dim 2 of input input is 20, which 2*H+1 cannot be",
        "dim 3 of input input is 83, which makes W = 41; expected W in 4..40",
    ]


class Pyramid(nn.Module):
    """Halves an image five times, and joins what comes up again with what was there."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(4 if i else 3, 4, 3, stride=2, padding=1) for i in range(5))
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found: list[Tensor] = []
        for layer in self.down:
            x = torch.relu(layer(x))
            found.append(x)
        wide = nn.functional.interpolate(x, size=found[0].shape[2:], mode="bilinear")
        return torch.cat([self.up(x), found[3]], 1), wide


def test_images_of_multiples_of_32() -> None:
    high, wide = Dim("H", min=2, max=8), Dim("W", min=2, max=8)
    calls = [(torch.linspace(-1, 1, 3 * h * w).reshape(1, 3, h, w),) for h, w in ((64, 96), (256, 64))]
    artifact = compiled(Pyramid().eval(), *calls, shapes=({2: 32 * high, 3: 32 * wide},))
    assert [str(t) for t in artifact.module.main.result_types] == ["f32[1, 8, 2*H, 2*W]", "f32[1, 4, 16*H, 16*W]"]
    assert faults(lambda: artifact(torch.zeros(1, 3, 40, 288))) == [
        "dim 2 of input x is 40, which 32*H cannot be",
        "dim 3 of input x is 288, which makes W = 9; expected W in 2..8",
    ]


def test_a_relation_between_inputs_names_both() -> None:
    def model(x: Tensor, y: Tensor) -> Tensor:
        return torch.cat([x, y[1:]])

    shapes = ({0: T}, {0: 2 * T + 1})
    artifact = compiled(
        model, (torch.ones(3, 4), torch.ones(7, 4)), (torch.ones(5, 4), torch.ones(11, 4)), shapes=shapes
    )
    assert faults(lambda: artifact(torch.ones(51, 4), torch.ones(12, 5))) == [
        "dim 0 of input y is 12; expected 2*T+1 = 103 (T = 51 from dim 0 of input x)",
        "dim 1 of input y is 5; expected 4",
        "dim 0 of input x makes T = 51; expected T in 2..50",
    ]


# **** sizes that the data decide ****


def selected_rows(x: Tensor) -> Any:
    """The selection is used several times, and its size in shapes of its own."""
    places = x.sum(1).gt(0).nonzero().squeeze(1)
    rows = x[places]
    return places, rows.sum(0), torch.cat([rows, rows * 2]), rows @ rows.T, torch.arange(rows.shape[0])


def selected_elements(x: Tensor) -> Any:
    chosen = torch.masked_select(x, x > 0)
    return chosen.exp().sum(), chosen + x[x > 0], chosen.reshape(1, -1).expand(3, -1)


def distinct(x: Tensor) -> Any:
    values, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True)
    return (
        values * 2,
        inverse,
        counts,
        values[inverse],
        torch.zeros(values.shape[0]).index_add(0, inverse[:, 0], x[:, 1]),
    )


def distinct_rows(x: Tensor) -> Any:
    values, inverse, counts = torch.unique(x, dim=0, return_inverse=True, return_counts=True)
    return values @ values.T, inverse, counts


def runs(x: Tensor) -> Any:
    return (
        *torch.unique_consecutive(x, return_inverse=True, return_counts=True),
        *torch.unique_consecutive(x, return_inverse=True, return_counts=True, dim=0),
    )


def occurrences(x: Tensor) -> Any:
    numbers = x[:, 0].abs().long()
    return torch.bincount(numbers) * 2, torch.bincount(numbers, weights=x[:, 1]), torch.bincount(numbers, minlength=9)


def repetitions(x: Tensor) -> Tensor:
    return torch.repeat_interleave(x, x[:, 0].abs().long(), dim=0) + 1


@pytest.mark.parametrize(
    "model", [selected_rows, selected_elements, distinct, distinct_rows, runs, occurrences, repetitions]
)
def test_sizes_that_the_data_decide(model: Any) -> None:
    draw = torch.Generator().manual_seed(0)
    calls = [(torch.randint(-2, 3, (n, 3), generator=draw).float(),) for n in (9, 2, 40)]
    compiled(model, *calls, (torch.ones(7, 3),), shapes=({0: T},))


def test_nothing_may_be_selected() -> None:
    for model in (selected_rows, selected_elements):
        compiled(model, (torch.ones(9, 3),), (-torch.ones(5, 3),), shapes=({0: T},))
