"""The operators that stand in a model: their names, places and opset versions, and whether they are supported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import onnx_ir

import onnx
from maiac.ir.errors import Location

from .registry import find_handler, plain_domain


def node_name(node: onnx_ir.Node) -> str:
    """What a node is called: by its name, else by its first result."""
    return node.name or (node.outputs[0].name if node.outputs else "") or node.op_type


def operator_name(node: onnx_ir.Node) -> str:
    """``ai.onnx.Gemm``"""
    return f"{plain_domain(node.domain) or 'ai.onnx'}.{node.op_type}"


def walk_nodes(model: onnx_ir.Model) -> Iterator[tuple[onnx_ir.Node, int, tuple[str, ...]]]:
    """Every node of the graph, its subgraphs and the model's functions: (node, opset version, the function's name)."""
    opsets = {plain_domain(d): v for d, v in model.graph.opset_imports.items()}
    bodies: list[tuple[onnx_ir.Graph | onnx_ir.Function, dict[str, int], tuple[str, ...]]] = [(model.graph, opsets, ())]
    bodies += [(f, _versions(f, opsets), (f.name,)) for f in model.functions.values()]
    for graph, versions, where in bodies:
        for node in onnx_ir.traversal.RecursiveGraphIterator(graph):
            yield node, node.version or versions.get(plain_domain(node.domain), 1), where


def describe(operator: str, why: str, places: Sequence[Location]) -> str:
    nodes = f"{len(places)} node{'s' if len(places) > 1 else ''}, first {places[0].name!r}"
    return f"{operator}: {nodes}{f': {why}' if why else ''}"


def _versions(function: onnx_ir.Function, outer: dict[str, int]) -> dict[str, int]:
    return {**outer, **{plain_domain(d): v for d, v in function.opset_imports.items()}}


def is_supported(domain: str, node: onnx_ir.Node, version: int) -> bool:
    if not onnx.defs.has(node.op_type, domain):
        return find_handler(domain, node.op_type, version) is not None
    try:
        schema: Any = onnx.defs.get_schema(node.op_type, version, domain)
    except onnx.defs.SchemaError:
        return False
    return (
        find_handler(domain, node.op_type, version) is not None
        or schema.has_function
        or schema.has_context_dependent_function
    )


def resolved(node: onnx_ir.Node, given: Mapping[str, onnx_ir.Attr]) -> list[onnx_ir.Attr]:
    """A node's attributes; one that refers to the call around it is what that has ``given``, or absent."""
    found: list[onnx_ir.Attr] = []
    for attr in node.attributes.values():
        told = given.get(attr.ref_attr_name or "") if attr.is_ref() else attr
        if told is not None:
            found.append(onnx_ir.Attr(attr.name, told.type, told.value) if attr.is_ref() else attr)
    return found


def node_proto(node: onnx_ir.Node, attrs: Iterable[onnx_ir.Attr]) -> onnx.NodeProto:
    """A node with these attributes in the place of its own, which may refer to a call around it."""
    proto = onnx_ir.serde.serialize_node(node)
    del proto.attribute[:]
    proto.attribute.extend(onnx_ir.serde.serialize_attribute(a) for a in attrs)
    return proto
