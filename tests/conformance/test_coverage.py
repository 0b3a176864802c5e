"""The page of pass rates."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.conformance import coverage
from tests.conformance.coverage import PAGE, collect, page
from tests.conformance.suite import Case, Outcome

OUTCOMES = [
    Outcome("node", "good", "pass"),
    Outcome("node", "words", "pass", host=True),
    Outcome("node", "bad", "fail", "\nMaiaError: MAIA0225: no `a_b`\nmore"),
    Outcome("node", "later", "not run"),
    Outcome("simple", "odd", "refused", "cannot"),
    Outcome("simple", "odd too", "refused", "cannot"),
]


def test_the_page_counts_and_names():
    text = page({"onnx_backend": OUTCOMES})
    assert "| `onnx_backend` | node | 3 | 2 | 66.7% | 33.3% | 0 | 1 |" in text
    assert "| `onnx_backend` | simple | 0 | 0 | 0.0% | 0.0% | 2 | 0 |" in text
    assert "| `onnx_backend` | **all** | 3 | 2 | 66.7% | 33.3% | 2 | 1 |" in text
    assert "- node: `bad`: MaiaError: MAIA0225: no \\`a\\_b\\`\n" in text
    assert "- `odd` (simple), `odd too` (simple): cannot\n" in text
    assert "Nothing that was run fails." in page({"onnx_backend": OUTCOMES[:2]})


def test_runs_go_on_where_they_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cases = [Case("node", name, lambda: None) for name in "abc"]
    ran: list[str] = []

    def run_some(name: str, left: Iterable[Case], workers: int, limit: int, tell: Callable[[Outcome], None]) -> None:
        for case in itertools.islice(left, 2):
            ran.append(case.name)
            tell(Outcome(*case.key, "fail" if case.name == "a" else "pass"))

    monkeypatch.setattr(coverage, "SUITES", ("onnx_backend",))
    monkeypatch.setattr(coverage, "cases_of", lambda name: cases)
    monkeypatch.setattr(coverage, "run_suite", run_some)
    for seconds, statuses in (
        (0, ["not run", "not run", "not run"]),
        (60, ["fail", "pass", "not run"]),
        (60, ["fail", "pass", "pass"]),
        (60, ["fail", "pass", "pass"]),
    ):
        found = collect(tmp_path, 1, 1, seconds)
        assert [o.status for o in found["onnx_backend"]] == statuses
    assert ran == ["a", "b", "c"]


def test_the_page_is_of_the_suites_that_there_are():
    text = PAGE.read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("## ")] == [f"## `{n}`" for n in coverage.SUITES]
