"""Complex numbers as models use them: rotary positions of Llama's first code, spectra, conjugates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.export import Dim

import maiac


def rotary(x: Tensor) -> Tensor:
    """x [batch, tokens, heads, width] turned by its position."""
    rates = 1.0 / 10000 ** (torch.arange(0, x.shape[-1], 2).float() / x.shape[-1])
    angles = torch.outer(torch.arange(x.shape[1]).float(), rates)
    turns = torch.polar(torch.ones_like(angles), angles)
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turns[None, :, None]).flatten(3).type_as(x)


def spectrum(x: Tensor) -> tuple[Tensor, ...]:
    made = torch.fft.rfft(x[..., 0])
    return made.abs(), made.angle(), torch.fft.irfft(made.conj() * made, n=x.shape[2])


def products(x: Tensor) -> tuple[Tensor, ...]:
    a = torch.complex(x[0, 0], x[0, 1])
    return a @ a.mH, (a * a.conj()).real, torch.where(a.real > 0, a, -a).sum(0), a.conj().imag, a.prod(1)


def windows(x: Tensor) -> tuple[Tensor, Tensor]:
    window = torch.hann_window(16)
    made = torch.stft(x.reshape(1, -1), 16, 4, window=window, return_complex=True)
    return made.abs(), torch.istft(made, 16, 4, window=window)


def same(model: Any, calls: Sequence[Tensor], shapes: Any = None) -> None:
    artifact = maiac.compile(model, (calls[0],), dynamic_shapes=shapes)
    for x in calls:
        torch.testing.assert_close(artifact(x), model(x), rtol=1e-4, atol=1e-5)


def sequence(tokens: int) -> Tensor:
    return torch.randn(2, tokens, 4, 8, generator=torch.Generator().manual_seed(tokens))


def test_rotary_positions_for_any_number_of_tokens() -> None:
    same(rotary, [sequence(n) for n in (6, 2, 17)], ({1: Dim("T", min=2, max=32)},))


@pytest.mark.parametrize("model", [spectrum, products, windows])
def test_complex_numbers(model: Any) -> None:
    same(model, [sequence(6)])
