"""What a source consists of, whether or not it compiles: its operators one by one, and the program as far as it goes.

Nothing is run and no weight is read: factories and Hugging Face folders build their model on the meta device, external
data of ONNX files may be missing.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .ir import Module, get_op
from .ir.errors import Location, MaiaError
from .report import costs_of_ops
from .sources import call_factory, kind_of, open_source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.export import ExportedProgram

    from .frontends.journal import CaptureError, Journal


@dataclass
class Operator:
    """One operator of the source. ``becomes``: the Maia operations made for it; none where capture computed it."""

    name: str
    places: list[Location] = field(default_factory=list[Location])
    faults: int = 0
    reached: bool = True
    becomes: Counter[str] = field(default_factory=Counter[str])
    flops: int = 0

    @property
    def runs_on(self) -> str:
        """``device``, ``host`` (no accelerator will ever run it), ``compile time``, ``not reached``, ``not supported``.

        Not reached is what reads the results of a faulty operator, whose types are not known.
        """
        if self.faults:
            return "not supported"
        if not self.becomes:
            return "compile time" if self.reached else "not reached"
        return "host" if any(get_op(name).host for name in self.becomes) else "device"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "operator": self.name,
            "count": len(self.places),
            "supported": not self.faults,
            "runs_on": self.runs_on,
            "becomes": dict(self.becomes),
            "flops": self.flops,
            "places": [place_json(p) for p in self.places],
        }


@dataclass
class Survey:
    """``module`` lacks what the faults in ``error`` kept out; ``operators`` is empty where the source is Maia text."""

    kind: str
    module: Module
    journal: Journal | None = None
    error: CaptureError | None = None
    lines: tuple[str, ...] = ()  # where tracing fails
    notes: list[str] = field(default_factory=list[str])

    def operators(self, sizes: Mapping[str, int] | None = None) -> list[Operator]:
        """Every operator: those that are not supported first, then by FLOPs at ``sizes`` and count."""
        if self.journal is None:
            return []
        reached = self.journal.reached
        found = {n: Operator(n, list(places), reached=n in reached) for n, places in self.journal.places.items()}
        for fault in self.journal.faults:
            if (row := found.get(fault.operator.partition(" (opset")[0])) is not None:
                row.faults += 1
        for op, flops in costs_of_ops(self.module, sizes):
            row = found.get(self.journal.operator_of(op) or "")
            if row is not None:
                row.becomes[op.name] += 1
                row.flops += flops
        return sorted(found.values(), key=lambda r: (not r.faults, -r.flops, -len(r.places), r.name))


def place_json(place: Location) -> dict[str, Any]:
    """A place as plain values."""
    return {"name": place.name, "file": place.file, "line": place.line}


def survey(model: Any) -> Survey:
    """Look through a model of any kind that compile takes. Raises what says that it is no model at all."""
    kind = kind_of(model)
    if kind in ("onnx", "onnx proto"):
        return _survey_onnx(model, kind)
    if kind == "factory":
        return _survey_factory(str(model))
    if kind == "huggingface":
        return _survey_folder(Path(model))
    if kind in ("exported", "pt2"):
        from .frontends.exported import export

        return _survey_program(export(Path(model) if kind == "pt2" else model).program, kind)
    return Survey(kind, open_source(model).module)


def _survey_onnx(model: Any, kind: str) -> Survey:
    from .frontends.onnx.importer import survey_onnx

    found = survey_onnx(Path(os.fspath(model)) if kind == "onnx" else model, graph_only=True)
    made = Survey(kind, found.module, found.journal, found.journal.error())
    if found.missing:
        files = f"{len(found.missing)} weights are" if len(found.missing) > 1 else "a weight is"
        made.notes.append(f"{files} in files that are not there: judged by the graph alone")
    return made


def _survey_factory(text: str) -> Survey:
    import torch

    call_parts = text.partition(":")
    _import_plainly(call_parts[0])
    try:
        with torch.device("meta"):
            return _survey_made(call_factory(text))
    except Exception:  # it reads values, or mixes devices: build it as it is
        return _survey_made(call_factory(text))


def _import_plainly(name: str) -> None:
    """Import a module before the meta device is the default, so that what it holds is real; faults come later."""
    import contextlib
    import importlib
    import sys

    if "" not in sys.path:
        sys.path.insert(0, "")
    with contextlib.suppress(Exception):
        importlib.import_module(name)


def _survey_made(made: tuple[Any, tuple[Any, ...], dict[str, Any], Any]) -> Survey:
    model, args, kwargs, shapes = made
    if kind_of(model) != "module":
        found = survey(model)
        found.kind = "factory"
        return found
    return _survey_module(model, args, kwargs, shapes, "factory")


def _survey_folder(path: Path) -> Survey:
    from .sources import need

    need("transformers", "a Hugging Face folder", "pip install 'maiac[hf]'")
    import torch

    from .frontends.huggingface import load_folder, load_skeleton

    try:
        with torch.device("meta"):
            return _survey_module(*load_skeleton(path), "huggingface")
    except MaiaError as error:
        if not error.code.startswith("MAIA020"):
            raise
    return _survey_module(*load_folder(path, random_weights=not any(path.glob("*.safetensors"))), "huggingface")


def _survey_module(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], shapes: Any, kind: str) -> Survey:
    from .frontends.exported import export
    from .frontends.trace_errors import TraceError

    try:
        exported = export(model, args, kwargs, dynamic_shapes=shapes)
    except TraceError as error:
        if error.rest is None:
            raise
        found = Survey(kind, error.rest.module, error.rest.journal, error, error.lines)
        found.notes.append("operators and figures are those of the way that the example inputs take")
        return found
    return _survey_program(exported.program, kind, exported.names)


def _survey_program(program: ExportedProgram, kind: str, names: Mapping[str, str] | None = None) -> Survey:
    from .frontends.exported import survey_exported

    found = survey_exported(program, names=names)
    return Survey(kind, found.module, found.journal, found.journal.error())


def faulty(operators: list[Operator]) -> tuple[int, int]:
    """How many operators are not supported, and at how many places."""
    rows = [row for row in operators if row.faults]
    return len(rows), sum(row.faults for row in rows)
