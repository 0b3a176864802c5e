"""Declarations: what signatures accept and refuse, with the messages that users read."""

from __future__ import annotations

import inspect
import itertools
from typing import Any, Literal

import pytest
import torch

from maiac.ir import DType, MaiaError, Quantized, TensorType, get_op, op_names, tensor
from maiac.ir.attributes import MeshAxis, attributes_of, fits, kind_text
from maiac.ir.dims import DimLike, evaluate, sym
from maiac.ir.errors import TypeFault
from maiac.ir.opdef import OpDef, bytes_of, op
from maiac.ir.ops.shape import sliced_size
from maiac.ir.ops.values import FROM_TORCH
from maiac.ir.parser import parse_type
from maiac.ir.promotion import promote
from maiac.ir.signature import broadcast_dim, parse_signature, same_dim
from maiac.ir.types import DimType, SequenceType, Type

T, U = sym("T"), sym("U")


def infer(name: str, *types: str, **attrs: Any) -> str:
    made = get_op(name).result_types([parse_type(t) if t else None for t in types], attrs)
    return ", ".join(map(str, made))


def refused(name: str, *types: str, **attrs: Any) -> str:
    with pytest.raises(TypeFault) as caught:
        infer(name, *types, **attrs)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "types", "result"),
    [
        ("linear", ("f32[2, T, 4]", "f32[8, 4]"), "f32[2, T, 8]"),
        ("linear", ("bf16[4]", "channel<i8, 0>[8, 4]", "bf16[8]"), "bf16[8]"),
        ("add", ("f32[T, 1]", "f32[4]"), "f32[T, 4]"),
        ("add", ("f32[T]", "f32[T]"), "f32[T]"),
        ("add", ("f32[T]", "f32[4]"), "f32[4]"),
        ("add", ("f32[T]", "f32[U]"), "f32[?~b0]"),
        ("add", ("i32[T]", "f32[]"), "f32[T]"),
        ("add", ("f32[1, 8/tp]", "f32[1, 8/tp]"), "f32[1, 8/tp]"),
        ("mul", ("f32[8/tp]", "f32[1]"), "f32[8/tp]"),
        ("matmul", ("f32[2, T, 8/tp]", "f32[8/tp, 4]"), "f32[2, T, 4]+tp"),
        ("linear", ("f32[4]+tp", "f32[8, 4]"), "f32[8]+tp"),
        ("div", ("f32[4]+tp", "f32[4]"), "f32[4]+tp"),
        ("embedding", ("f32[100, 8/tp]", "i64[T]"), "f32[T, 8/tp]"),
        ("embedding", ("f32[100, 8]", "i64[T/dp]"), "f32[T/dp, 8]"),
    ],
)
def test_types_follow_from_letters(name: str, types: tuple[str, ...], result: str):
    assert infer(name, *types) == result


@pytest.mark.parametrize(
    ("name", "types", "message"),
    [
        ("linear", ("f32[2, 4]", "f32[8, 5]"), "k is 4 elsewhere, but 5 in w = f32[8, 5]"),
        ("linear", ("f32[T]", "f32[8, T+1]"), "k is T elsewhere, but T+1 in w = f32[8, T+1]"),
        ("linear", ("f32[]", "f32[8, 5]"), "x is f32[]; expected dims [*b k]"),
        ("linear", ("f32[4]", "f32[4]"), "w is f32[4]; expected dims [n k]"),
        ("linear", ("f32[4]", "f16[8, 4]"), "linear: expected one dtype, but found x = f32[4], w = f16[8, 4]"),
        ("linear", ("f32[4]",), "operand w is missing"),
        ("linear", ("f32[4]", "f32[8, 4]", "f32[8]", "f32[8]"), "takes at most 3 operands, but 4 are given"),
        ("add", ("f32[3]", "f32[4]"), "b0 is 3 elsewhere, but 4 in y = f32[4]"),
        ("relu", ("bool[4]",), "x is bool[4]; expected dtype real"),
        ("relu", ("channel<i8, 0>[4]",), "x is channel<i8, 0>[4]; expected dtype real"),
        ("relu", ("seq<f32[4]>",), "x is seq<f32[4]>; expected a tensor"),
        ("concat", (), "'dim'"),
        ("roi_align", ("f32[2, 4, 8, 8]", "f32[3, 5]", "i64[3]"), "height"),
    ],
)
def test_misfits_are_explained(name: str, types: tuple[str, ...], message: str):
    assert message in refused(name, *types)


@pytest.mark.parametrize(
    ("name", "types", "message"),
    [
        ("linear", ("f32[2, 8/tp]", "f32[4, 8/tp]", "f32[4]"), "linear: bias would be added once per tp rank"),
        ("linear", ("f32[2, 8/tp]", "f32[4, 8]"), "linear: dim k is split by tp elsewhere and by nothing in w"),
        ("linear", ("f32[2]+tp", "f32[4, 2]+tp"), "linear: a product of two sums that are owed is not their sum"),
        (
            "linear",
            ("f32[8/tp, 2]", "f32[4/tp, 2]"),
            "linear: one mesh axis would split a result twice: f32[8/tp, 4/tp]",
        ),
        (
            "matmul",
            ("f32[4/tp, 2]", "f32[2, 4]+tp"),
            "matmul: one mesh axis would split a result twice: f32[4/tp, 4]+tp",
        ),
        ("relu", ("f32[4]+tp",), "relu: x still owes a sum over tp"),
        ("add", ("f32[4]+tp", "f32[4]"), "add: its operands owe different sums"),
        ("rms_norm", ("f32[2, 8/tp]",), "rms_norm: dim d of x must be whole, but tp splits it"),
        ("nonzero", ("f32[8/tp]",), "nonzero has no sharding rule, but an operand is sharded"),
    ],
)
def test_shardings_are_explained(name: str, types: tuple[str, ...], message: str):
    with pytest.raises(TypeFault) as caught:
        infer(name, *types)
    assert caught.value.code == "MAIA0108"
    assert message in str(caught.value)


def test_a_contracted_letter_needs_linearity():
    signature = parse_signature("x[n k], y[n k] -> z[n]")
    definition = OpDef("toy", signature, lambda x, y: (x - y).abs().sum(-1), "x", linear=frozenset("x"))
    split = parse_type("f32[2, 8/tp]")
    with pytest.raises(TypeFault, match="toy: dim k of y must be whole, but tp splits it"):
        definition.result_types([split, split], {})


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({}, "cast needs the attribute 'to'"),
        ({"to": DType.F32, "x": 1}, "cast has no attribute 'x'"),
        ({"to": "f32"}, "cast: to = 'f32' is not dtype"),
    ],
)
def test_attributes_are_checked(attrs: dict[str, Any], message: str):
    with pytest.raises(TypeFault, match=message) as caught:
        infer("cast", "f32[4]", **attrs)
    assert caught.value.code == "MAIA0107"


def test_symbols_stand_only_where_dims_may():
    assert infer("slice", "f32[8]", dim=0, end=T) == "f32[min(8, T)]"
    assert "dim = T must be a number, not a symbol" in refused("slice", "f32[8]", dim=T)
    assert "parts = ('a',) is not list of int" in refused("split", "f32[8]", dim=0, parts=("a",))


@pytest.mark.parametrize("start", [0, T, -T, -U, -2 * T, -U - 1])
@pytest.mark.parametrize("end", [None, U, -U, -T, -T - 1])
@pytest.mark.parametrize("size", [5, T, U + T])
def test_sizes_of_slices_are_what_python_says_where_symbols_count_from_the_end(size: DimLike, start: DimLike, end: Any):
    kept = sliced_size(size, start, end, 1)
    for t, u in itertools.product(range(1, 7), repeat=2):
        env = {"T": t, "U": u}
        given = [None if v is None else evaluate(v, env) for v in (start, end)]
        assert max(evaluate(kept, env), 0) == len(range(evaluate(size, env))[slice(*given)])


@pytest.mark.parametrize(
    ("value", "hint", "good"),
    [
        (1, int, True),
        (True, int, False),
        (T, int, True),
        (1, float, True),
        (T, float, False),
        (None, int | None, True),
        ((1, T), tuple[int, ...], True),
        ([1], tuple[int, ...], False),
        ("add", Literal["none", "add"], True),
        ("mul", Literal["none", "add"], False),
        ("tp", MeshAxis, True),
        (DType.F32, DType, True),
        (object(), Any, True),
    ],
)
def test_kinds(value: Any, hint: Any, good: bool):
    assert fits(value, hint) is good


def test_kinds_have_names():
    hints = [int, float | None, tuple[int, ...] | None, Literal["a", "b"], MeshAxis, DType, str, Any, bool]
    shown = ["int", "float or none", "list of int or none", "a or b", "mesh axis", "dtype", "string", "value", "bool"]
    assert [kind_text(h) for h in hints] == shown


def test_attributes_are_keyword_parameters():
    def reference(x: Any, *, a: int, b: str = "x", regions: Any = None) -> Any: ...

    assert attributes_of(reference) == {"a": (int, inspect.Parameter.empty), "b": (str, "x")}


def test_an_op_is_declared_once():
    with pytest.raises(AssertionError, match="relu is defined twice"):
        op("x -> y", name="relu")(lambda x: x)


def test_unknown_ops_name_the_nearest():
    with pytest.raises(MaiaError) as caught:
        get_op("linaer")
    assert caught.value.code == "MAIA0102"
    assert caught.value.hint is not None and caught.value.hint.startswith("did you mean linear")
    assert "frobnicate" not in op_names()


def test_op_names_can_stand_in_text():
    grammar = {"at", "func", "module", "mesh", "sym", "weight", "state", "call", "return", "yield"}
    assert not grammar & set(op_names())
    assert all(n.isidentifier() for n in op_names())


def test_variadic_operands_take_what_is_left():
    signature = parse_signature("a, xs*, b -> y")
    types: list[Type | None] = [tensor(DType.F32, n) for n in range(5)]
    assert signature.group(types) == [types[0], types[1:4], types[4]]
    assert signature.group(types[:2]) == [types[0], [], types[1]]
    with pytest.raises(TypeFault, match="operand b is missing"):
        signature.group(types[:1])
    with pytest.raises(TypeFault, match="operand 1 of xs is missing"):
        signature.group([types[0], types[1], None, types[2]])
    assert parse_signature("a?, b?, xs* -> y").group([]) == [None, None, []]


@pytest.mark.parametrize(
    ("a", "b", "same", "broadcast"),
    [
        (4, 4, 4, 4),
        (4, 5, None, None),
        (1, 5, None, 5),
        (5, 1, None, 5),
        (T, T, T, T),
        (T, 4, 4, 4),
        (4, T, 4, 4),
        (T, 1, 1, T),
        (T, T + 1, None, None),
        (T, U, T, sym("?0")),
    ],
)
def test_dims_unify(a: Any, b: Any, same: Any, broadcast: Any):
    assert same_dim(a, b) == same
    assert broadcast_dim(a, b) == broadcast


def test_promotion_is_torch_s():
    kinds = [t for t in FROM_TORCH if t.itemsize > 1 or t in (torch.int8, torch.uint8, torch.bool)]
    kinds = [t for t in kinds if t not in (torch.uint16, torch.uint32, torch.uint64)]  # torch promotes these in part
    for a in kinds:
        for b in kinds:
            for shapes in (((2,), (2,)), ((2,), ()), ((), (2,)), ((), ())):
                x, y = torch.ones(shapes[0], dtype=a), torch.ones(shapes[1], dtype=b)
                want = FROM_TORCH.get(torch.result_type(x, y))  # complex32 is no dtype here
                made = promote([TensorType(FROM_TORCH[t.dtype], tuple(t.shape)) for t in (x, y)])
                assert made is want or want is None, f"{x.dtype}{list(x.shape)}, {y.dtype}{list(y.shape)}"


@pytest.mark.parametrize(
    ("type", "size"),
    [
        ("f32[4, T]", 48),
        ("i4[3]", 2),
        ("group<i4, 4>[2, 8]", 8 + 4 * 4),
        ("mx<f8e4m3fn>[2, 64]", 128 + 4),
        ("channel<i8, 0>[4, 8]", 32 + 16),
        ("token<i8>[4, 8]", 32 + 16),
        ("block<i8, 2, 4>[4, 8]", 32 + 16),
        ("tensor<i8, f16>[4, 8]", 32 + 2),
        ("dim<T>", 8),
    ],
)
def test_bytes(type: str, size: int):
    assert bytes_of(parse_type(type), {"T": 3}) == size


def test_bytes_of_what_is_not_a_tensor():
    assert bytes_of(SequenceType(DimType(1)), {}) == 0


@pytest.mark.parametrize(
    ("per", "at", "message"),
    [
        ("row", (), "row is no granularity; expected one of tensor, channel"),
        ("group", (), "group takes 1 integers, but has 0"),
        ("group", (0,), "group cannot lie at 0"),
        ("channel", (-1,), "channel cannot lie at -1"),
    ],
)
def test_quantized_types_that_cannot_be(per: str, at: tuple[int, ...], message: str):
    with pytest.raises(TypeFault, match=message):
        Quantized(DType.I8, per, at)


def test_local_dims():
    t = TensorType(DType.F32, (T, 12, 8), ((), ("pp", "tp"), ("tp",)))
    assert t.local({"pp": 2, "tp": 3}) == (T, 2, 8 // 3)
    assert t.local({}) == t.dims
    assert t.whole() == tensor(DType.F32, T, 12, 8)


def test_flops_count_multiplications_and_additions():
    linear = get_op("linear")
    types = [tensor(DType.F32, 2, T, 4), tensor(DType.F32, 8, 4)]
    assert linear.count_flops(types, {}, linear.result_types(types, {})) == 2 * 2 * T * 4 * 8
    add = get_op("add")
    assert add.count_flops([tensor(DType.F32, T), tensor(DType.F32, U)], {}, [tensor(DType.F32, T)]) == T
    reshape = get_op("reshape")
    assert reshape.count_flops([tensor(DType.F32, 4)], {"shape": (2, 2)}, [tensor(DType.F32, 2, 2)]) == 0


@pytest.mark.parametrize(
    ("name", "others", "attrs", "each"),
    [
        ("rms_norm", (), {}, 3),
        ("rms_norm", (6,), {}, 4),
        ("layer_norm", (), {}, 5),
        ("layer_norm", (6, 6), {}, 7),
        ("group_norm", (4, 4), {"groups": 2}, 7),
        ("softmax", (), {}, 5),
        ("adaptive_avg_pool", (), {"sizes": (1,)}, 1),
        ("upsample", (), {"size": (6,)}, 0),
        ("upsample", (), {"size": (6,), "mode": "linear"}, 4),
    ],
)
def test_flops_for_each_element(name: str, others: tuple[int, ...], attrs: dict[str, Any], each: int):
    definition = get_op(name)
    types = [tensor(DType.F32, 2, 4, 6), *(tensor(DType.F32, n) for n in others)]
    assert definition.count_flops(types, attrs, definition.result_types(types, attrs)) == each * 2 * 4 * 6
