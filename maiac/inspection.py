"""What ``maiac inspect`` tells about a model, as plain values."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .ir import Module
from .ir.errors import MaiaError
from .ir.opdef import bytes_of
from .report import summarize
from .sources import kind_of, open_source

if TYPE_CHECKING:
    from .writer import Progress


def inspect_model(
    model: Any,
    sizes: Mapping[str, int] | None = None,
    *,
    verify: bool = False,
    trust: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """A model's summary; for an artifact its manifest as well; for one that cannot be represented, why.

    ``unsupported`` holds the error where capture fails for what the model does (MAIA02xx); other errors are raised.
    """
    kind = kind_of(model)
    found: dict[str, Any] = {"kind": kind, "artifact": None, "unsupported": None, "source_ops": {}, "weights": {}}
    if progress:
        progress("reading", 0, 0)
    if kind == "artifact":
        from .runtime.loading import load_artifact

        loaded = load_artifact(Path(model), verify=verify or None, trust=trust, progress=progress)
        manifest = asdict(loaded.manifest)
        kept = ("compiler", "source", "options", "pipeline", "convention", "mesh", "links", "golden", "entries")
        found["artifact"] = {**{k: manifest[k] for k in kept}, "verified": loaded.verified}
        module = loaded.module
        for arg, port in zip(module.main.args, loaded.manifest.inputs, strict=False):
            arg.name = port.name
    else:
        try:
            module = open_source(model).module
        except MaiaError as e:
            if not e.code.startswith("MAIA02"):
                raise
            found["unsupported"] = {"code": e.code, "message": e.message, "details": list(e.details), "hint": e.hint}
            found["source_ops"] = source_ops(model, kind)
            return found
    found["summary"] = summarize(module, sizes)
    found["weights"] = weight_rows(module)
    return found


def weight_rows(module: Module) -> dict[str, dict[str, Any]]:
    """Name -> type and bytes, for every weight and state."""
    everything = {**module.weights, **module.states}
    return {n: {"type": str(w.type), "bytes": bytes_of(w.type, {})} for n, w in everything.items()}


def source_ops(model: Any, kind: str) -> dict[str, int]:
    """The operators of an ONNX file by how often they stand there, most frequent first; nothing for other kinds."""
    if kind not in ("onnx", "onnx proto"):
        return {}
    import onnx

    proto = onnx.load(os.fspath(model), load_external_data=False) if kind == "onnx" else model
    counts: Counter[str] = Counter()
    graphs = [proto.graph]
    while graphs:
        for node in graphs.pop().node:
            counts[f"{node.domain}.{node.op_type}" if node.domain else node.op_type] += 1
            graphs += [a.g for a in node.attribute if a.HasField("g")]
    return dict(counts.most_common())
