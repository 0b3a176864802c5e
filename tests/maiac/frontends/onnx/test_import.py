"""Importing ONNX: symbolic shapes, functions, control flow, weights, the backend's calling convention."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from maiac import onnx_backend
from maiac.frontends.onnx import import_onnx
from maiac.frontends.onnx.handlers.linear import explicit_equation
from maiac.ir import MaiaError, Module, print_module, verify
from maiac.runtime import run_module

HEAD = '<ir_version: 10, opset_import: ["" : 20, "own" : 1]>\n'


def parsed(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEAD + text)


def ops(module: Module) -> list[str]:
    return [op.name for op in module.main.body]


def floats(*values: float) -> np.ndarray[Any, Any]:
    return np.array(values, np.float32)


def run(module: Module, *inputs: Any) -> list[Any]:
    verify(module)
    return [np.asarray(r) for r in run_module(module, list(inputs))]


def test_shape_arithmetic_is_done_while_importing():
    module = import_onnx(
        parsed("""g (float[N, T, 8] x) => (float[N, M, 2, 4] y)
        <int64[1] zero = {0}, int64[1] one = {1}, int64[2] tail = {2, 4}> {
            s = Shape(x)
            n = Slice(s, zero, one)
            t = Gather(s, one)
            shape = Concat<axis = 0>(n, t, tail)
            y = Reshape(x, shape)
        }""")
    )
    assert ops(module) == ["reshape", "return"]
    assert str(module.main.result_types[0]) == "f32[N, T, 2, 4]"


def test_a_shape_that_arrives_at_run_time():
    module = import_onnx(parsed("g (float[6] x, int64[2] shape) => (float[a, b] y) { y = Reshape(x, shape) }"))
    assert "reshape_to" in ops(module)
    (y,) = run(module, np.arange(6, dtype=np.float32), np.array([2, -1]))
    assert y.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_numbers_that_arrive_at_run_time_bind_symbols():
    module = import_onnx(parsed("g (float[3] x, int64[1] n) => (float[M] y) { y = Tile(x, n) }"))
    assert ops(module)[:2] == ["bind", "tile"]
    (y,) = run(module, floats(*[1, 2, 3]), np.array([2]))
    assert y.tolist() == [1, 2, 3, 1, 2, 3]


def test_dims_that_the_file_tells_close_our_own():
    text = """g (float[N, 4] x, bool[N] keep) => (float[N, 4] y) <float[N, 4] kept> {
        kept = Compress<axis = 0>(x, keep)
        y = Add(kept, x)
    }"""
    module = import_onnx(parsed(text))
    assert "refine" in ops(module)
    assert str(module.main.result_types[0]) == "f32[N, 4]"


def test_a_function_of_the_model_is_expanded_under_its_call():
    module = import_onnx(
        parsed("""g (float[3] x) => (float[3] y) { y = own.twice <by = 3.0> (x) }
        <domain: "own", opset_import: ["" : 20]>
        twice <by> (a) => (b) { c = Constant <value_float: float = @by> ()
            b = Mul(a, c) }""")
    )
    (y,) = run(module, floats(*[1, 2, 3]))
    assert y.tolist() == [3, 6, 9]
    assert any(op.loc.name.endswith("/b") for op in module.main.body)


def test_a_call_s_attributes_hold_in_the_subgraphs_of_its_function():
    module = import_onnx(
        parsed("""g (float[3] x, bool c) => (float[3] y, float[3] z) {
            y = own.leak <by = 0.5> (x, c)
            z = LeakyRelu(y)
        }
        <domain: "own", opset_import: ["" : 20]>
        leak <by> (a, c) => (b) { b = If (c) <
            then_branch = t () => (float[3] p) { p = LeakyRelu <alpha: float = @by> (a) },
            else_branch = e () => (float[3] q) { q = Neg(a) }
        > }""")
    )
    y, z = run(module, floats(-2, 0, 2), np.array(True))
    assert y.tolist() == [-1, 0, 2]
    np.testing.assert_allclose(z, [-0.01, 0, 2])


def test_an_operator_without_handler_runs_through_its_function_body():
    module = import_onnx(parsed("g (float[3] x) => (float[10] y) <int64 n = {10}> { y = HannWindow(n) }"))
    (y,) = run(module, np.zeros(3, np.float32))
    np.testing.assert_allclose(y, np.hanning(11)[:10], atol=1e-6)


def test_a_condition_that_is_known_chooses_while_importing():
    module = import_onnx(
        parsed("""g (float[2, 3] x) => (float[2, 3] y) <int64 two = {2}> {
            s = Shape(x)
            z = Constant <value_int = 0> ()
            n = Gather(s, z)
            c = Equal(n, two)
            y = If (c) <
                then_branch = a () => (float[2, 3] p) { p = Neg(x) },
                else_branch = b () => (float[2, 3] q) { q = Abs(x) }
            >
        }""")
    )
    assert ops(module) == ["neg", "return"]


@pytest.mark.parametrize("told", ["L", "2"])  # what torch's exporter writes that traces one step
def test_a_loop_whose_carried_value_grows(told: str):
    module = import_onnx(
        parsed(
            """g (float[1] x, int64 n) => (float[K] y) <bool go = {1}> {
            y = Loop (n, go, x) <body = b (int64 i, bool c, float[J] a) => (bool d, float[TOLD] e) {
                d = Identity(c)
                e = Concat<axis = 0>(a, x)
            }>
        }""".replace("TOLD", told)
        )
    )
    (y,) = run(module, floats(*[5]), np.array(3))
    assert y.tolist() == [5, 5, 5, 5]


def test_a_number_told_for_a_size_that_follows_from_the_inputs_is_not_believed():
    module = import_onnx(
        parsed(
            """g (float[L] x) => (float[M, 2] y)
               <int64[2] shape = {-1, 4}, int64[2] pairs = {-1, 2}, float[1, 4] rows> {
            rows = Reshape(x, shape)
            y = Reshape(rows, pairs)
        }"""
        )
    )
    assert run(module, np.arange(12, dtype=np.float32))[0].shape == (6, 2)


def test_an_initializer_that_is_also_an_input_is_a_weight():
    module = import_onnx(parsed("g (float[2] x, float[2] w) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }"))
    assert [a.name for a in module.main.args] == ["x"]
    assert run(module, floats(*[1, 1]))[0].tolist() == [2, 3]


def test_initializers_are_not_copied():
    array = np.arange(64, dtype=np.float32).reshape(8, 8)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, ["N", 8])],
        [onnx.helper.make_tensor_value_info("y", 1, ["N", 8])],
        [onnx.numpy_helper.from_array(array, "w")],
    )
    module = import_onnx(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)]))
    (weight,) = module.weights.values()
    assert weight.data is not None
    assert weight.data.load().data_ptr() == weight.data.load().data_ptr()
    assert ops(module)[0] == "linear"
    assert weight.data.load().tolist() == array.T.tolist()
    assert weight.data.load_slice((slice(0, 2),)).tolist() == array.T[:2].tolist()


def test_names_and_places_are_the_files():
    module = import_onnx(
        parsed("g (float[2] x) => (float[2] y) { [first] hidden = Neg(x)\n [second] y = Abs(hidden) }")
    )
    first, second, _ = module.main.body
    assert (first.result.name, first.loc.name) == ("hidden", "first")
    assert (second.result.name, second.loc.name) == ("y", "second")
    assert "%hidden = neg %x" in print_module(module)


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.uint64])
@pytest.mark.parametrize("name", ["Add", "Mul", "Div", "Max", "Min", "Less", "BitwiseXor", "Mod"])
def test_wide_unsigned_integers(name: str, dtype: type[np.generic]):
    top = int(np.iinfo(dtype).max)  # type: ignore[type-var]
    x, y = np.array([3, top, top - 5, 7], dtype), np.array([5, 2, top, 3], dtype)
    node = onnx.helper.make_node(name, ["x", "y"], ["z"])
    (got,) = onnx_backend.run_node(node, [x, y], opset_version=20)
    with np.errstate(over="ignore"):
        want = {
            "Add": np.add, "Mul": np.multiply, "Div": np.floor_divide, "Max": np.maximum, "Min": np.minimum,
            "Less": np.less, "BitwiseXor": np.bitwise_xor, "Mod": np.remainder,
        }[name](x, y)  # fmt: skip
    assert got.dtype == want.dtype
    assert got.tolist() == want.tolist()


def test_the_backend_takes_arrays_in_order_by_name_or_alone():
    rep = onnx_backend.prepare(parsed("g (float[2] x) => (float[2] y) { y = Neg(x) }"))
    x = floats(*[1, 2])
    for given in ([x], {"x": x}, x):
        out: Any = rep.run(given)
        assert out.y.tolist() == out[0].tolist() == [-1, -2]


def test_the_backend_knows_what_it_can_do():
    good = parsed("g (float[2] x) => (float[2] y) { y = Neg(x) }")
    bad = parsed("g (float[2] x) => (float[2] y) { y = own.Frobnicate(x) }")
    assert onnx_backend.is_compatible(good)
    assert not onnx_backend.is_compatible(bad)
    assert onnx_backend.supports_device("CPU")
    assert not onnx_backend.supports_device("CUDA")
    assert not onnx_backend.supports_device("TPU")


@pytest.mark.parametrize(
    ("equation", "ranks", "explicit"),
    [
        ("ij,jk", [2, 2], "ij,jk->ik"),
        ("...ij,...jk->...ik", [4, 3], "abij,bjk->abik"),
        ("bij, bjk -> bik", [3, 3], "bij,bjk->bik"),
        ("...ii->...i", [3], "aii->ai"),
    ],
)
def test_einsum_is_spelled_out(equation: str, ranks: list[int], explicit: str):
    assert explicit_equation(equation, ranks) == explicit


def test_a_large_model_is_checked_without_its_contents(monkeypatch: pytest.MonkeyPatch):
    from maiac.frontends.onnx import load

    made = parsed("g (float[2] x) => (float[2] y) { y = Add(x, w) }")
    made.graph.initializer.append(onnx.numpy_helper.from_array(floats(*range(4096)), "big"))
    made.graph.initializer.append(onnx.numpy_helper.from_array(floats(1, 2), "w"))
    made.metadata_props.add(key="k", value="v")
    monkeypatch.setattr(load, "WHOLE", 0)
    assert run(import_onnx(made), floats(1, 1))[0].tolist() == [2, 3]
    assert made.graph.initializer[0].dims[0] == 4096
    made.graph.node[0].input[0] = "nowhere"
    with pytest.raises(MaiaError, match=r"MAIA0223: .*'nowhere' of node: .*OpType: Add"):
        import_onnx(made)


def test_a_dim_that_the_file_tells_wrongly_fails_at_run_time():
    text = """g (float[N, 4] x, bool[N] keep) => (float[N, 4] y) <float[N, 4] kept> { kept = Compress<axis = 0>(x, keep)
        y = Neg(kept) }"""
    module = import_onnx(parsed(text))
    x = np.zeros((3, 4), np.float32)
    assert run(module, x, np.ones(3, np.bool_))[0].shape == (3, 4)
    with pytest.raises(MaiaError, match="was said to have shape"):
        run(module, x, np.array([True, False, True]))


def test_a_sequence_of_tensors_of_any_rank():
    model = parsed("""g (seq(float[]) s, float[3] x, int64 i) => (seq(float[]) t, float[N, M] y) {
        t = SequenceInsert(s, x)
        y = SequenceAt(t, i)
    }""")
    members = [np.ones((2, 2), np.float32), np.array(7, np.float32)]
    module = import_onnx(model)
    verify(module)
    assert str(module.main.args[0].type) == "seq<f32[...]>"
    t, y = onnx_backend.run_model(model, [members, floats(1, 2, 3), np.array(0)])
    assert [v.tolist() for v in t] == [[[1, 1], [1, 1]], 7, [1, 2, 3]]
    assert y.tolist() == [[1, 1], [1, 1]]


LOOP = """g (%s int64 n) => (seq(float[]) s) <bool go = {1}, float one = {1.0}> {
    start = %s
    s = Loop (n, go, start) <body = b (int64 i, bool c, %s(float[]) a) => (bool d, seq(float[]) e) {
        d = Identity(c)
        in = %s(a)
        zero = Constant <value_int = 0> ()
        first = Equal(i, zero)
        x = If (first) <
            then_branch = p () => (seq(float[]) q) { q = SequenceInsert(in, one) },
            else_branch = r () => (seq(float[]) t) {
                axes = Constant <value_ints = [0]> ()
                wide = Unsqueeze(one, axes)
                t = SequenceInsert(in, wide)
            }
        >
        e = Identity(x)
    }>
}"""


@pytest.mark.parametrize(
    ("inputs", "start", "carried", "taken", "given", "expected"),
    [
        ("", "SequenceEmpty()", "seq", "Identity", [], [1, [1], [1]]),
        ("seq(float[2]) z,", "Identity(z)", "seq", "Identity", [[floats(3, 4)]], [[3, 4], 1, [1], [1]]),
    ],
)
def test_a_loop_whose_sequence_gets_members_of_several_ranks(
    inputs: str, start: str, carried: str, taken: str, given: list[Any], expected: list[Any]
):
    (s,) = onnx_backend.run_model(parsed(LOOP % (inputs, start, carried, taken)), [*given, np.array(3)])
    assert [v.tolist() for v in s] == expected


def test_a_carried_optional_becomes_what_it_holds():
    model = parsed("""g (int64 n, optional(seq(float)) o) => (seq(float[]) s) <bool go = {1}> {
        s = Loop (n, go, o) <body = b (int64 i, bool c, optional(seq(float)) a) => (bool d, seq(float[]) e) {
            d = Identity(c)
            x = Constant <value_floats = [1.0, 2.0]> ()
            h = OptionalGetElement(a)
            e = SequenceInsert(h, x)
        }>
    }""")
    (s,) = onnx_backend.run_model(model, [np.array(2), [np.array(5, np.float32)]])
    assert [v.tolist() for v in s] == [5, [1, 2], [1, 2]]
