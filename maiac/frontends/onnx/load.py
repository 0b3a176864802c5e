"""From a file or proto to an onnx-ir model that is checked, converted and typed by ONNX's own tools."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator
from pathlib import Path
from typing import Any, TypeAlias

import onnx_ir
from google.protobuf.message import DecodeError

import onnx
from maiac.ir.errors import MaiaError

from .schema import CRASHING

Source: TypeAlias = "onnx.ModelProto | str | Path"

# From this opset on handlers read older forms of operators, more faithfully than ONNX's version converter turns them
# into newer ones (it leaves the slope of a PRelu as it is, say). What is older still goes through the converter.
OLDEST = 6
WHOLE = 2**26  # bytes; a larger model is checked without the contents of its initializers
_log = logging.getLogger(__name__)
_UNKNOWN_OP = ("No Op registered for", "No opset import for domain", "is not a registered function/op")


def load_model(source: Source) -> onnx_ir.Model:
    """Read, check, convert very old opsets, and infer shapes.

    Errors: MAIA0221 not a model file, MAIA0223 a model that breaks ONNX's rules, MAIA0224 an opset that is too new.
    """
    proto, folder = (source, None) if isinstance(source, onnx.ModelProto) else _read(Path(source))
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise MaiaError("MAIA0221", "the file holds no ONNX graph")
    _check_opsets(proto)
    _check(proto)
    proto = _converted(proto)
    try:
        model = onnx_ir.serde.deserialize_model(proto)
    except Exception as error:
        raise MaiaError("MAIA0223", f"the model cannot be read: {_first_line(error)}") from error
    if folder is not None:
        onnx_ir.external_data.set_base_dir(model.graph, folder)
    return _with_shapes(model)


def _read(path: Path) -> tuple[onnx.ModelProto, Path]:
    if not path.is_file():
        raise MaiaError("MAIA0221", f"there is no file {path}")
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError, OSError, RuntimeError) as error:
        raise MaiaError("MAIA0221", f"{path} is not an ONNX model: {_first_line(error)}") from error
    return proto, path.resolve().parent


def _check_opsets(proto: onnx.ModelProto) -> None:
    if not proto.opset_import:
        raise MaiaError("MAIA0223", "the model names no operator set (opset_import is empty)")
    newest = onnx.defs.onnx_opset_version()
    for entry in proto.opset_import:
        if entry.domain in ("", "ai.onnx") and entry.version > newest:
            raise MaiaError(
                "MAIA0224", f"the model asks for opset {entry.version}; onnx {onnx.__version__} knows up to {newest}"
            )


def _check(proto: onnx.ModelProto) -> None:
    """ONNX's checker, on a copy without large contents. Operators that it does not know are reported later."""
    light = onnx.ModelProto()
    if proto.ByteSize() < WHOLE:
        light.CopyFrom(proto)
    else:
        _copy_light(proto, light)
    for tensor in light.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]
            tensor.raw_data = b""
            tensor.dims[:] = [0]
    for value in (*light.graph.input, *light.graph.output):
        # What has no type or shape is inferred, or reported by the importer with all others of its kind.
        if not value.type.WhichOneof("value"):
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        if value.type.WhichOneof("value") == "tensor_type":
            value.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(light)
    except Exception as error:
        message = str(error)
        if any(known in message for known in _UNKNOWN_OP):
            return
        raise MaiaError("MAIA0223", f"ONNX's checker refuses the model: {_in_one_line(error)}") from error


def _copy_light(proto: onnx.ModelProto, light: onnx.ModelProto) -> None:
    """Copy all but the contents of large initializers."""
    _copy_fields(proto, light, "graph")
    _copy_fields(proto.graph, light.graph, "initializer")
    for tensor in proto.graph.initializer:
        if tensor.ByteSize() < 4096:
            light.graph.initializer.append(tensor)
        else:
            light.graph.initializer.add(name=tensor.name, data_type=tensor.data_type).dims.append(0)


def _copy_fields(source: Any, target: Any, leave: str) -> None:
    """Copy all fields of a message but one."""
    for field, value in source.ListFields():
        if field.name == leave:
            continue
        if field.is_repeated:
            getattr(target, field.name).extend(value)
        elif field.message_type is None:
            setattr(target, field.name, value)
        else:
            getattr(target, field.name).CopyFrom(value)


def _converted(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model in opset 13, where it is older than handlers read and ONNX's converter manages."""
    version = next((e.version for e in proto.opset_import if e.domain in ("", "ai.onnx")), OLDEST)
    if version >= OLDEST:
        return proto
    try:
        return onnx.version_converter.convert_version(proto, 13)
    except Exception as error:
        _log.info("opset %d is imported as it is: %s", version, _first_line(error))
        return proto


def _with_shapes(model: onnx_ir.Model) -> onnx_ir.Model:
    """The model with ONNX's inferred types: they tell what the file alone does not, such as ranks of branches."""
    from onnx_ir.passes.common import ShapeInferencePass

    try:
        with _hidden(model):
            return ShapeInferencePass(strict_mode=False, data_prop=True)(model).model
    except Exception as error:
        _log.info("ONNX's shape inference gave up: %s", _first_line(error))
        return model


@contextlib.contextmanager
def _hidden(model: onnx_ir.Model) -> Generator[None]:
    """Keep ONNX's inference from nodes at which it ends the process where it has no type of an operand."""
    graphs = [model.graph, *model.functions.values()]
    nodes = [n for g in graphs for n in onnx_ir.traversal.RecursiveGraphIterator(g) if n.op_type in CRASHING]
    domains = [n.domain for n in nodes]
    for node in nodes:
        node.domain = "maiac.hidden"
    try:
        yield
    finally:
        for node, domain in zip(nodes, domains, strict=True):
            node.domain = domain


def _in_one_line(error: BaseException) -> str:
    """A message whose sentences go over several lines."""
    return " ".join(str(error).partition("==> Context")[0].split())


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
