"""What ONNX and ONNX Runtime themselves say about a node: how many operands and which attributes its operator has.

ONNX's checker looks at a whole model, but stops at the first operator that it does not know, and knows none of
com.microsoft. This looks at one node, with the attributes that a function's call gives it.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx_ir

import onnx

from .functions import type_proto
from .operators import node_proto
from .registry import plain_domain

if TYPE_CHECKING:
    from .context import NodeContext


# ONNX's inference of these reads types of operands that it may not have (onnx 1.23: a null pointer).
CRASHING = frozenset({"EyeLike", "RegexFullMatch", "DictVectorizer", "LabelEncoder", "TreeEnsemble"})


@dataclass(frozen=True)
class Form:
    """The numbers of operands and results that an operator may have, and its attributes."""

    inputs: tuple[int, int]  # least, most
    outputs: tuple[int, int]
    types: dict[str, onnx_ir.AttributeType]
    required: tuple[str, ...]


def form_faults(c: NodeContext) -> list[str]:
    """Everything in which a node is not of its operator's form; nothing where nobody describes the operator."""
    form = _form(plain_domain(c.node.domain), c.op, c.opset)
    if form is None:
        return []
    found = [_count_fault("input", len(c.node.inputs), form.inputs)]
    found.append(_count_fault("output", len(c.node.outputs), form.outputs))
    found += [f"the attribute {name!r} is missing" for name in form.required if name not in c.attrs]
    for name, attr in c.attrs.items():
        wanted = form.types.get(name, attr.type)
        if attr.type is not wanted:
            found.append(f"the attribute {name!r} is of type {attr.type.name}; expected {wanted.name}")
    return [fault for fault in found if fault]


def _count_fault(what: str, have: int, bounds: tuple[int, int]) -> str:
    least, most = bounds
    if least <= have <= most:
        return ""
    wanted = least if least == most else f"at least {least}" if have < least else f"at most {most}"
    return f"it has {have} {what}{'' if have == 1 else 's'}; expected {wanted}"


@functools.lru_cache(maxsize=2048)
def _form(domain: str, op: str, version: int) -> Form | None:
    if onnx.defs.has(op, domain):
        try:
            schema: Any = onnx.defs.get_schema(op, version, domain)
        except onnx.defs.SchemaError:
            return None
    else:
        known = [s for s in _runtime_schemas().get((domain, op), ()) if s.since_version <= version]
        if not known:
            return None
        schema = max(known, key=lambda s: s.since_version)
    return Form(
        (schema.min_input, schema.max_input),
        (schema.min_output, schema.max_output),
        {name: onnx_ir.AttributeType(int(a.type.value)) for name, a in schema.attributes.items()},
        tuple(name for name, a in schema.attributes.items() if a.required),
    )


@functools.cache
def _runtime_schemas() -> dict[tuple[str, str], list[Any]]:
    """ONNX Runtime's descriptions of operators by domain and name; none where its build leaves them out."""
    runtime = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    found: dict[tuple[str, str], list[Any]] = {}
    for schema in getattr(runtime, "get_all_operator_schema", list)():
        found.setdefault((schema.domain, schema.name), []).append(schema)
    return found


def inference_fault(c: NodeContext) -> str:
    """Why ONNX cannot tell the types of a node's results from those of its operands; empty where it can.

    It knows which dims and attributes fit together. Of operators outside ONNX, and of graphs, it knows nothing.
    """
    domain = plain_domain(c.node.domain)
    if not onnx.defs.has(c.op, domain) or c.op in CRASHING:
        return ""
    schema = onnx.defs.get_schema(c.op, c.opset, domain)
    try:
        onnx.shape_inference.infer_node_outputs(
            schema,
            node_proto(c.node, c.attrs.values()),
            {v.name: type_proto(c, i) for i, v in enumerate(c.node.inputs) if v is not None and v.name},
            opset_imports=[onnx.helper.make_opsetid(domain, c.opset)],
        )
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        return " ".join(str(error).split())
    return ""
