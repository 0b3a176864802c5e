"""Printer and parser: what the text looks like, what it refuses and where it points."""

from __future__ import annotations

import pytest

from maiac.ir import Builder, DType, Location, MaiaError, Module, Symbol, parse, print_module, tensor, verify
from maiac.ir.dims import sym
from maiac.ir.graph import Function, Op, Ref
from maiac.ir.parser import parse_type
from maiac.ir.printer import print_function, print_op

EXAMPLE = """\
module @llama {version = 1} {
  mesh <pp = 2, tp = 4>
  sym T in 1..8192
  sym B in 1..65536 step 16
  weight @l0.attn.norm : bf16[4096]
  weight @l0.attn.qkv : channel<f8e4m3fn, 0>[6144/tp, 4096]
  weight @"l0/attn out" : bf16[4096, 4096/tp]
  state @l0.kv : bf16[B, 4096] {layout = paged, page = 16}

  func @block0(%x: bf16[T, 4096], %c: bool[]) -> bf16[T, 4096] on pp = 0 {kind = layer} at "layers.0" {
    %0 = rms_norm %x, @l0.attn.norm {eps = 1e-05} : bf16[T, 4096]
    %qkv = linear %0, @l0.attn.qkv : bf16[T, 6144/tp] at "layers.0.self_attn" "model.py":12
    %q, %k, %v = split %0 {dim = 1, parts = [4096, 0, 0]} : (bf16[T, 4096], bf16[T, 0], bf16[T, 0])
    %a = shard %q {over = tp, dim = 1} : bf16[T, 4096/tp]
    %1 = linear %a, @"l0/attn out" : bf16[T, 4096]+tp
    %2 = all_reduce %1 {over = tp} : bf16[T, 4096]
    %3 = if %c : bf16[T, 4096] () {
      yield %2
    } () {
      %y = neg %2 : bf16[T, 4096]
      yield %y
    }
    return %3
  }

  func @main(%x: bf16[T, 4096], %c: bool[]) -> (bf16[T, 4096], dim<T>) {
    %0 = call %x, %c {callee = @block0} : bf16[T, 4096]
    %1 = send_recv %0 {along = pp, source = 0, target = 1} : bf16[T, 4096]
    %2 = dim {value = T} : dim<T>
    %s = read @l0.kv : bf16[B, 4096]
    write @l0.kv, %s
    %z = full {value = -0.5, dtype = bf16, shape = [T, (2*T)//3+1, max(7, T)]} : bf16[T, (2*T)//3+1, max(7, T)]
    %w = clamp %x {min = -inf, max = 1.0} : bf16[T, 4096]
    return %1, %2
  }
}
"""


def test_the_example_is_its_own_print():
    module = parse(EXAMPLE)
    verify(module)
    assert print_module(module) == EXAMPLE


def in_main(ops: str, params: str = "%x: f32[4]", head: str = "") -> str:
    return f"module @m {{ {head} func @main({params}) -> f32[4] {{ {ops} }} }}"


def fault(text: str) -> MaiaError:
    with pytest.raises(MaiaError) as caught:
        parse(text, file="a.maia")
    return caught.value


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("", "MAIA0101", "a.maia:1:1: unexpected the end of the text"),
        ("module @m { frog }", "MAIA0101", "a.maia:1:18: unexpected '}'"),
        ("module @m {\n  func @main( -> f32[] {} }", "MAIA0101", "a.maia:2:15: unexpected '->'"),
        ("module @m $", "MAIA0101", "a.maia:1:11: unexpected '$'"),
        (in_main("return %y"), "MAIA0103", "%y is not defined before this use"),
        (in_main("%y = relu @w : f32[4] return %y"), "MAIA0103", "@w is not defined before this use"),
        (in_main("%x = relu %x : f32[4] return %x"), "MAIA0104", "the value x is defined twice"),
        (in_main("%y = relu %x return %y"), "MAIA0101", "relu has 1 results, but 0 types"),
        (in_main("return %x", head="sym T in 1..2 sym T in 1..3"), "MAIA0104", "the symbol T is defined twice"),
        (in_main("return %x", head="sym f32 in 1..2"), "MAIA0104", "'f32' is reserved; a symbol needs another name"),
        (in_main("return %x", head="sym T in inf..2"), "MAIA0101", "the symbol T needs a number as its lower bound"),
        (in_main("return %x", head="mesh <tp, tp>"), "MAIA0104", "the mesh axis tp is defined twice"),
        (in_main("return %x", head="weight @w : f32[] state @w : f32[]"), "MAIA0104", "the global w is defined twice"),
        ("module @m { func @f() -> () {} func @f() -> () {} }", "MAIA0104", "the function f is defined twice"),
        (in_main("return %x", params="%x: f33[4]"), "MAIA0101", "'f33' is not a dtype; expected one of f64, f32"),
        (in_main("return %x", params="%x: row<i8>[4]"), "MAIA0101", "row is no granularity; expected one of tensor"),
        (in_main("return %x", params="%x: group<i8>[4]"), "MAIA0101", "group takes 1 integers, but has 0"),
        (in_main("return %x", params="%x: group<i8, 0>[4]"), "MAIA0101", "group cannot lie at 0"),
        (
            in_main("return %x", params="%x: token<bool>[4]"),
            "MAIA0101",
            "codes of bool with scales of f32 stand for no",
        ),
        (
            in_main("return %x", params="%x: token<i8, f16, f32>[4]"),
            "MAIA0101",
            "token<> names its scales' dtype twice",
        ),
        (in_main("return %x", params="%x: f32[mid(1, 2)]"), "MAIA0101", "mid is not a function of dims"),
        (in_main("return %x", params="%x: f32[4//0]"), "MAIA0101", "this dim is divided by 0"),
        (in_main("return %x", params="%x: f32[4 % (T-T)]"), "MAIA0101", "this dim is divided by 0"),
        (in_main(r'%y = relu %x {a = "\q"} : f32[4] return %y'), "MAIA0101", "has an escape that is not one of JSON's"),
        (in_main(r'%y = relu @"\q" : f32[4] return %y'), "MAIA0101", "has an escape that is not one of JSON's"),
    ],
)
def test_faults_are_located(text: str, code: str, message: str):
    error = fault(text)
    assert error.code == code
    assert message in error.message
    line, column = (int(n) for n in error.message.split(":")[1:3])
    shown, caret = error.excerpt.splitlines()
    assert (text.splitlines() or [""])[line - 1] in shown or len(shown) > 100
    assert len(caret) == 6 + min(column, 101)


def test_a_syntax_error_says_what_may_follow():
    assert "'{'" in fault("module @m }").hint


@pytest.mark.parametrize("params", ["%x: f32[1, 2], %x: f32[4]", "%x : f32[1,2], %x : f32[4]"])
def test_a_param_in_one_piece_is_located_as_one_in_three(params: str):
    text = in_main("return %x", params=params)
    error = fault(text)
    assert (error.code, error.message.split(": ")[0]) == ("MAIA0104", f"a.maia:1:{text.rindex('%x', 0, 60) + 1}")


def test_plain_and_spaced_forms_are_the_same():
    plain = in_main('%y = reshape %x {shape = [2, 2]} : f32[2, 2] at "a" "b.py":7 return %y')
    spaced = (
        plain.replace("[2, 2]", "[ 2 ,2 ]").replace('at "a" "b.py":7', 'at  "a"  "b.py" : 7').replace("%x: ", "%x : ")
    )
    assert print_module(parse(spaced)) == print_module(parse(plain))
    assert [next(iter(parse(t).main.body)).loc for t in (plain, spaced)] == [Location("a", "b.py", 7)] * 2


def test_hints_name_no_internals():
    hint = fault("module @m { func @f(%x: )").hint
    assert "a type" in hint and "plain" not in hint


def test_values_of_a_region_end_with_it():
    region = "%y = if %c : f32[4] () { %z = relu %x : f32[4] yield %z } () { yield %x }"
    params = "%x: f32[4], %c: bool[]"
    parse(in_main(f"{region} return %y", params))
    error = fault(in_main(f"{region} return %z", params))
    assert (error.code, "%z is not defined before this use" in error.message) == ("MAIA0103", True)
    assert fault(in_main(f"{region} %z = relu %x : f32[4] return %z", params)).code == "MAIA0104"


def test_names_are_hints_made_unique():
    module = Module("names")
    function = module.add_function(Function("main", [tensor(DType.F32, 4)]))
    b = Builder(module, function.body)
    x = function.args[0]
    for hint in ("x", "x", "x_1", "7", "a b/c", "", "é", "%"):
        x = b.emit("relu", x, hint=hint)
    b.ret([x])
    text = print_module(module)
    found = [line.split(" = ")[0].strip() for line in text.splitlines() if " = " in line]
    assert found == ["%x", "%x_1", "%x_1_1", "%1", "%a_b_c", "%2", "%3", "%4"]
    assert print_module(parse(text)) == text


def test_many_equal_hints_are_quick():
    module = Module("many")
    function = module.add_function(Function("main", [tensor(DType.F32, 4)]))
    b = Builder(module, function.body)
    x = function.args[0]
    for _ in range(20_000):
        x = b.emit("relu", x, hint="relu")
    b.ret([x])
    assert "%relu_19999 = " in print_module(module)


def test_odd_names_are_quoted():
    module = Module('a "b"\n')
    module.attrs["note"] = "line\nbreak"
    weight = module.add_weight("w\n", tensor(DType.F32, 4))
    function = module.add_function(Function("main", [], [weight.type]))
    Builder(module, function.body).ret([weight])
    text = print_module(module)
    assert 'weight @"w\\n" : f32[4]' in text
    again = parse(text)
    assert (again.name, list(again.weights), again.attrs) == (module.name, ["w\n"], module.attrs)


def test_strings_that_look_like_something_else_are_quoted():
    module = parse("module @m {sym = 1} { sym T in 1..2 }")
    module.attrs |= {"a": "T", "b": "f32", "c": "true", "d": "plain", "e": sym("T"), "f": DType.F32, "g": True, "h": ""}
    text = print_module(module)
    assert '{sym = 1, a = "T", b = "f32", c = "true", d = plain, e = T, f = f32, g = true, h = ""}' in text
    assert parse(text).attrs == module.attrs


def test_every_kind_of_attribute_survives():
    module = Module("m", symbols={"T": Symbol("T", 1)})
    module.attrs = {
        "ints": (1, -2, 2**63),
        "floats": (0.1, -1e-30, 1e22, float("inf"), float("-inf")),
        "nested": ((), (1, ("x",)), None),
        "dims": (sym("T") + 1, sym("T") * 2, -sym("T")),
        "ref": Ref("a b"),
    }
    again = parse(print_module(module))
    assert again.attrs == module.attrs
    assert [type(v) for v in again.attrs["floats"]] == [float] * 5  # type: ignore[union-attr]


def test_owed_sums_have_no_order():
    assert parse_type("f32[4]+tp.dp") == parse_type("f32[4]+dp.tp")


def test_locations_survive():
    module = parse(in_main('%y = relu %x : f32[4] at "a \\"q\\"" "f.py":3 return %y at "r"'))
    first, last = module.main.body
    assert (first.loc, last.loc) == (Location('a "q"', "f.py", 3), Location("r"))


def test_parts_print_alone():
    module = parse(EXAMPLE)
    op = module.functions["block0"].body.first
    assert op is not None
    assert print_op(op, module) == "%0 = rms_norm %x, @l0.attn.norm {eps = 1e-05} : bf16[T, 4096]"
    assert print_function(module.main, module).startswith("func @main(%x: bf16[T, 4096], %c: bool[]) -> ")
    assert print_op(Op("relu", [op.results[0]]), module) == "relu %defined_elsewhere"


def large(ops: int) -> Module:
    module = Module("large", symbols={"T": Symbol("T", 1, 8192)})
    t = tensor(DType.F32, sym("T"), 64)
    function = module.add_function(Function("main", [t]))
    w = module.add_weight("w", tensor(DType.F32, 64, 64))
    b, x = Builder(module, function.body), function.args[0]
    for i in range(ops // 4):
        with b.at(Location(f"layers.{i}.mlp", "model.py", i)):
            h = b.emit("relu", b.emit("linear", x, w))
            x = b.emit("mul", b.emit("add", h, x), h)
    b.ret([x])
    return module


def test_a_large_module_survives():
    module = large(1600)
    text = print_module(module)
    assert text.count("linear") == 400
    assert print_module(parse(text)) == text
