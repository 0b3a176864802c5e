"""Results are held against double precision element by element."""

from __future__ import annotations

import torch

from .closeness import FACTOR, NEAR, errors, is_as_near

TRUTH = torch.logspace(-3, 3, 64, dtype=torch.float64)
EAGER = (TRUTH * (1 + 1e-6)).float()


def near(got: torch.Tensor) -> bool:
    return is_as_near(errors(got, EAGER, TRUTH))


def test_errors_of_eager_s_size_are_as_near():
    assert near(EAGER) and near((TRUTH * (1 - 2e-6)).float())
    assert not near((TRUTH * (1 + 100e-6)).float())


def test_a_large_element_excuses_no_small_one():
    got = EAGER.clone()
    got[0] += 1e-4  # less than eager's error at the largest
    assert not near(got)


def test_an_element_that_eager_hits_by_luck_is_judged_by_those_about_it():
    want = EAGER.clone()
    want[30] = TRUTH[30].float()
    limit = FACTOR * (want.double() - TRUTH).abs()[: 30 + NEAR].max().item()
    for part, good in ((0.9, True), (10.0, False)):
        got = want.clone()
        got[30] += part * limit
        assert is_as_near(errors(got, want, TRUTH)) is good


def test_what_is_no_number_is_not_near():
    got = EAGER.clone()
    got[5] = torch.nan
    assert not near(got)
