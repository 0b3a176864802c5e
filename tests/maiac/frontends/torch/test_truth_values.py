"""Truth values as tensors, as Python values and as numbers."""

from __future__ import annotations

import torch

import maiac

FLAGS = torch.tensor([[False, True, True], [False, False, False]])


def test_truth_values_have_extremes_and_no_sign():
    artifact = maiac.compile(lambda x: (*x.max(1), *x.min(0), torch.signbit(x)), (FLAGS,))
    want = (*FLAGS.max(1), *FLAGS.min(0), torch.signbit(FLAGS))
    for got, eager in zip(artifact(FLAGS), want, strict=True):
        assert torch.equal(got, eager) and got.dtype == eager.dtype


def test_a_truth_value_comes_back_as_one():
    artifact = maiac.compile(lambda x: x.any().item(), (FLAGS,))
    assert artifact(FLAGS) is True
    assert artifact(torch.zeros_like(FLAGS)) is False


def test_a_truth_value_chooses_between_numbers():
    def rows(x: torch.Tensor) -> torch.Tensor:
        return torch.ones(torch.sym_ite(x.any().item(), x.shape[1], 2))

    artifact = maiac.compile(rows, (FLAGS,))
    assert artifact(FLAGS).shape == (3,)
    assert artifact(torch.zeros_like(FLAGS)).shape == (2,)
