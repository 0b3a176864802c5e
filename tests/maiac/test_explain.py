"""The catalogue of errors and its pages."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from maiac.explain import AREAS, area_of, find, markdown
from maiac.ir.catalogue import CATALOGUE
from maiac.ir.errors import MaiaError

ROOT = Path(__file__).parents[2]


def test_the_page_in_docs_is_current():
    page = ROOT / "docs" / "errors.md"
    assert page.read_text(encoding="utf-8") == markdown(), "python -m maiac.explain > docs/errors.md"


def test_every_number_has_an_area_and_a_full_page():
    for code, entry in CATALOGUE.items():
        assert re.fullmatch(r"MAIA\d{4}", code) and area_of(code) in AREAS
        assert entry.title[0].islower() or entry.title.startswith(("ONNX", "PyTorch", "Hugging")), entry.title
        assert entry.cause.endswith((".", ")")) and entry.fix.endswith((".", ")", "`")), code


def numbers_in(*folders: str) -> set[str]:
    """Every error number that stands in the code of folders as a value: docstrings and comments do not count."""
    found: set[str] = set()
    for file in (f for folder in folders for f in (ROOT / folder).rglob("*.py") if f.name != "catalogue.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        prose = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
        texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in prose]
        found |= {code for text in texts if isinstance(text, str) for code in re.findall(r"MAIA\d{4}", text)}
    return found


def test_every_number_is_raised_and_every_number_raised_is_catalogued():
    raised = numbers_in("ir", "passes", "runtime", "maiac")
    assert raised == set(CATALOGUE), raised ^ set(CATALOGUE)


def test_every_number_has_a_test_that_expects_it():
    missing = set(CATALOGUE) - numbers_in("tests")
    assert not missing, missing


@pytest.mark.parametrize("text", ["", "MAIA", "MAIA99999", "x404"])
def test_numbers_that_are_none(text: str):
    with pytest.raises(MaiaError, match="MAIA0708"):
        find(text)
