"""The rewrite engine: reasons, locations, types, and rules that go round."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from maiac.ir import DType, MaiaError, Module, Op, Value, parse, print_module
from maiac.ir.dims import sym
from maiac.ir.parser import parse_type
from maiac.passes import Miss, PassFault, Rewriter, Rule, collect_misses, rule, rule_names
from maiac.passes.pattern import chain, integers, only_user, producer, splat, with_operand
from maiac.passes.refine import refine, solve_types
from maiac.passes.rewrite import rewrite
from maiac.passes.rules.arithmetic import lossless

TEXT = """
module @m {
  sym n in 0..inf
  func @main(%x: f32[4]) -> f32[4] {
    %0 = exp %x : f32[4] at "net.exp" "net.py":7
    %1 = sin %0 : f32[4] at "net.sin"
    return %1
  }
}
"""


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> list[Rule]:
    """A table whose rules are forgotten after the test."""
    monkeypatch.setattr("maiac.passes.rewrite._NAMES", dict(rule_names()))
    return []


def names(module: Module) -> list[str]:
    return [op.name for op in module.main.body]


def test_a_new_op_carries_the_roots_place(table):
    @rule("exp", table=table)
    def exp_by_base_two(op: Op, b: Rewriter) -> Value:
        return b.emit("exp2", b.emit("mul", op.operand(0), b.constant(1.44, DType.F32)))

    module = parse(TEXT)
    assert rewrite(module, table)
    assert names(module) == ["constant", "mul", "exp2", "sin", "return"]
    assert all(str(op.loc) == "net.exp (net.py:7)" for op in list(module.main.body)[:3])
    assert not rewrite(module, table)


def test_a_miss_takes_back_what_was_built_and_is_kept_once(table):
    @rule("exp", "sin", table=table)
    def never(op: Op, b: Rewriter) -> Miss:
        b.emit("nonzero", b.emit("neg", op.operand(0)))
        return Miss("it is never right", op.operand(0))

    module = parse(TEXT)
    before = print_module(module)
    with collect_misses("never") as misses:
        assert not rewrite(module, table)
        assert not rewrite(module, table)
    assert print_module(module) == before
    assert [str(m) for m in misses] == [
        "never at exp, net.exp (net.py:7): it is never right (%x: f32[4])",
        "never at sin, net.sin: it is never right (%?: f32[4])",
    ]


def test_misses_of_other_rules_are_not_collected(table):
    @rule("exp", table=table)
    def one_that_misses(op: Op, b: Rewriter) -> Miss:
        return Miss("no")

    with collect_misses("add_zero") as misses:
        rewrite(parse(TEXT), table)
    assert misses == []


def test_an_unknown_rule_gets_a_suggestion():
    with pytest.raises(MaiaError) as caught, collect_misses("ad_zero"):
        pass
    assert caught.value.code == "MAIA0306"
    assert "add_zero" in caught.value.hint


def test_rules_that_go_round_are_named(table):
    @rule("exp", table=table)
    def there(op: Op, b: Rewriter) -> Value:
        return b.emit("tan", op.operand(0))

    @rule("tan", table=table)
    def and_back(op: Op, b: Rewriter) -> Value:
        return b.emit("exp", op.operand(0))

    with pytest.raises(PassFault, match=r"the rules that go round: (there, and_back|and_back, there)") as caught:
        rewrite(parse(TEXT), table)
    assert caught.value.code == "MAIA0302"


def test_a_value_of_another_type_is_refused(table):
    @rule("exp", table=table)
    def widens(op: Op, b: Rewriter) -> Value:
        return b.emit("cast", op.operand(0), to=DType.F64)

    with pytest.raises(PassFault, match=r"the rule widens gives f64\[4\] for f32\[4\]"):
        rewrite(parse(TEXT), table)


def test_a_size_that_the_caller_chooses_is_not_set(table):
    @rule("exp", table=table)
    def narrows(op: Op, b: Rewriter) -> Value:
        b.solve("T", 4)
        return op.operand(0)

    module = parse("module @m { sym T in 1..8 func @main(%x: f32[T]) -> f32[T] { %0 = exp %x : f32[T] return %0 } }")
    with pytest.raises(PassFault, match="sets T = 4, which the caller chooses"):
        rewrite(module, table)


def test_two_rules_of_one_name_are_refused(table):
    with pytest.raises(AssertionError, match="two rules are called add_zero"):

        @rule("add", table=table)
        def add_zero(op: Op, b: Rewriter) -> None: ...


def test_every_rule_says_what_it_does():
    assert all(doc for doc in rule_names().values())


# **** patterns ****


def values(text: str) -> Mapping[str, Value]:
    module = parse(f"module @m {{ func @main(%x: f32[4], %i: i64[2]) -> () {{ {text} return }} }}")
    return {r.name: r for op in module.main.body for r in op.results} | {a.name: a for a in module.main.args}


def test_splat_looks_through_moves():
    v = values("""
        %a = constant {value = 2.0, dtype = f32, shape = [2, 2]} : f32[2, 2]
        %b = transpose %a {perm = [1, 0]} : f32[2, 2]
        %c = expand %b {shape = [3, 2, 2]} : f32[3, 2, 2]
        %d = constant {value = [1, 1], dtype = i64, shape = [2]} : i64[2]
        %e = constant {value = [1, 2], dtype = i64, shape = [2]} : i64[2]
        %f = constant {value = [0.0, -0.0], dtype = f32, shape = [2]} : f32[2]
    """)
    assert [splat(v[n]) for n in "acdefx"] == [2.0, 2.0, 1, None, None, None]
    assert integers(v["e"]) == (1, 2) and integers(v["a"]) is None and integers(v["x"]) is None


def test_chains_and_operands():
    v = values("""
        %a = exp %x : f32[4]
        %b = neg %a : f32[4]
        %c = add %b, %x : f32[4]
        %d = sub %b, %x : f32[4]
    """)
    found = chain(v["b"], "neg", "exp")
    assert found is not None and [op.name for op in found] == ["neg", "exp"]
    assert chain(v["b"], "neg", "sin") is None
    assert producer(v["x"], "exp") is None
    assert with_operand(v["c"].op, lambda y: y is v["b"]) is v["x"]  # pyright: ignore[reportAttributeAccessIssue]
    assert with_operand(v["d"].op, lambda y: y is v["b"]) is None  # pyright: ignore[reportAttributeAccessIssue]
    assert only_user(v["a"]) is not None and only_user(v["b"]) is None


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (DType.BF16, DType.F32, True),
        (DType.F16, DType.BF16, False),
        (DType.F32, DType.BF16, False),
        (DType.I32, DType.F32, False),
        (DType.I16, DType.F32, True),
        (DType.I32, DType.F64, True),
        (DType.U8, DType.I16, True),
        (DType.I8, DType.U16, False),
        (DType.U64, DType.I64, False),
        (DType.BOOL, DType.BF16, True),
        (DType.BOOL, DType.E8M0, False),
        (DType.F64, DType.F64, True),
    ],
)
def test_lossless_casts(a: DType, b: DType, expected: bool):
    assert lossless(a, b) is expected


# **** symbols that turn out to be known ****


@pytest.mark.parametrize(
    ("general", "special", "expected"),
    [
        ("f32[n, 4]", "f32[3, 4]", {"n": 3}),
        ("f32[n, n]", "f32[3, 4]", None),
        ("f32[2*n]", "f32[6]", None),
        ("f32[n]", "f32[n+1]", None),
        ("f32[n]", "f64[3]", None),
        ("f32[n]", "f32[3, 1]", None),
        ("seq<f32[n]>", "seq<f32[3]>", {"n": 3}),
        ("opt<f32[n]>", "opt<f32[3]>", {"n": 3}),
        ("opt<f32[n]>", "seq<f32[3]>", None),
        ("dim<n>", "dim<3>", {"n": 3}),
    ],
)
def test_types_are_solved_for_symbols(general: str, special: str, expected):
    assert solve_types(parse_type(general), parse_type(special)) == expected


def test_refining_refuses_what_the_caller_chooses():
    module = parse("module @m { sym T in 1..8 func @main(%x: f32[T]) -> f32[T] { return %x } }")
    with pytest.raises(AssertionError, match="a caller chooses"):
        refine(module, {"T": 4})


def test_refining_follows_into_regions_attributes_and_calls():
    module = parse("""
        module @m {
          sym n in 0..inf
          func @main(%i: i64[1], %c: bool[]) -> f32[n] {
            bind %i {to = [n]}
            %0 = if %c : f32[n] () {
              %1 = full {value = 1.0, dtype = f32, shape = [n]} : f32[n]
              yield %1
            } () {
              %2 = full {value = 2.0, dtype = f32, shape = [n]} : f32[n]
              yield %2
            }
            return %0
          }
        }
    """)
    bind = module.main.body.first
    assert bind is not None
    bind.erase()
    refine(module, {"n": sym("k") + 1})
    assert "n]" not in print_module(module).replace("k+1", "") and "sym n" not in print_module(module)
