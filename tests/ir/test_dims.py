"""Dims: canonical, exact, printable as Python, and true to the integers that they stand for."""

from __future__ import annotations

import math
import pickle
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maiac.ir.dims import (
    Dim,
    DimLike,
    Symbol,
    bounds,
    ceildiv,
    depth,
    evaluate,
    floordiv,
    maximum,
    minimum,
    mod,
    product,
    simplify,
    solve,
    substitute,
    sym,
    symbols_of,
)
from maiac.ir.parser import parse_type
from maiac.ir.types import DimType

from . import _strategies as make

T, B = sym("T"), sym("B")
ENV = st.fixed_dictionaries({name: st.integers(1, 50) for name in make.SYMBOLS})


def python(dim: DimLike, env: dict[str, int]) -> int:
    """The dim's text as Python computes it, in which ``in`` is no name."""
    text = re.sub(r"\bin\b", "inside", str(dim))
    return eval(text, {"min": min, "max": max}, {**env, "inside": env["in"]})


@settings(deadline=None)
@given(make.dims(), ENV)
def test_the_text_is_the_value(dim: DimLike, env: dict[str, int]):
    try:
        expected = python(dim, env)
    except ZeroDivisionError:
        return
    assert evaluate(dim, env) == expected


@settings(deadline=None)
@given(make.dims())
def test_the_text_reads_back(dim: DimLike):
    assert parse_type(f"dim<{dim}>") == DimType(dim)


@settings(deadline=None)
@given(make.dims(1), make.dims(1), make.dims(1), ENV)
def test_arithmetic_is_that_of_integers(a: DimLike, b: DimLike, c: DimLike, env: dict[str, int]):
    assert (a + b) * c == a * c + b * c
    assert a + b - b == a
    assert a - a == 0
    assert hash(a + b) == hash(b + a)
    x, y = evaluate(a, env), evaluate(b, env)
    assert evaluate(minimum(a, b), env) == min(x, y)
    assert evaluate(maximum(a, b), env) == max(x, y)
    if b != 0 and y:
        assert evaluate(floordiv(a, b), env) == x // y
        assert evaluate(mod(a, b), env) == x % y


@settings(deadline=None)
@given(make.dims(), ENV)
def test_bounds_hold(dim: DimLike, env: dict[str, int]):
    symbols = {name: Symbol(name, 1, 50) for name in make.SYMBOLS}
    low, high = bounds(dim, symbols)
    try:
        value = evaluate(dim, env)
    except ZeroDivisionError:
        return
    assert low <= value <= high


@pytest.mark.parametrize(
    ("dim", "text"),
    [
        (T + 1 + T, "2*T+1"),
        (T * B * 2 - 3, "2*B*T-3"),
        ((T * 4) // 2, "2*T"),
        ((4 * T + 3) // 2, "2*T+1"),
        ((T - 1) // 2 + 1, "(T-1)//2+1"),
        (((T - 1) // 2 + 1 - 1) // 2 + 1, "(T-1)//4+1"),
        ((T // 2) // 3, "T//6"),
        (2 * (T // 2), "2*(T//2)"),
        (-(T // 2), "-(T//2)"),
        ((T * B) // B, "T"),
        ((4 * T * B + 4 * B) // (64 * B), "(T+1)//16"),
        ((4 * T + 6) // 10, "(2*T+3)//5"),
        ((T * T + T * B) // (T + B), "T"),
        (T % 4, "T%4"),
        ((4 * T + 3) % 4, "3"),
        ((T * B) % B, "0"),
        (minimum(T, T + 1), "T"),
        (maximum(T, T + 1), "T+1"),
        (minimum(T, B), "min(B, T)"),
        (ceildiv(T, 4), "(T+3)//4"),
        (product([2, T, 3]), "6*T"),
        (10 - T, "-T+10"),
        (floordiv(7, T), "7//T"),
        (mod(7, T), "7%T"),
        (7 // T, "7//T"),
        (7 % T, "7%T"),
    ],
)
def test_canonical_forms(dim: DimLike, text: str):
    assert str(dim) == text


def test_constants_are_integers():
    assert type(T - T + 4) is int
    assert type((T * 6) // T) is int


@pytest.mark.parametrize("fn", [floordiv, mod])
def test_division_by_zero(fn):
    for a in (4, T):
        with pytest.raises(ZeroDivisionError):
            fn(a, 0)


def test_solve_finds_the_one_unknown():
    assert solve(2 * T + 1, 9, {}) == ("T", 4)
    assert solve(2 * T + 1, 8, {}) is None
    assert solve(T * B, 12, {"B": 3}) == ("T", 4)
    assert solve(T * B, 12, {}) is None
    assert solve(T * T, 4, {}) is None
    assert solve(T // 2, 4, {}) is None
    assert solve(T, 4, {"T": 4}) is None


def test_evaluate_names_what_is_missing():
    with pytest.raises(KeyError, match="B, T"):
        evaluate(T * B, {})


def test_substitution_by_dims():
    assert substitute(T // 2 + B, {"T": 4 * B}) == 3 * B
    assert symbols_of(substitute(T % B, {"T": sym("S")})) == {"B", "S"}


def test_a_dim_has_no_truth_value():
    with pytest.raises(TypeError, match="the dim T has no truth value"):
        bool(T)


def test_bounds_of_unbounded_symbols():
    assert bounds(T, {}) == (-math.inf, math.inf)
    assert bounds(2 * T + 1, {"T": Symbol("T", 3)}) == (7, math.inf)
    assert bounds(T % 8, {"T": Symbol("T", 0, 5)}) == (0, 5)
    assert bounds(T // B, {"T": Symbol("T", 8, 9), "B": Symbol("B", 0, 2)}) == (-math.inf, math.inf)


@settings(deadline=None)
@given(make.dims(), ENV)
def test_simplifying_keeps_the_value_in_the_ranges(dim: DimLike, env: dict[str, int]):
    symbols = {name: Symbol(name, max(1, env[name] - 3), env[name] + 3) for name in make.SYMBOLS}
    simple = simplify(dim, symbols)
    assert simplify(simple, symbols) == simple
    try:
        value = evaluate(dim, env)
    except ZeroDivisionError:
        return
    assert evaluate(simple, env) == value


@pytest.mark.parametrize(
    ("dim", "simple"),
    [
        (minimum(T, 1), 1),
        (maximum(T, 0), T),
        (minimum(T, 1024), T),
        (minimum(T, 1023), minimum(T, 1023)),
        (maximum(minimum(T, 1) + 1, 2) * T, 2 * T),
        (T % 1025, T),
        (T % 1024, T % 1024),
        (T // 1025, 0),
        ((T + 1022) // 1025, (T + 1022) // 1025),
        ((T + 1023) // 2048, 0),
        (minimum(B, 1), minimum(B, 1)),
        (minimum(T * B * 2**40, T * B * 2**40 + B - 1), minimum(T * B * 2**40, T * B * 2**40 + B - 1)),
    ],
)
def test_ranges_decide(dim: DimLike, simple: DimLike):
    assert simplify(dim, {"T": Symbol("T", 2, 1024), "B": Symbol("B", 0)}) == simple


def test_simplifying_leaves_a_division_by_zero():
    nothing = minimum(T, 1) - 1
    assert str(simplify(floordiv(B, nothing), {"T": Symbol("T", 2, 9)})) == "B//0"


def test_symbols_admit_their_range_and_step():
    s = Symbol("B", 16, 64, 16)
    assert [n for n in range(100) if s.admits(n)] == [16, 32, 48, 64]
    assert str(s) == "sym B in 16..64 step 16"
    assert str(Symbol("T")) == "sym T in 0..inf"


def test_depth_counts_calls_inside_calls():
    assert [depth(d) for d in (3, T * B, T // 2, T // B % 7, minimum(T, B // 3))] == [0, 0, 1, 2, 2]


def test_dims_travel_between_processes():
    code = "import sys, pickle; from maiac.ir.dims import sym; sys.stdout.buffer.write(pickle.dumps(sym('T') // 2 + 1))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env={"PYTHONHASHSEED": "7"})
    received = pickle.loads(done.stdout)
    assert isinstance(received, Dim)
    assert received == T // 2 + 1
    assert hash(received) == hash(T // 2 + 1)
