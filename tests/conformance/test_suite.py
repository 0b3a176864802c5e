"""Outcomes, limits and workers of the conformance suites."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import suite
from tests.conformance.suite import Case, Outcome, RefusedError, percent, run_case, run_suite, select, summary


def good() -> None:
    pass


def on_the_host() -> bool:
    return True


def wrong() -> None:
    raise ValueError("1 is not 2")


def refused() -> None:
    raise RefusedError("no such thing")


def endless() -> None:
    while True:
        pass


def littering() -> None:
    Path("left-behind").touch()


def deadly() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def cases() -> Iterator[Case]:
    """Cases of every end."""
    for check in (good, deadly, on_the_host, wrong, refused):
        yield Case("a", check.__name__, check)
    yield Case("b", "good", good)


def test_one_case():
    assert run_case(Case("a", "x", good)).status == "pass"
    assert run_case(Case("a", "x", on_the_host)).host
    assert run_case(Case("a", "x", wrong)).reason == "ValueError: 1 is not 2"
    assert run_case(Case("a", "x", refused)).status == "refused"
    assert run_case(Case("a", "x", endless), limit=1).reason == "took longer than 1 s"


def test_a_worker_that_dies_takes_only_its_case_along(monkeypatch: pytest.MonkeyPatch):
    program = (
        "from tests.conformance.test_suite import cases\nfrom tests.conformance.suite import serve\nserve(cases(), 5)"
    )
    popen = subprocess.Popen
    monkeypatch.setattr(
        suite.subprocess, "Popen", lambda command, **more: popen([sys.executable, "-c", program], **more)
    )
    told: list[Outcome] = []
    outcomes = run_suite("none", list(cases()), workers=2, limit=5, tell=told.append)
    assert [(o.group, o.name) for o in outcomes] == [(c.group, c.name) for c in cases()]
    assert [o.status for o in outcomes] == ["pass", "fail", "pass", "fail", "refused", "pass"]
    assert outcomes[1].reason == "the process died with exit code -9"
    assert len(told) == len(outcomes)


def test_select():
    assert [c.name for c in select(cases(), "^go", ["b"])] == ["good"]
    assert len(list(select(cases(), "o"))) == 4


def test_the_summary_counts_by_group():
    outcomes = [
        Outcome("node", "a", "pass", host=True),
        Outcome("node", "b", "fail", "MaiaError: MAIA0225: no"),
        Outcome("simple", "c", "pass"),
        Outcome("simple", "d", "refused", "no"),
    ]
    assert percent(outcomes) == pytest.approx(200 / 3)
    assert [" ".join(line.split()) for line in summary(outcomes).splitlines()] == [
        "node 1 of 2 (50.0%) 1 on the host",
        "simple 1 of 1 (100.0%) 1 refused by the exporter",
        "all 2 of 3 (66.7%) 1 refused by the exporter, 1 on the host",
        "reasons: 1 MAIA0225",
    ]


def test_what_a_case_leaves_where_it_runs_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert run_case(Case("g", "littering", littering)).status == "pass"
    assert Path.cwd() == tmp_path
    assert not list(tmp_path.iterdir())
