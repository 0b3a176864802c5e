"""The exact cut into stages, against trying all of them."""

from __future__ import annotations

from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from maiac.passes.partition.balance import SLACK, balanced_cuts

costs = st.lists(st.integers(0, 20).map(float), min_size=1, max_size=9)


@given(costs, st.integers(1, 4), st.data())
def test_no_other_cut_is_better(costs: list[float], stages: int, data: st.DataObject):
    sent = data.draw(
        st.lists(st.one_of(st.none(), st.integers(0, 9).map(float)), min_size=len(costs), max_size=len(costs))
    )
    places = [i for i in range(1, len(costs)) if sent[i] is not None]
    found = balanced_cuts(costs, [*sent, None], stages)
    if len(places) + 1 < stages:
        assert found is None
        return
    assert found is not None and found.starts[0] == 0 and len(found.starts) == len(found.costs) == stages
    assert sum(found.costs) == sum(costs)
    every = [(0, *inner) for inner in combinations(places, stages - 1)]
    least = min(max(run_costs(costs, starts)) for starts in every)
    assert max(found.costs) <= least * SLACK + 1e-9
    allowed = [s for s in every if max(run_costs(costs, s)) <= least * SLACK + 1e-9]
    cheapest = min(sum(sent[i] or 0.0 for i in s[1:]) for s in allowed)
    assert abs(sum(sent[i] or 0.0 for i in found.starts[1:]) - cheapest) < 1e-9


def run_costs(costs: list[float], starts: tuple[int, ...]) -> list[float]:
    bounds = [*starts, len(costs)]
    return [sum(costs[a:b]) for a, b in pairwise(bounds)]


def test_balance_is_the_mean_over_the_greatest():
    even = balanced_cuts([1.0] * 8, [0.0] * 9, 4)
    assert even is not None and even.starts == (0, 2, 4, 6) and even.balance == 1.0
    uneven = balanced_cuts([3.0, 1.0], [0.0] * 3, 2)
    assert uneven is not None and uneven.balance == 2 / 3
