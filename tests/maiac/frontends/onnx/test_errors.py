"""What is wrong with a file is said in numbered errors, all of a kind at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from maiac import onnx_backend
from maiac.frontends.onnx import import_onnx
from maiac.ir import MaiaError


def value(
    name: str, shape: list[int | str | None] | None = None, dtype: int = TensorProto.FLOAT
) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, [2, 3] if shape is None else shape)


def model(*nodes: onnx.NodeProto, opset: int = 20, domains: tuple[str, ...] = ()) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), "g", [value("x")], [value("y")])
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets)


def refused(code: str, source: onnx.ModelProto | Path) -> MaiaError:
    with pytest.raises(MaiaError) as caught:
        import_onnx(source)
    assert caught.value.code == code, caught.value
    return caught.value


def test_every_operator_that_is_not_supported_is_listed():
    error = refused(
        "MAIA0220",
        model(
            helper.make_node("Frobnicate", ["x"], ["a"], name="first", domain="acme"),
            helper.make_node("Frobnicate", ["a"], ["b"], name="second", domain="acme"),
            helper.make_node("Twist", ["b"], ["y"], name="third", domain="acme"),
            domains=("acme",),
        ),
    )
    assert [detail.partition(";")[0] for detail in error.details] == [
        "acme.Frobnicate (opset 1): 2 nodes, first 'first'",
        "acme.Twist (opset 1): 1 node, first 'third'",
    ]


def test_an_unknown_operator_of_onnx_itself_is_listed():
    error = refused("MAIA0220", model(helper.make_node("Frobnicate", ["x"], ["y"], name="n")))
    assert error.details == ("ai.onnx.Frobnicate (opset 20): 1 node, first 'n'",)


@pytest.mark.parametrize("content", [b"", b"no protobuf", b"\x08\x07\x12\xff\xff"])
def test_a_file_that_is_no_model(tmp_path: Path, content: bytes):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    refused("MAIA0221", path)


def test_a_truncated_file(tmp_path: Path):
    whole = model(helper.make_node("Relu", ["x"], ["y"])).SerializeToString()
    for cut in range(1, len(whole), 7):
        path = tmp_path / "model.onnx"
        path.write_bytes(whole[:cut])
        with pytest.raises(MaiaError, match=r"MAIA022[13]"):
            import_onnx(path)


def test_a_file_that_is_not_there(tmp_path: Path):
    assert "no file" in refused("MAIA0221", tmp_path / "none.onnx").message


def external(path: Path, location: str, length: int) -> onnx.ModelProto:
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [2, 3], np.zeros(6, np.float32).tobytes(), raw=True)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in (("location", location), ("offset", "0"), ("length", str(length))):
        tensor.external_data.add(key=key, value=text)
    made = model(helper.make_node("Add", ["x", "w"], ["y"]))
    made.graph.initializer.append(tensor)
    path.write_bytes(made.SerializeToString())
    return made


def test_external_data_that_is_missing_short_or_outside(tmp_path: Path):
    path = tmp_path / "inner" / "model.onnx"
    path.parent.mkdir()
    (tmp_path / "secret").write_bytes(bytes(24))
    (path.parent / "short").write_bytes(bytes(20))
    for location, said in (("none", "not there"), ("short", "has 20"), ("../secret", "outside")):
        external(path, location, 24)
        error = refused("MAIA0222", path)
        assert said in error.details[0]


def test_external_data_is_mapped(tmp_path: Path):
    path = tmp_path / "model.onnx"
    external(path, "data", 24)
    (tmp_path / "data").write_bytes(np.arange(6, dtype=np.float32).tobytes())
    module = import_onnx(path)
    data = module.weights["w"].data
    assert type(data).__name__ == "MappedTensor"
    assert data is not None and data.load().tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    "nodes",
    [
        [helper.make_node("Add", ["x", "nowhere"], ["y"])],
        [helper.make_node("Relu", ["b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])],
        [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["y"])],
        [helper.make_node("Relu", ["x", "x", "x"], ["y"])],
    ],
    ids=["undefined", "cyclic", "defined twice", "too many inputs"],
)
def test_a_model_that_breaks_the_rules(nodes: list[onnx.NodeProto]):
    refused("MAIA0223", model(*nodes))


def test_a_model_without_opset():
    made = model(helper.make_node("Relu", ["x"], ["y"]))
    del made.opset_import[:]
    refused("MAIA0223", made)


def test_wrong_types_are_located():
    made = model(helper.make_node("MatMul", ["x", "x"], ["y"], name="product"))
    error = refused("MAIA0105", made)
    assert error.loc is not None and error.loc.name == "product"


def test_an_opset_from_the_future():
    error = refused("MAIA0224", model(helper.make_node("Relu", ["x"], ["y"]), opset=999))
    assert "999" in error.message


def test_a_form_that_is_not_supported():
    nodes = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("NonZero", ["x"], ["n"])]
    nodes += [
        helper.make_node("Reshape", ["n", "flat"], ["v"]),
        helper.make_node("Reshape", ["x", "v"], ["y"], name="r"),
    ]
    made = model(*nodes)
    made.graph.initializer.append(helper.make_tensor("flat", TensorProto.INT64, [1], [-1]))
    del made.graph.output[:]
    made.graph.output.append(helper.make_empty_tensor_value_info("y"))
    error = refused("MAIA0225", made)
    assert error.loc is not None and error.loc.name == "r"


def test_inputs_without_shape_are_all_named():
    made = model(helper.make_node("Add", ["x", "z"], ["y"]))
    for name in ("x", "z"):
        info = helper.make_empty_tensor_value_info(name)
        info.type.tensor_type.elem_type = TensorProto.FLOAT
        made.graph.input.append(info)
    del made.graph.input[0]
    error = refused("MAIA0226", made)
    assert len(error.details) == 2


@pytest.mark.parametrize(
    "call",
    [
        lambda rep: rep.run([]),
        lambda rep: rep.run({"z": np.zeros((2, 3), np.float32)}),
        lambda rep: onnx_backend.prepare(model(helper.make_node("Relu", ["x"], ["y"])), "CUDA"),
        lambda rep: onnx_backend.run_node(helper.make_node("Add", ["a", "b"], ["c"]), [np.zeros(2)]),
    ],
    ids=["too few", "wrong name", "device", "node"],
)
def test_the_backend_called_wrongly(call: Callable[[onnx_backend.MaiaRep], object]):
    rep = onnx_backend.prepare(model(helper.make_node("Relu", ["x"], ["y"])))
    with pytest.raises(MaiaError, match="MAIA0227"):
        call(rep)


def test_what_a_handler_stumbles_over_names_the_node():
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3, 3], np.ones(9, np.float32).tobytes(), raw=True)
    weight.dims[:] = [5]
    made = model(helper.make_node("Add", ["x", "w"], ["y"], name="sum"))
    made.graph.initializer.append(weight)
    error = refused("MAIA0228", made)
    assert error.loc is not None and error.loc.name == "sum" and "reshape" in error.message


@pytest.mark.parametrize("shape", [[-5], [1 << 40, 1 << 40]])
def test_shapes_that_cannot_be_known_are_left_to_the_run(shape: list[int]):
    nodes = [
        helper.make_node("Constant", [], ["s"], value_ints=shape),
        helper.make_node("ConstantOfShape", ["s"], ["c"], value=helper.make_tensor("v", TensorProto.INT64, [1], [1])),
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
    ]
    try:
        import_onnx(model(*nodes))
    except MaiaError as error:
        assert error.code != "MAIA0228", error


def test_a_range_without_a_step_is_refused():
    numbers = [helper.make_node("Constant", [], [n], value_int=v) for n, v in (("a", 0), ("b", 9), ("d", 0))]
    refused("MAIA0223", model(*numbers, helper.make_node("Range", ["a", "b", "d"], ["y"])))


# **** nodes that are not of their operator's form ****


def told(source: onnx.ModelProto, code: str = "MAIA0223") -> str:
    error = refused(code, source)
    assert error.loc is not None and error.loc.name == "n"
    return error.message


def test_all_that_is_wrong_with_a_node_s_form_is_told_at_once():
    node = helper.make_node("MultiHeadAttention", [], ["y"], name="n", domain="com.microsoft", scale=2)
    message = told(model(node, domains=("com.microsoft",)))
    assert "it has 0 inputs; expected at least 1" in message
    assert "the attribute 'num_heads' is missing" in message
    assert "the attribute 'scale' is of type INT; expected FLOAT" in message


def test_attributes_that_a_call_does_not_give_are_missing():
    inner = helper.make_node("LRN", ["a"], ["b"], name="n")
    size = inner.attribute.add(name="size", ref_attr_name="width", type=onnx.AttributeProto.INT)
    assert size.ref_attr_name == "width"
    made = model(helper.make_node("Layer", ["x"], ["y"], name="call", domain="own"), domains=("own",))
    made.functions.append(
        helper.make_function("own", "Layer", ["a"], ["b"], [inner], [helper.make_opsetid("", 20)], ["width"])
    )
    assert "the attribute 'size' is missing" in refused("MAIA0223", made).message


def test_what_onnx_cannot_infer_of_a_node_is_told_in_its_words():
    message = told(model(helper.make_node("DepthToSpace", ["x"], ["y"], name="n", blocksize=2)))
    assert "Input tensor must be 4-dimensional" in message


def test_inference_that_would_end_the_process_is_not_asked():
    nodes = [helper.make_node("Frobnicate", ["x"], ["a"], domain="acme"), helper.make_node("EyeLike", ["a"], ["y"])]
    for node in (nodes[1], helper.make_node("RegexFullMatch", ["a"], ["y"], pattern="a")):
        refused("MAIA0220", model(nodes[0], node, domains=("acme",)))


def test_negative_sizes_are_refused():
    shape = helper.make_node("Constant", [], ["s"], value_ints=[-5])
    assert "-5" in told(model(shape, helper.make_node("ConstantOfShape", ["s"], ["y"], name="n")))


@pytest.mark.parametrize(
    ("op", "attrs", "message"),
    [
        ("TreeEnsembleRegressor", {"nodes_treeids": [0]}, "the attribute 'n_targets' is missing"),
        ("TreeEnsembleRegressor", {"n_targets": 1, "nodes_treeids": [0]}, "lists differ in length: nodes_modes has 0"),
        ("SVMRegressor", {"coefficients": [1.0]}, "rho has 0 numbers, not 1"),
        ("SVMRegressor", {"n_supports": 2, "rho": [1.0], "support_vectors": [1.0]}, "do not make 2 rows"),
        ("OneHotEncoder", {"zeros": 1}, "it has no categories"),
        ("CategoryMapper", {"cats_int64s": [1, 2], "cats_strings": ["a"]}, "cats_int64s has 2, cats_strings has 1"),
        ("LabelEncoder", {"keys_floats": [1.0], "values_floats": [1.0, 2.0]}, "keys has 1, values has 2"),
    ],
)
def test_attributes_of_ai_onnx_ml_that_do_not_fit(op: str, attrs: dict[str, Any], message: str):
    made = model(helper.make_node(op, ["x"], ["y"], name="n", domain="ai.onnx.ml", **attrs))
    made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    assert message in told(made)
