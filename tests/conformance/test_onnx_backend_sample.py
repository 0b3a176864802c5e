"""A fixed sample of the ONNX project's backend tests, all of which pass; and the whole suite, counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from maiac.ir import MaiaError

from .onnx_backend import cases
from .suite import Case, run_case, summary

# One case in thirteen of each kind, and beyond those one of each operator family that has its own handler.
SAMPLE = Path(__file__).with_name("onnx_backend_sample.txt")
LEAST_CASES = 2014
LEAST_NATIVE_PERCENT = 95


@pytest.fixture(scope="module")
def sample() -> dict[str, Case]:
    wanted = set(SAMPLE.read_text(encoding="utf-8").split())
    return {case.name: case for case in cases() if case.name in wanted}


def test_every_case_of_the_sample_passes(sample: dict[str, Case]):
    wanted = SAMPLE.read_text(encoding="utf-8").split()
    assert len(wanted) >= 150
    assert set(wanted) == set(sample), "the sample names cases that the installed onnx does not have"
    outcomes = [run_case(sample[name], limit=20) for name in wanted]
    failed = [f"{o.name}: {o.reason}" for o in outcomes if o.status != "pass"]
    assert not failed, "\n".join(failed)


@pytest.mark.slow
def test_most_of_the_suite_passes():
    outcomes = [run_case(case) for case in cases()]
    good = [o for o in outcomes if o.status == "pass"]
    assert {o.group for o in outcomes} == {"node", "pytorch-converted", "pytorch-operator", "simple"}
    assert len(good) >= LEAST_CASES, summary(outcomes)
    assert sum(not o.host for o in good) >= LEAST_NATIVE_PERCENT / 100 * len(outcomes), summary(outcomes)


def test_a_case_that_fails_says_why(sample: dict[str, Case], monkeypatch: pytest.MonkeyPatch):
    def refuse(model: Any) -> None:
        raise MaiaError("MAIA0225", "no")

    monkeypatch.setattr("maiac.onnx_backend.prepare", refuse)
    outcome = run_case(sample["test_abs"], limit=20)
    assert outcome.reason.startswith("MaiaError: MAIA0225: no")
