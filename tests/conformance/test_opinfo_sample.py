"""A fixed sample of PyTorch's operators, all of which pass; and all of them, counted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from . import opinfo
from .opinfo import GROUPS, cases, compare
from .suite import RefusedError, percent, run_case, summary

SAMPLE = Path(__file__).with_name("opinfo_sample.txt")
LEAST_PERCENT = {"float32": 97, "bfloat16": 95, "int64": 95, "bool": 95}


def test_every_operator_of_the_sample_passes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(opinfo, "SAMPLES", 2)
    wanted = SAMPLE.read_text(encoding="utf-8").split()
    assert len(wanted) >= 60
    known = {case.name: case for case in cases() if case.group == "float32"}
    assert set(wanted) <= set(known), "the sample names operators that the installed torch does not have"
    outcomes = [run_case(known[name], limit=20) for name in wanted]
    failed = [f"{o.name}: {o.reason}" for o in outcomes if o.status != "pass"]
    assert not failed, "\n".join(failed)


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_most_operators_pass(group: str):
    outcomes = [run_case(case) for case in cases() if case.group == group]
    assert len(outcomes) >= 300
    assert percent(outcomes) >= LEAST_PERCENT[group], summary(outcomes)


def test_samples_that_fail_only_together_fail(monkeypatch: pytest.MonkeyPatch):
    def check(model: opinfo.Operator | opinfo.Together, name: str) -> None:
        if isinstance(model, opinfo.Together):
            raise fault

    monkeypatch.setattr(opinfo, "check_program", check)
    (case,) = (c for c in cases() if c.key == ("float32", "add"))
    fault = RefusedError("no")
    assert run_case(case).status == "pass"
    fault = ValueError("mixed up")
    assert run_case(case).reason == "AssertionError: only together: ValueError: mixed up"


def test_what_differs_is_seen():
    one, near, far = torch.tensor(1.0), torch.tensor(1.0 + 1e-6), torch.tensor(1.001)
    compare([near], [one], set())
    with pytest.raises(AssertionError, match="not close"):
        compare([far], [one], set())
    with pytest.raises(AssertionError, match="not equal"):
        compare([torch.tensor(3)], [torch.tensor(4)], set(), lambda: [torch.tensor(3)])
    with pytest.raises(AssertionError, match="dtype"):
        compare([one.double()], [one], set())
    with pytest.raises(AssertionError, match="2 results; eager gives 1"):
        compare([one, one], [one], set())
    with pytest.raises(AssertionError, match="result 0 is 1; eager gives True"):
        compare([1], [True], set())
    compare([far], [one], {0})
    with pytest.raises(AssertionError, match=r"eager gives torch.float32 \(2,\)"):
        compare([one], [one.expand(2)], {0})


def test_what_eager_rounds_as_much_is_near_enough():
    one, far, truth = torch.tensor(1.0), torch.tensor(1.001), torch.tensor(1.0008, dtype=torch.float64)
    compare([far], [one], set(), lambda: [truth])
    with pytest.raises(AssertionError, match="not close"):
        compare([far], [one], set(), lambda: [truth - 7.99e-4])
