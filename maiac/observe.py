"""Running a source model with every intermediate value in sight: the reference side of ``maiac compare --layers``."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.utils._pytree as pytree

from .ir.errors import MaiaError
from .mutation import mutated
from .sources import Captured, open_source
from .tensors import from_numpy, to_numpy

if TYPE_CHECKING:
    import onnx
    from torch.export import ExportedProgram

    from .artifact import Artifact

MOST_ONNX_BYTES = 2**31 - 1  # of a model in memory: protobuf's limit


class Source(Protocol):
    """A model that can be run on flat inputs. ``seen``: place in the source's code -> the last tensor made there."""

    engine: str
    captured: Captured
    seen: dict[str, torch.Tensor]

    def run(self, inputs: Sequence[Any], *, observe: bool) -> list[Any]:
        """The flat outputs; with ``observe`` it fills ``seen``."""
        ...


def open_observable(model: Any, artifact: Artifact) -> Source:
    """The source of an artifact, ready to run; MAIA0712 where this kind of model cannot."""
    captured: Captured = open_source(model, random_weights=artifact.manifest.source.get("weights") == "random")
    if isinstance(captured.original, torch.export.ExportedProgram):
        return TorchSource(captured, artifact)
    if captured.source.get("kind") == "onnx" or isinstance(captured.original, Path):
        return OnnxSource(captured, [p.name for p in artifact.inputs])
    return IrSource(captured)


class TorchSource:
    """An exported program, run node by node by torch itself."""

    engine = "PyTorch eager"

    def __init__(self, captured: Captured, artifact: Artifact) -> None:
        self.captured = captured
        program: ExportedProgram = captured.original
        self.module = program.module()
        if program.graph_signature.buffers_to_mutate:
            self.module = copy.deepcopy(self.module)  # its buffers change while it runs
        self.manifest = artifact.manifest
        self.mutates = mutated(artifact.module)
        self.seen: dict[str, torch.Tensor] = {}

    def run(self, inputs: Sequence[Any], *, observe: bool) -> list[Any]:
        """See Source."""
        from .runtime import tree

        if self.manifest.convention != "torch":
            raise MaiaError("MAIA0712", "the artifact was not compiled from a PyTorch model")
        given = [_cloned(v) for v in inputs]
        args, kwargs = tree.unflatten(self.manifest.in_tree, given)
        with torch.no_grad():
            if not observe:
                made = self.module(*args, **kwargs)
            else:
                flat = pytree.tree_leaves((args, kwargs))
                runner = _Watcher(self.module, self.seen)
                leaves = runner.run(*flat, enable_io_processing=False)
                made = self.module.graph.process_outputs(leaves)
        return [*tree.flatten(self.manifest.out_tree, made), *(given[at] for at, _ in self.mutates)]


class _Watcher(torch.fx.Interpreter):
    """Notes the last tensor made at every place of the model's code."""

    def __init__(self, module: Any, seen: dict[str, torch.Tensor]) -> None:
        super().__init__(module)
        self.seen = seen

    def run_node(self, n: torch.fx.Node) -> Any:
        from .frontends.locations import location_of

        value = super().run_node(n)
        if n.op == "call_function" and isinstance(value, torch.Tensor):
            self.seen[location_of(n).name or n.name] = value
        return value


class OnnxSource:
    """An ONNX model, run by ONNX Runtime; by onnx's own reference evaluator where that cannot."""

    engine = "ONNX Runtime"

    def __init__(self, captured: Captured, names: Sequence[str]) -> None:
        self.captured = captured
        self.model: Path | onnx.ModelProto = captured.original
        self.names = names
        self.seen: dict[str, torch.Tensor] = {}

    def run(self, inputs: Sequence[Any], *, observe: bool) -> list[Any]:
        """See Source."""
        feeds = {n: to_numpy(v) for n, v in zip(self.names, inputs, strict=True) if v is not None}
        proto = self._proto() if observe else None
        wanted = [o.name for o in proto.graph.output] if proto is not None else None
        inner = _named_outputs(proto) if proto is not None else {}
        try:
            values = self._runtime(proto, [*(wanted or []), *inner] if proto is not None else None, feeds)
        except _CannotRun as e:
            self.engine = "the onnx reference evaluator"
            values = self._reference(proto, [*(wanted or []), *inner] if proto is not None else None, feeds, str(e))
        count = len(wanted) if wanted is not None else len(values)
        outputs = [from_numpy(v) if not isinstance(v, list) else [from_numpy(x) for x in v] for v in values[:count]]
        everything = dict(zip([*(wanted or []), *inner], values, strict=False))
        places = {**inner, **(_places(proto) if proto is not None else {})}
        for name, place in places.items():
            tensor = from_numpy(everything[name]) if name in everything and hasattr(everything[name], "dtype") else None
            if isinstance(tensor, torch.Tensor):
                self.seen[place] = tensor
        return outputs

    def _proto(self) -> onnx.ModelProto:
        import onnx

        if not isinstance(self.model, Path):
            copied = onnx.ModelProto()
            copied.CopyFrom(self.model)
            return copied
        loaded = onnx.load(self.model)
        if loaded.ByteSize() > MOST_ONNX_BYTES:
            raise MaiaError("MAIA0712", f"{self.model} is larger than 2 GiB: its layers cannot be observed")
        return loaded

    def _runtime(self, proto: onnx.ModelProto | None, outputs: list[str] | None, feeds: dict[str, Any]) -> list[Any]:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 4
        if proto is not None:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        states: Any = import_module("onnxruntime.capi.onnxruntime_pybind11_state")  # its exceptions live nowhere else
        refused = (states.NotImplemented, states.InvalidGraph, states.Fail, states.InvalidArgument)
        try:
            session = ort.InferenceSession(self._bytes(proto, outputs), options, providers=["CPUExecutionProvider"])
            return list(session.run(outputs, feeds))
        except refused as e:
            raise _CannotRun(str(e).strip().splitlines()[0]) from None

    def _bytes(self, proto: onnx.ModelProto | None, outputs: list[str] | None) -> Any:
        import onnx

        if proto is None:
            return str(self.model) if isinstance(self.model, Path) else self.model.SerializeToString()
        watched = onnx.ModelProto()
        watched.CopyFrom(proto)
        there = {o.name for o in watched.graph.output}
        watched.graph.output.extend(onnx.ValueInfoProto(name=n) for n in outputs or [] if n not in there)
        return watched.SerializeToString()

    def _reference(
        self, proto: onnx.ModelProto | None, outputs: list[str] | None, feeds: dict[str, Any], reason: str
    ) -> list[Any]:
        from onnx.reference import ReferenceEvaluator

        try:
            evaluator = ReferenceEvaluator(proto or (str(self.model) if isinstance(self.model, Path) else self.model))
            if outputs is None:
                return list(evaluator.run(None, feeds))
            everything = evaluator.run(None, feeds, intermediate=True)
            return [everything.get(n) for n in outputs]  # pyright: ignore[reportAttributeAccessIssue]
        except Exception as e:  # the evaluator raises whatever its NumPy code does
            details = [f"ONNX Runtime: {reason}", f"reference evaluator: {type(e).__name__}: {e}"]
            raise MaiaError("MAIA0712", "the ONNX source cannot be run", details=details) from e


class _CannotRun(Exception):
    """ONNX Runtime refuses the model."""


def _named_outputs(proto: onnx.ModelProto) -> dict[str, str]:
    """Value -> place, for every value of the main graph that is no output."""
    there = {o.name for o in proto.graph.output}
    return {n: p for n, p in _places(proto).items() if n not in there}


def _places(proto: onnx.ModelProto) -> dict[str, str]:
    """Value -> the place that made it, named as the importer names locations: the node, or its first output."""
    places: dict[str, str] = {}
    for node in proto.graph.node:
        for name in node.output:
            if name:
                places[name] = node.name or name
    return places


class IrSource:
    """Maia text: run as it is, before any pass."""

    engine = "the program before passes"

    def __init__(self, captured: Captured) -> None:
        self.captured = captured
        self.seen: dict[str, torch.Tensor] = {}

    def run(self, inputs: Sequence[Any], *, observe: bool) -> list[Any]:
        """See Source."""
        from .runtime.executor import Executor

        running = Executor(self.captured.module).run_observed(inputs)
        while True:
            try:
                step = next(running)
            except StopIteration as done:
                return done.value
            if observe and isinstance(step.value, torch.Tensor):
                self.seen[step.loc.name or step.name] = step.value


def _cloned(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value
