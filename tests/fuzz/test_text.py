"""The text form under pressure: random modules survive it, and mutated text ends in a MaiaError or a module."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maiac.ir import MaiaError, Module, parse, print_module, verify
from maiac.ir.parser import parse_type
from tests.ir import _strategies as make
from tests.ir.test_text import EXAMPLE

from . import mutate
from .targets import attempt

RELAXED = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    max_examples=120,
)


@settings(RELAXED, max_examples=25)
@given(make.modules())
def test_modules_survive_their_text(module: Module):
    text = print_module(module)
    assert print_module(parse(text)) == text


@RELAXED
@given(make.types())
def test_types_survive_their_text(type):
    assert parse_type(str(type)) == type


@RELAXED
@given(st.text())
def test_any_text_gives_a_module_or_an_error(text: str):
    attempt(text)


TOKENS = [
    *re.findall(r"\w+|\S", EXAMPLE),
    "//",
    "-",
    "inf",
    "nan",
    "0",
    "99999999999999999999999",
    '"\\q"',
    "\x00",
    "é",
]


@pytest.mark.parametrize("seed", range(300))
def test_mutated_text_gives_a_module_or_an_error(seed: int):
    words = [t.encode() for t in TOKENS]
    attempt(mutate.tokens(EXAMPLE.encode(), words, random.Random(seed)).decode())


@pytest.mark.parametrize(
    "text",
    [
        "seq<" * 5000 + "f32[]" + ">" * 5000,
        "f32[" + "(" * 5000 + "T" + ")" * 5000 + "]",
        "f32[" + "-" * 5000 + "T]",
        "f32[" + "T//A" + "//A" * 5000 + "]",
        "f32[" + "+".join(["T"] * 5000) + "]",
        "f32[" + "*".join(["T"] * 5000) + "]",
        "f32[" + "*".join(["(T+A)"] * 90) + "]",
        "f32[" + "*".join(["9"] * 5000) + "]",
        "f32[" + "9" * 5000 + "]",
        "f32[" + "min(" * 90 + "T" + ", A)" * 90 + "]",
    ],
    ids=lambda t: t[:12],
)
def test_depth_and_size_are_limited(text: str):
    try:
        assert parse_type(str(parse_type(text))) == parse_type(text)
    except MaiaError as error:
        assert error.code == "MAIA0101"


def test_deep_regions_are_refused():
    text = "module @m { func @main() -> () { " + "fusion {} () { " * 5000 + "} " * 5000 + "} }"
    with pytest.raises(MaiaError, match="brackets stand more than 100 deep"):
        parse(text)


def test_regions_as_deep_as_allowed_work():
    depth = 90
    text = "module @m { func @main() -> () { " + "fusion {} () { " * depth + "yield {} " + "} yield {} " * (depth - 1)
    module = parse(text + "} return {} } }")
    assert print_module(parse(print_module(module))) == print_module(module)
    verify(module)
