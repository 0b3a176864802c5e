"""A model of one node: the smallest file that shows what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx_ir

import onnx
from maiac.ir import TensorType, Type
from maiac.ir.types import Quantized

from ..journal import Reproducer
from .functions import onnx_type
from .operators import node_proto, operator_name, resolved
from .types import static_shape

if TYPE_CHECKING:
    from .importer import Importer

SMALL = 1024  # elements of a constant operand that the file holds


Operand: TypeAlias = "Type | np.ndarray[Any, Any] | None"  # elements where they are known, else what type it has


def reproduce(
    importer: Importer,
    node: onnx_ir.Node,
    known: Mapping[str, Operand],
    given: dict[str, onnx_ir.Attr],
    opsets: Mapping[str, int],
) -> Reproducer:
    """The node alone, with the attributes that a call around it has ``given``, under the ``opsets`` of its function.

    Its operands are inputs of the types that were known when it failed; constants stay constants.
    """
    model = importer.model
    proto = node_proto(node, resolved(node, given))
    graph = onnx.GraphProto(name=node.name or node.op_type)
    graph.node.append(proto)
    for value in operands(node):
        _add_operand(graph, value, importer, known.get(value.name or ""))
    for name in proto.output:
        if name:
            graph.output.add(name=name)
    imports = [onnx.helper.make_opsetid(d, v) for d, v in opsets.items()]
    made = onnx.helper.make_model(graph, opset_imports=imports, producer_name="maiac", ir_version=model.ir_version)
    made.functions.extend(onnx_ir.serde.serialize_function(f) for f in model.functions.values())
    stem = operator_name(node).removeprefix("ai.onnx.").replace("/", "_")
    return Reproducer(stem, ".onnx", made.SerializeToString())


def operands(node: onnx_ir.Node) -> list[onnx_ir.Value]:
    """What a node reads, with what its subgraphs read from around it; each once, in order."""
    found: dict[str, onnx_ir.Value] = {v.name: v for v in node.inputs if v is not None and v.name}
    for attribute in node.attributes.values():
        if attribute.type is onnx_ir.AttributeType.GRAPH:
            found |= {n: v for n, v in _outer_values(attribute.as_graph()).items() if n not in found}
    return list(found.values())


def _outer_values(graph: onnx_ir.Graph) -> dict[str, onnx_ir.Value]:
    nodes = list(onnx_ir.traversal.RecursiveGraphIterator(graph))
    inside = {id(v) for n in nodes for v in n.outputs}
    owned: list[onnx_ir.Graph] = [graph]
    for node in nodes:
        owned += [a.as_graph() for a in node.attributes.values() if a.type is onnx_ir.AttributeType.GRAPH]
    for each in owned:
        inside |= {id(v) for v in (*each.inputs, *each.initializers.values())}
    read: Sequence[onnx_ir.Value | None] = [v for n in nodes for v in n.inputs] + [v for g in owned for v in g.outputs]
    return {v.name: v for v in read if v is not None and v.name and id(v) not in inside}


def _add_operand(graph: onnx.GraphProto, value: onnx_ir.Value, importer: Importer, known: Operand) -> None:
    tensor = value.const_value
    if isinstance(known, np.ndarray):
        graph.initializer.append(onnx.numpy_helper.from_array(known, value.name))
        return
    if tensor is not None and tensor.size <= SMALL and value.name not in importer.missing:
        graph.initializer.append(_proto_of(tensor))
        return
    if tensor is not None:
        proto = onnx.helper.make_tensor_type_proto(int(tensor.dtype), list(static_shape(tensor)))
    elif known is not None and not (isinstance(known, TensorType) and isinstance(known.dtype, Quantized)):
        proto = onnx_type(known)
    elif value.type is not None:
        graph.input.append(onnx_ir.serde.serialize_value(value))
        return
    else:
        proto = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [])
    graph.input.append(onnx.helper.make_value_info(value.name or "", proto))


def _proto_of(tensor: onnx_ir.TensorProtocol) -> onnx.TensorProto:
    """A constant as it stands in the file, damaged where it is; one in a file of its own is read."""
    if isinstance(tensor, onnx_ir.serde.TensorProtoTensor):
        return tensor.raw
    return onnx_ir.serde.serialize_tensor(onnx_ir.Tensor(tensor.numpy(), tensor.dtype, name=tensor.name))
