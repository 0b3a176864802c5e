"""A fixed sample of the ONNX project's backend tests, all of which pass; and the whole suite, counted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from maiac.ir import MaiaError

from .onnx_backend import KINDS, Outcome, load_cases, run_case, summary

# One case in thirteen of each kind, and beyond those one of each operator family that has its own handler.
SAMPLE = Path(__file__).with_name("onnx_backend_sample.txt")
LEAST_PERCENT = 99.6


@pytest.fixture(scope="module")
def cases() -> Mapping[str, tuple[str, Any]]:
    wanted = SAMPLE.read_text(encoding="utf-8").split()
    pattern = "^(" + "|".join(map(re.escape, wanted)) + ")$"
    return {case.name: (kind, case) for kind, case in load_cases(pattern)}


def test_every_case_of_the_sample_passes(cases: Mapping[str, tuple[str, Any]]):
    wanted = SAMPLE.read_text(encoding="utf-8").split()
    assert len(wanted) >= 150
    assert set(wanted) == set(cases), "the sample names cases that the installed onnx does not have"
    failed = [f"{o.name}: {o.reason}" for o in (run_case(*cases[name], limit=20) for name in wanted) if o.reason]
    assert not failed, "\n".join(failed)


@pytest.mark.slow
def test_most_of_the_suite_passes():
    outcomes = [run_case(kind, case, limit=60) for kind, case in load_cases()]
    good = sum(not o.reason for o in outcomes)
    assert {o.kind for o in outcomes} == set(KINDS)
    assert good >= LEAST_PERCENT / 100 * len(outcomes), summary(outcomes)


def test_the_summary_counts_by_kind():
    text = summary([Outcome("node", "a", "", 0.1), Outcome("node", "b", "no", 0.1), Outcome("simple", "c", "", 0.1)])
    assert [line.split() for line in text.splitlines()] == [
        ["node", "1", "of", "2"],
        ["simple", "1", "of", "1"],
        ["all", "2", "of", "3", "(66.7%)"],
    ]


def test_a_case_that_fails_says_why(cases: Mapping[str, tuple[str, Any]], monkeypatch: pytest.MonkeyPatch):
    def refuse(model: Any) -> None:
        raise MaiaError("MAIA0225", "no")

    monkeypatch.setattr("maiac.onnx_backend.prepare", refuse)
    outcome = run_case(*next(iter(cases.values())), limit=20)
    assert outcome.reason.startswith("MaiaError: MAIA0225: no")


def test_a_case_that_takes_too_long_is_stopped(cases: Mapping[str, tuple[str, Any]], monkeypatch: pytest.MonkeyPatch):
    def hang(model: Any) -> None:
        while True:
            pass

    monkeypatch.setattr("maiac.onnx_backend.prepare", hang)
    assert run_case(*next(iter(cases.values())), limit=1).reason == "took longer than 1 s"
