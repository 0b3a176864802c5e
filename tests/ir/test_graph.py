"""Graph and builder: uses, lists of ops, edits, locations, fresh symbols."""

from __future__ import annotations

import pickle

import pytest

from maiac.ir import Block, Builder, DType, Function, Location, MaiaError, Module, Op, Symbol, parse, tensor, verify
from maiac.ir.dims import sym
from maiac.ir.errors import raise_all

F4 = tensor(DType.F32, 4)


def start(*types: object) -> tuple[Module, Builder]:
    module = Module("m")
    function = module.add_function(Function("main", types or [F4]))  # type: ignore[arg-type]
    return module, Builder(module, function.body)


def names(block: Block) -> list[str]:
    return [op.name for op in block]


def test_ops_are_a_list_that_can_be_edited():
    module, b = start()
    x = module.main.args[0]
    relu = b.emit_op("relu", [x])
    b.ret([relu.result])
    Builder(module, b.block, before=relu).emit("neg", x)
    b.block.insert(Op("abs", [x], result_types=[F4]), module.main.body.last)
    assert names(b.block) == ["neg", "relu", "abs", "return"]
    assert [op.name for op in reversed(b.block)] == ["return", "abs", "relu", "neg"]
    first = b.block.first
    assert first is not None
    first.erase()
    assert names(b.block) == ["relu", "abs", "return"]
    assert len(b.block) == 3
    last = b.block.terminator
    last.detach()
    assert (names(b.block), last.block) == (["relu", "abs"], None)
    b.block.append(last)
    verify(module)


def test_erasing_while_iterating():
    module, b = start()
    for _ in range(4):
        b.emit("relu", module.main.args[0])
    for op in b.block:
        op.erase()
    assert names(b.block) == []
    assert module.main.args[0].uses == {}


def test_uses_count_operand_slots():
    module, b = start()
    x = module.main.args[0]
    add = b.emit_op("add", [x, x])
    assert x.uses == {add: 2}
    y = b.emit("relu", x)
    assert x.replace_all_uses(y)
    assert (x.uses, y.uses[add]) == ({}, 2)
    assert not y.replace_all_uses(y)
    with pytest.raises(AssertionError, match="is erased while"):
        y.op.erase()  # type: ignore[attr-defined]


def test_replacing_an_op_keeps_its_name():
    module, b = start()
    old = b.emit("relu", module.main.args[0], hint="act")
    new = b.emit("neg", module.main.args[0])
    b.ret([old])
    old.op.replace([new])  # type: ignore[attr-defined]
    assert new.name == "act"
    assert module.main.body.terminator.operands == (new,)


def test_erasing_an_op_erases_its_regions():
    module = parse("module @m { func @main(%x: f32[4]) -> f32[4] { %y = fusion %x : f32[4] (%a: f32[4]) "
                   "{ %b = add %a, %x : f32[4] yield %b } return %x } }")  # fmt: skip
    x = module.main.args[0]
    fusion = module.main.body.first
    assert fusion is not None
    assert [op.name for op in fusion.walk()] == ["fusion", "add", "yield"]
    inner = fusion.regions[0].first
    assert inner is not None and inner.function() is module.main
    fusion.erase()
    assert list(x.uses) == [module.main.body.terminator]


def test_block_parameters():
    block = Block([F4, F4])
    block.add_arg(F4, "c")
    block.remove_arg(0)
    assert [(a.index, a.name) for a in block.args] == [(0, ""), (1, "c")]


def test_globals_get_names_of_their_own():
    module = Module()
    found = [module.add_weight("w", F4).name, module.add_state("w", F4).name, module.add_weight("w", F4).name]
    assert found == ["w", "w_1", "w_2"]
    with pytest.raises(AssertionError, match="function @f exists"):
        module.add_function(module.add_function(Function("f")))


def test_symbols_that_are_fresh():
    module = Module(symbols={"u1": Symbol("u1")})
    assert [module.fresh_symbol().name, module.fresh_symbol("v", 2, 9).name] == ["u3", "v2"]  # u2 is a dtype
    assert module.symbols["v2"] == Symbol("v2", 2, 9)


def test_unknown_dims_become_symbols():
    module, b = start(F4)
    found = b.emit("nonzero", module.main.args[0])
    assert str(found.type) == "i64[u0, 1]"
    b.ret([found])
    verify(module)


def test_the_builder_trims_and_normalizes():
    module, b = start()
    x = module.main.args[0]
    op = b.emit_op("clamp", [x, None], {"min": None, "max": 2})
    assert (op.operands, op.attrs) == ((x,), {"max": 2})
    assert b.emit_op("reshape", [x], {"shape": [2, 2]}).attrs == {"shape": (2, 2)}


def test_the_builder_says_where_it_went_wrong():
    module, b = start(F4, tensor(DType.F32, 5))
    with pytest.raises(MaiaError) as caught, b.at(Location("layers.0", "model.py", 12)):
        b.emit("add", *module.main.args)
    error = caught.value
    assert (error.code, error.loc) == ("MAIA0105", Location("layers.0", "model.py", 12))
    assert "add(f32[4], f32[5]): b0 is 4 elsewhere, but 5 in y = f32[5]" in str(error)
    assert "at layers.0 (model.py:12)" in str(error)
    assert b.loc == Location()


def test_calls_and_regions():
    module, b = start()
    inner = module.add_function(Function("f", [F4]))
    Builder(module, inner.body).ret([inner.args[0]])
    y = b.call(inner, [module.main.args[0]]).result
    region = Block([F4])
    Builder(module, region).yield_([region.args[0]])
    z = b.emit_op("fusion", [y], regions=[region]).result
    b.ret([z])
    verify(module)
    assert module.main.result_types == (F4,)
    assert [op.name for op in module.walk()].count("yield") == 1


def test_errors_cross_process_boundaries():
    error = MaiaError("MAIA0105", "bad", loc=Location("a"), details=["x", "y"], excerpt="e", hint="h")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert (again.details, again.loc) == (("x", "y"), Location("a"))


def test_all_faults_at_once():
    raise_all("MAIA0105", "nothing", [])
    with pytest.raises(MaiaError, match=r"MAIA0105: operands \(2 found\)") as caught:
        raise_all("MAIA0105", "operands", ["a", "b"])
    assert caught.value.details == ("a", "b")
    with pytest.raises(AssertionError, match=r"MAIA9999 is not in ir/catalogue\.py"):
        MaiaError("MAIA9999", "x")


def test_types_have_helpers():
    t = tensor(DType.F32, sym("T"), 4)
    assert (t.rank, t.is_static, t.elements()) == (2, False, 4 * sym("T"))
    assert str(t.with_dtype(DType.BF16).with_dims([2])) == "bf16[2]"
    assert t.with_split([("tp",), ()], ["dp"]).is_sharded
