"""Function bodies: the model's own functions, and those by which ONNX defines operators that have no handler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx_ir

import onnx
from maiac.ir import DimType, OptionalType, SequenceType, TensorType, Type, UnrankedType

from .operators import node_proto
from .registry import plain_domain
from .types import ONNX_DTYPES

if TYPE_CHECKING:
    from .context import NodeContext
    from .importer import Importer


def expansion(importer: Importer, c: NodeContext) -> onnx_ir.Function | None:
    """The function that computes a node; None where neither the model nor ONNX gives one."""
    own = importer.model.functions.get((c.node.domain, c.op, c.node.overload))
    return own if own is not None else _schema_function(c)


def _schema_function(c: NodeContext) -> onnx_ir.Function | None:
    domain = plain_domain(c.node.domain)
    try:
        schema: Any = onnx.defs.get_schema(c.op, c.opset, domain)
    except onnx.defs.SchemaError:
        return None
    proto: onnx.FunctionProto | None = None
    if schema.has_context_dependent_function:
        proto = _context_dependent(c, schema)
    elif schema.has_function:
        usable = [v for v in schema.function_opset_versions if v <= max(c.opset, schema.since_version)]
        version = max(usable) if usable else min(schema.function_opset_versions)
        proto = onnx.FunctionProto.FromString(schema.get_function_with_opset_version(version))
    if proto is None or not proto.node:
        return None
    _fill_defaults(proto, schema)
    made = {name for node in proto.node for name in node.output} | set(proto.input)
    for i, name in enumerate(proto.output):
        if name not in made:  # an optional output that this form does not compute
            absent = proto.node.add(op_type="Identity", name=name)
            absent.output.append(name)
            absent.input.append("")
            proto.output[i] = name
    function = onnx_ir.serde.deserialize_function(proto)
    function.opset_imports.setdefault("", c.importer.opsets.get("", c.opset))
    return function


def _context_dependent(c: NodeContext, schema: Any) -> onnx.FunctionProto | None:
    types = [type_proto(c, i).SerializeToString() for i in range(len(c.inputs))]
    node = node_proto(c.node, c.attrs.values())
    versions = schema.context_dependent_function_opset_versions
    usable = [v for v in versions if v <= max(c.opset, schema.since_version)] or list(versions)
    try:
        made = schema.get_context_dependent_function_with_opset_version(max(usable), node.SerializeToString(), types)
    except Exception as error:
        c.fail(f"ONNX cannot tell what it is made of: {' '.join(str(error).split())}", "MAIA0223")
    return onnx.FunctionProto.FromString(made) if made else None


def _fill_defaults(proto: onnx.FunctionProto, schema: Any) -> None:
    """Attributes that the body refers to, with the operator's default values."""
    have = {a.name for a in proto.attribute_proto}
    for name, attribute in schema.attributes.items():
        default = attribute.default_value
        if name not in have and default.name:
            proto.attribute_proto.append(default)
            if name in proto.attribute:
                proto.attribute.remove(name)


def type_proto(c: NodeContext, index: int) -> onnx.TypeProto:
    """The type of an operand as ONNX writes it; an empty one where the operand is not given."""
    if not c.has(index):
        return onnx.TypeProto()
    slot = c.slot(index)
    if slot.value is None and slot.known is not None:
        return onnx_type(c.type(index))
    return onnx_type(c[index].type)


def onnx_type(type: Type) -> onnx.TypeProto:
    match type:
        case TensorType():
            dims = [d if isinstance(d, int) else str(d) for d in type.dims]
            return onnx.helper.make_tensor_type_proto(ONNX_DTYPES[type.element], dims)
        case UnrankedType():
            return onnx.helper.make_tensor_type_proto(ONNX_DTYPES[type.dtype], None)
        case SequenceType():
            return onnx.helper.make_sequence_type_proto(onnx_type(type.element))
        case OptionalType():
            return onnx.helper.make_optional_type_proto(onnx_type(type.element))
        case DimType():
            return onnx.TypeProto()
