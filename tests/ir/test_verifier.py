"""Every rule of the verifier fires, names the op, and shows the IR around it."""

from __future__ import annotations

from pathlib import Path

import pytest

from maiac.ir import Block, DType, Location, MaiaError, Module, Op, Symbol, TensorType, Weight, parse, tensor, verify
from maiac.ir.dims import sym
from maiac.ir.graph import Function, Ref
from maiac.ir.types import Type


def faults(module: Module) -> str:
    with pytest.raises(MaiaError) as caught:
        verify(module)
    assert caught.value.code == "MAIA0106"
    return "\n".join(caught.value.details)


def main(ops: str, params: str = "%x: f32[4]", result: str = "f32[4]", head: str = "", more: str = "") -> Module:
    return parse(f"module @m {{ {head} {more} func @main({params}) -> {result} {{ {ops} }} }}")


@pytest.mark.parametrize(
    ("ops", "message"),
    [
        ("%y = relu %x : f32[5] return %x", "relu: has type f32[5], but its operands give f32[4]"),
        ("%y = relu %x : bf16[4] return %x", "relu: has type bf16[4], but its operands give f32[4]"),
        ("%y, %z = relu %x : (f32[4], f32[4]) return %x", "has type (f32[4], f32[4]), but its operands give f32[4]"),
        ("%y = frobnicate %x : f32[4] return %x", "there is no operation 'frobnicate'"),
        ("%y = relu : f32[4] return %x", "operand x is missing; signature: x:real[*b] -> y[*b]"),
        ("%y = relu %x, %x : f32[4] return %x", "takes at most 1 operands, but 2 are given"),
        ("%y = concat %x, _, %x {dim = 0} : f32[8] return %x", "operand 1 of xs is missing"),
        ("%y = relu %x {a = 1} : f32[4] return %x", "relu has no attribute 'a'"),
        ("%y = softmax %x {dim = 0.5} : f32[4] return %x", "softmax: dim = 0.5 is not int"),
        ("%y = cast %x : f32[4] return %x", "cast needs the attribute 'to'"),
        ("%y = cast %x {to = 3} : f32[4] return %x", "cast: to = 3 is not dtype"),
        ("%y = logical_not %x : bool[4] %z = relu %y : bool[4] return %x", "x is bool[4]; expected dtype real"),
        ("return %x yield %x", "return must be the last op of its block"),
        ("%y = relu %x : f32[4]", "a block must end with return"),
        ("return %x, %x", "returns (f32[4], f32[4]), but declares f32[4]"),
        ("return _", "returns (), but declares f32[4]"),
        ("%y = relu %x : f32[T] return %x", "the symbol T is not declared"),
        ("%y = relu %x : f32[4/tp] return %x", "the mesh has no axis tp"),
        ("%y = relu %x : token<i8>[] return %x", "token<i8>[] has too few dims for its scales"),
        ("%y = relu %x : f32[-1] return %x", "f32[-1] has a negative dim"),
        ("%y = relu %x () { yield {} } : f32[4] return %x", None),
    ],
)
def test_faults_of_ops(ops: str, message: str | None):
    if message is None:
        with pytest.raises(MaiaError, match="MAIA0101"):
            main(ops)
        return
    assert message in faults(main(ops))


@pytest.mark.parametrize(
    ("ops", "message"),
    [
        ("%y = if %c : f32[4] () { yield %x } return %y", "if has 1 regions; expected 2"),
        ("%y = relu %x : f32[4] () { yield {} } return %y", "relu has 1 regions; expected 0"),
        ("%y = if %c : f32[4] () { yield %x } () { } return %y", "a region must end with yield"),
        ("%y = if %c : f32[4] () { yield %x } () { return %x } return %y", "a block must end with yield"),
        ("%y = if %c : f32[4] () { yield %x } () { yield %c } return %y", "the branches yield f32[4] and bool[]"),
        ("%y = if %c : f32[4] () { yield %x } () { yield {} } return %y", "the branches yield 1 and 0 values"),
        ("%y = if %x : f32[4] () { yield %x } () { yield %x } return %y", "c is f32[4]; expected dtype bool"),
        (
            "%y = while %x : f32[4] (%a: f32[4]) { yield %a } (%b: f32[4]) { yield %b } return %y",
            "yields f32[4]; expected",
        ),
        ("%y = while %x : f32[4] () { yield %c } (%b: f32[4]) { yield %b } return %y", "the region takes (); expected"),
        (
            "%y = while %x : f32[4] (%a: f32[4]) { yield %c } (%b: bool[]) { yield %x } return %y",
            "the region takes bool[]",
        ),
        ("%y = fusion %x : f32[4] () { yield %x } return %y", "the region takes ()"),
    ],
)
def test_faults_of_regions(ops: str, message: str):
    assert message in faults(main(ops, "%x: f32[4], %c: bool[]"))


SHARDED = "mesh <tp = 2, dp>"


@pytest.mark.parametrize(
    ("ops", "params", "message"),
    [
        ("%y = relu %x : f32[4/tp] return %y", "%x: f32[4/tp]", None),
        ("return %x", "%x: f32[4]+tp", "the parameter %x: f32[4]+tp cannot owe a sum: main is called from outside"),
        ("%y = relu %x : f32[4/tp.tp] return %y", "%x: f32[4/tp]", "names one mesh axis twice"),
        ("return %x", "%x: f32[5/tp]", "f32[5/tp] cannot be cut: tp has 2 ranks, which do not divide 5"),
        (
            "%y = add %x, %z : f32[4/tp] return %y",
            "%x: f32[4/tp], %z: f32[4]",
            "is split by tp elsewhere and by nothing",
        ),
        ("%y = softmax %x : f32[4/tp] return %y", "%x: f32[4/tp]", "softmax: dim -1 must be whole"),
        ("%y = all_reduce %x {over = tp} : f32[4] return %y", "%x: f32[4]", "which owes no sum over tp"),
        ("%y = all_reduce %x {over = xp} : f32[4] return %y", "%x: f32[4]", "which owes no sum over xp"),
        ("%y = broadcast %x {along = xp, source = 0} : f32[4] return %y", "%x: f32[4]", "the mesh has no axis xp"),
        ("%y = sum %x : f32[]+tp return %y", "%x: f32[4/tp]", "the result f32[]+tp still owes a sum"),
        (
            "%y = sum %x : f32[]+tp %z = relu %y : f32[]+tp return %z",
            "%x: f32[4/tp]",
            "relu: x still owes a sum over tp",
        ),
    ],
)
def test_faults_of_shardings(ops: str, params: str, message: str | None):
    result = "f32[]+tp" if "sum %x" in ops else "f32[4/tp]" if "4/tp]" in params else "f32[4]"
    if message is None:
        verify(main(ops, params, result, SHARDED))
    else:
        assert message in faults(main(ops, params, result, SHARDED))


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("mesh <tp = 0>", "the mesh axis tp has 0 ranks"),
        ("sym T in 5..4", "`sym T in 5..4` admits no number"),
        ("sym T in 0..4 step 0", "`sym T in 0..4 step 0` admits no number"),
        ("weight @w : f32[U]", "@w: the symbol U is not declared"),
        ("sym T in 1..4 weight @w : f32[T]", "@w: a weight's dims are numbers, but its type is f32[T]"),
        ("mesh <tp> weight @w : f32[4]+tp", "@w: a weight cannot owe a sum: f32[4]+tp"),
        ("mesh <tp> state @s : f32[4]+tp", "@s: a state cannot owe a sum: f32[4]+tp"),
        ("weight @w : channel<i8, 2>[4, 4]", "@w: channel<i8, 2>[4, 4] has too few dims for its scales"),
    ],
)
def test_faults_of_globals(head: str, message: str):
    assert message in faults(main("return %x", head=head))


def test_a_state_may_have_symbolic_dims():
    verify(main("return %x", head="sym B in 1..4 state @s : f32[B]"))


STATE = "state @s : f32[4] weight @w : f32[4]"


def test_only_states_are_written():
    verify(main("write @s, %x return %x", head=STATE))
    assert "write: writes what is not a state" in faults(main("write @w, %x return %x", head=STATE))
    assert "write: writes what is not a state" in faults(main("write %x, %x return %x", head=STATE))
    assert "the state is f32[4], but the new contents are f32[]" in faults(
        main("%y = sum %x : f32[] write @s, %y return %x", head=STATE)
    )


def test_functions_write_the_states_that_calls_pass():
    inner = "func @set(%s: f32[4], %x: f32[4]) -> () { write %s, %x return {} }"
    outer = "func @twice(%s: f32[4], %x: f32[4]) -> () { call %s, %x {callee = @set} return {} }"
    for callee in ("set", "twice"):
        verify(main(f"call @s, %x {{callee = @{callee}}} return %x", head=STATE, more=inner + outer))
        found = faults(main(f"call @w, %x {{callee = @{callee}}} return %x", head=STATE, more=inner + outer))
        assert "call: writes what is not a state" in found
    assert "call: writes what is not a state" in faults(
        main("call %x, %x {callee = @set} return %x", head=STATE, more=inner)
    )


CALLEE = "func @f(%a: f32[4]) -> f32[4] { return %a }"


@pytest.mark.parametrize(
    ("ops", "message"),
    [
        ("%y = call %x {callee = @f} : f32[4] return %y", None),
        ("%y = call %x {callee = @g} : f32[4] return %y", "there is no function @g"),
        ("%y = call %x {callee = f} : f32[4] return %y", "there is no function f"),
        ("%y = call {callee = @f} : f32[4] return %y", "passes (), but @f takes f32[4]"),
        ("%y = call _ {callee = @f} : f32[4] return %y", "passes (), but @f takes f32[4]"),
        ("%y = call %x {callee = @f} : f32[5] return %x", "call: @f gives f32[4]"),
    ],
)
def test_faults_of_calls(ops: str, message: str | None):
    if message is None:
        verify(main(ops, more=CALLEE))
    else:
        assert message in faults(main(ops, more=CALLEE))


def test_functions_do_not_call_each_other_in_a_circle():
    f = "func @f(%a: f32[4]) -> f32[4] { %y = call %a {callee = @g} : f32[4] return %y }"
    g = "func @g(%a: f32[4]) -> f32[4] { %y = call %a {callee = @f} : f32[4] return %y }"
    module = main("%y = call %x {callee = @f} : f32[4] return %y", more=f + g)
    assert "functions call each other in a circle: @f -> @g -> @f" in faults(module)
    itself = "%y = call %x {callee = @main} : f32[4] return %y"
    assert "functions call each other in a circle: @main -> @main" in faults(main(itself))


SYMBOLS = "sym T in 1..8 sym U in 1..8"


@pytest.mark.parametrize(
    ("ops", "params", "message"),
    [
        ("%y = expand %x {shape = [T, 4]} : f32[T, 4] return %x", "%x: f32[4], %t: i64[T]", None),
        (
            "%y = expand %x {shape = [T, 4]} : f32[T, 4] return %x",
            "%x: f32[4]",
            "uses the symbol T, which nothing has bound",
        ),
        ("%y = expand %x {shape = [V, 4]} : f32[4, 4] return %x", "%x: f32[4]", "shape = ('V', 4) is not list of int"),
        ("%y = dim {value = V+1} : dim<1> return %x", "%x: f32[4]", "the symbol V is not declared"),
        ("bind %n {to = [T]} %y = expand %x {shape = [T, 4]} : f32[T, 4] return %x", "%x: f32[4], %n: i64[]", None),
        ("bind %n {to = [V+0*T, 4]} return %x", "%x: f32[4], %n: i64[2]", "to names symbols only"),
        ("bind %n {to = [T, U]} return %x", "%x: f32[4], %n: i64[]", "expected 2 integers"),
        ("%i = nonzero %x : i64[T, 1] %d = dim {value = T} : dim<T> return %x", "%x: f32[4]", None),
        (
            "%y = if %c : f32[4] () { bind %n {to = [T]} yield %x } () { yield %x } "
            "%d = dim {value = T} : dim<T> return %x",
            "%x: f32[4], %n: i64[], %c: bool[]",
            "uses the symbol T, which nothing has bound yet",
        ),
    ],
)
def test_symbols_are_bound_before_they_are_read(ops: str, params: str, message: str | None):
    if message is None:
        verify(main(ops, params, head=SYMBOLS))
    else:
        assert message in faults(main(ops, params, head=SYMBOLS))


def test_callers_bind_what_their_callees_read():
    f = "func @f(%a: f32[4]) -> f32[T, 4] { %y = expand %a {shape = [T, 4]} : f32[T, 4] return %y }"
    ops = "%y = call %x {callee = @f} : f32[T, 4] return %x"
    verify(main(ops, "%x: f32[4], %t: i64[T]", head=SYMBOLS, more=f))
    assert "@f uses the symbol T, which nothing has bound yet" in faults(main(ops, head=SYMBOLS, more=f))


def test_a_function_that_makes_dims_is_called_once():
    f = "func @f(%a: f32[4]) -> i64[T, 1] { %y = nonzero %a : i64[T, 1] return %y }"
    once = "%y = call %x {callee = @f} : i64[T, 1]"
    verify(main(f"{once} return %x", head=SYMBOLS, more=f))
    twice = f"{once} {once.replace('%y', '%z')} return %x"
    assert "@f binds T and returns it in a type, so it may be called only once" in faults(
        main(twice, head=SYMBOLS, more=f)
    )


def test_a_stage_lies_on_an_axis():
    text = "module @m {{ mesh <{axis}> func @main(%x: f32[4]) -> f32[4] on pp = 0 {{ return %x }} }}"
    verify(parse(text.format(axis="pp")))
    assert "the mesh has no axis pp" in faults(parse(text.format(axis="tp")))


# **** what text cannot say, but a pass can do wrong ****


def simple() -> tuple[Module, Op]:
    module = main("%y = relu %x : f32[4] return %y")
    op = module.main.body.first
    assert op is not None
    return module, op


def test_an_operand_from_elsewhere():
    module, op = simple()
    other, foreign = simple()
    op.set_operand(0, foreign.result)
    assert "an operand is used before it is defined, or outside the region that defines it" in faults(module)
    verify(other)


def test_a_global_from_elsewhere():
    module, op = simple()
    op.set_operand(0, Weight("w", tensor(DType.F32, 4)))
    assert "@w is not a global of this module" in faults(module)


def test_uses_that_are_not_kept():
    module, _ = simple()
    module.main.args[0].uses.clear()
    assert "an operand does not list this op as its user" in faults(module)


def test_blocks_that_do_not_know_their_place():
    module, op = simple()
    op.block = None
    assert "the op does not know its block" in faults(module)
    module = main("%y = fusion : f32[4] () { yield %x } return %y")
    op = module.main.body.first
    assert op is not None
    op.regions[0].parent = None
    assert "a region does not know the op that holds it" in faults(module)


def test_an_empty_block():
    module = Module("m")
    module.add_function(Function("main"))
    assert "@main: a block must end with return" in faults(module)


def test_tables_and_names_agree():
    module = main("return %x", head="sym T in 1..2 weight @w : f32[4]")
    module.weights["v"] = module.weights["w"]
    module.symbols["U"] = module.symbols["T"]
    module.symbols["a b"] = Symbol("a b")
    module.symbols["f32"] = Symbol("f32")
    module.mesh["t p"] = None
    module.functions["f"] = module.main
    module.states["w"] = module.add_state("s", tensor(DType.F32, 4))
    found = faults(module)
    for message in (
        "@v: the module lists the weight 'w' under this name",
        "@w: the module lists the state 's' under this name",
        "the module lists the symbol T as U",
        "the symbol 'a b' is not made of letters, digits and underscores",
        "the symbol f32 has a reserved name",
        "the mesh axis 't p' is not made of letters, digits and underscores",
        "the module lists the function 'main' as 'f'",
        "@w is both a weight and a state",
    ):
        assert message in found


def test_attributes_that_text_cannot_carry():
    module, op = simple()
    op.attrs |= {"a b": 1, "c": (1, {2})}  # type: ignore[dict-item]
    module.attrs["d"] = b""  # type: ignore[assignment]
    module.main.attrs["e"] = [1]  # type: ignore[assignment]
    found = faults(module)
    assert "the attribute 'a b' is not made of letters" in found
    assert "the attribute c = (1, {2}) is of tuple, which no attribute can be" in found
    assert "the attribute d = b'' is of bytes, which no attribute can be" in found
    assert "the attribute e = [1] is of list, which no attribute can be" in found


class Contents:
    """Weights' contents that know their type."""

    def __init__(self, type: TensorType) -> None:
        self.type = type

    def load(self) -> None:
        """Never called."""

    def load_slice(self, slices: object) -> None:
        """Never called."""

    def misfit(self, type: Type) -> str:
        return "" if type == self.type else str(self.type)


def test_contents_are_of_the_weight_s_type():
    module, _ = simple()
    module.add_weight("w", tensor(DType.F32, 4), Contents(tensor(DType.F32, 4)))
    verify(module)
    module.weights["w"].type = tensor(DType.F32, 5)
    assert "@w: the contents are f32[4], but the type is f32[5]" in faults(module)


# **** messages ****


def test_all_faults_are_shown_with_the_ir_around_them():
    ops = "%a = relu %x : f32[4] %b = relu %a : f32[5] %c = relu %x : f32[4] %d = relu %c : f32[6] %e = neg %c : f32[4]"
    module = main(f"{ops} return %c")
    with pytest.raises(MaiaError) as caught:
        verify(module)
    assert caught.value.message == "module @m has 2 faults"
    assert caught.value.details[0].splitlines() == [
        "@main: relu: has type f32[5], but its operands give f32[4]",
        "      %a = relu %x : f32[4]",
        "    > %b = relu %a : f32[5]",
        "      %c = relu %x : f32[4]",
        "      %d = relu %c : f32[6]",
    ]


def test_the_source_line_is_shown(tmp_path: Path):
    source = tmp_path / "model.py"
    source.write_text("def forward(self, x):\n    return self.act(x)\n")
    module, op = simple()
    op.loc = Location("act", str(source), 2)
    op.result.type = tensor(DType.F32, 5)
    found = faults(module)
    assert f"relu at act ({source}:2): has type f32[5]" in found
    assert f"    {source}:2: return self.act(x)" in found


def test_unknown_dims_match_any():
    verify(main("%i = nonzero %x : i64[T, 1] return %x", head="sym T in 0..4"))
    verify(main("%i = nonzero %x : i64[3, 1] return %x"))
    assert "its operands give i64[?0, 1]" in faults(main("%i = nonzero %x : i64[3, 2] return %x"))


def test_a_region_only_sees_what_stands_before_it():
    module = main(
        "%y = if %c : f32[4] () { %z = relu %x : f32[4] yield %z } () { yield %x } return %y", "%x: f32[4], %c: bool[]"
    )
    branch = module.main.body.first
    assert branch is not None
    inner = branch.regions[0].first
    assert inner is not None
    branch.regions[1].terminator.set_operand(0, inner.result)
    assert "outside the region that defines it" in faults(module)


def test_an_op_built_by_hand_needs_its_callee():
    module, op = simple()
    module.main.body.insert(Op("call", [], {"callee": Ref("f")}), op)
    assert "there is no function @f" in faults(module)
    assert sym("T") not in (Block().args, ())
