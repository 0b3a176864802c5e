"""Random numbers: eager's for a seed where torch's generator is called alike, else of the right distribution."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import distributions

import maiac
from maiac import MaiaError

Draw = Callable[[torch.Tensor], torch.Tensor]
COUNT = 20_000


class Drawing(torch.nn.Module):
    """A model that is one function."""

    def __init__(self, draw: Draw) -> None:
        super().__init__()
        self.draw = draw

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.draw(x)


def run(draw: Draw, x: torch.Tensor, times: int = 1) -> torch.Tensor:
    torch.manual_seed(0)
    artifact = maiac.compile(Drawing(draw), (x,))
    torch.manual_seed(0)
    for _ in range(times - 1):
        artifact(x)
    return artifact(x)


@pytest.mark.parametrize(
    "draw",
    [
        torch.rand_like,
        lambda x: torch.randn(3, 5),
        lambda x: torch.normal(x, 2.0),
        lambda x: torch.empty_like(x).uniform_(-1, 3),
    ],
    ids=["rand", "randn", "normal", "uniform"],
)
def test_a_seed_gives_eagers_numbers(draw: Draw):
    x = torch.linspace(0, 1, 60).reshape(3, 20)
    got = run(draw, x)
    torch.manual_seed(0)
    torch.testing.assert_close(got, draw(x))


@pytest.mark.parametrize(
    "draw, distribution",
    [
        (lambda x: torch.empty_like(x).exponential_(2.0), distributions.Exponential(2.0)),
        (lambda x: torch.empty_like(x).cauchy_(1.0, 2.0), distributions.Cauchy(1.0, 2.0)),
        (lambda x: torch.empty_like(x).log_normal_(0.5, 0.75), distributions.LogNormal(0.5, 0.75)),
        (lambda x: torch.randn_like(x) * 3 - 1, distributions.Normal(-1.0, 3.0)),
    ],
    ids=["exponential", "cauchy", "log_normal", "normal"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_are_of_their_distribution(draw: Draw, distribution: distributions.Distribution, dtype: torch.dtype):
    drawn = run(draw, torch.empty(COUNT, dtype=dtype))
    assert drawn.dtype is dtype
    assert torch.isfinite(drawn).all()
    # Kolmogorov and Smirnov: the largest distance of the two distributions; 1.95 / sqrt(n) is passed once in 1,000.
    ranks = distribution.cdf(drawn.double().sort().values)
    assert (ranks - torch.arange(1, COUNT + 1) / COUNT).abs().max() < 1.95 / COUNT**0.5


def test_numbers_differ_from_call_to_call():
    def draw(x: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(x).exponential_()

    assert not torch.equal(run(draw, torch.empty(8)), run(draw, torch.empty(8), times=2))


def test_dropout_keeps_its_share():
    kept = run(lambda x: F.dropout(x, 0.4, training=True), torch.ones(COUNT))
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.6])
    assert (kept > 0).double().mean().item() == pytest.approx(0.6, abs=0.015)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_with_dropout(masked: bool):
    q, k, v = (torch.randn(1, heads, 6, 8) for heads in (4, 2, 2))
    mask = torch.ones(6, 6, dtype=torch.bool).tril() if masked else None

    def attention(q: torch.Tensor, dropout: float) -> torch.Tensor:
        keys, values = (x.expand(len(q), -1, -1, -1) for x in (k, v))
        return F.scaled_dot_product_attention(q, keys, values, mask, dropout, mask is None, enable_gqa=True)

    wanted = attention(q, 0.0)
    torch.testing.assert_close(run(lambda q: attention(q, 1e-9), q), wanted)
    many = run(lambda q: attention(q.expand(4000, -1, -1, -1), 0.25), q)
    torch.testing.assert_close(many.mean(0), wanted[0], rtol=0, atol=0.1)
    assert many.std(0)[:, 0].max() > 0.5  # the first query sees one key, which is there or not


def test_exponential_numbers_come_of_double_precision():
    """In single precision one of 2^24 would be 0, whose logarithm and whose share of a multinomial are infinite."""
    for draw in (lambda x: torch.empty_like(x).exponential_(), lambda x: torch.multinomial(x, 1)):
        ops = maiac.capture(Drawing(draw), (torch.ones(2),)).walk()
        assert [str(o.results[0].type) for o in ops if o.name == "random_uniform"] == ["f64[2]"]


def test_geometric_counts_trials():
    drawn = run(lambda x: torch.empty_like(x).geometric_(0.3), torch.empty(COUNT))
    for k in range(1, 6):
        assert (drawn == k).double().mean().item() == pytest.approx(0.3 * 0.7 ** (k - 1), abs=0.012)
    assert drawn.min() == 1


def test_multinomial_draws_by_probability():
    p = torch.tensor([[1.0, 0.0, 3.0], [2.0, 2.0, 4.0]])
    drawn = run(lambda x: torch.multinomial(x, COUNT, replacement=True), p)
    assert drawn.shape == (2, COUNT)
    shares = F.one_hot(drawn, 3).double().mean(1)
    torch.testing.assert_close(shares, (p / p.sum(1, keepdim=True)).double(), rtol=0, atol=0.015)


def test_multinomial_without_replacement_draws_each_place_once():
    p = torch.tensor([1.0, 2.0, 3.0, 4.0])
    drawn = run(lambda x: torch.multinomial(x.expand(500, 4), 4), p)
    assert torch.equal(drawn.sort(-1).values, torch.arange(4).expand(500, 4))
    shares = F.one_hot(drawn[:, 0], 4).double().mean(0)
    torch.testing.assert_close(shares, p.double() / 10, rtol=0, atol=0.07)


@pytest.mark.parametrize("p", [[1.0, -1.0], [0.0, 0.0], [1.0, float("nan")]])
def test_multinomial_of_no_probabilities_is_an_error(p: list[float]):
    artifact = maiac.compile(Drawing(lambda x: torch.multinomial(x, 1)), (torch.ones(2),))
    with pytest.raises(MaiaError, match=r"MAIA0511.*multinomial: probabilities"):
        artifact(torch.tensor(p))
