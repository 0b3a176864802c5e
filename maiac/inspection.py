"""What ``maiac inspect`` tells about a model, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import plural
from .ir import Module
from .ir.opdef import bytes_of
from .report import costs_by_place, summarize
from .sources import kind_of
from .survey import Operator, Survey, faulty, place_json, survey

if TYPE_CHECKING:
    from .frontends.journal import Fault
    from .writer import Progress


def inspect_model(
    model: Any,
    sizes: Mapping[str, int] | None = None,
    *,
    verify: bool = False,
    trust: bool = False,
    reproducers: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """A model's operators and figures at ``sizes``; for an artifact its manifest as well.

    ``unsupported`` holds the error that compiling would end with, ``faults`` every place; figures are then those of the
    rest. reproducers: a folder for files that show the faults alone. What is no model at all raises its error.
    """
    kind = kind_of(model)
    if progress:
        progress("reading", 0, 0)
    artifact: dict[str, Any] | None = None
    if kind == "artifact":
        found, artifact = _artifact(Path(model), verify=verify, trust=trust, progress=progress)
    else:
        found = survey(model)
    operators = found.operators(sizes)
    error = found.error
    if error is not None and reproducers is not None:
        from .reproducers import write_reproducers

        write_reproducers(error, reproducers)
    return {
        "kind": found.kind,
        "verdict": verdict(found, operators),
        "unsupported": error and {"code": error.code, "message": error.message, "hint": error.hint},
        "faults": _faults(found),
        "reproducers": [str(path) for path in error.reproducers] if error is not None else [],
        "notes": found.notes,
        "artifact": artifact,
        "operators": [row.to_json() for row in operators],
        "modules": costs_by_place(found.module, sizes),
        "summary": summarize(found.module, sizes),
        "weights": weight_rows(found.module),
    }


def verdict(found: Survey, operators: list[Operator]) -> str:
    """``compiles``, or how much of the source keeps it from that."""
    if found.error is None:
        return "compiles"
    count, places = faulty(operators)
    others = {f.why for f in found.journal.faults if not f.operator} if found.journal is not None else ()
    parts = [f"cannot be traced at {plural(len(found.lines), 'line')}"] if found.lines else []
    if count:
        be = "are" if count > 1 else "is"
        parts.append(f"{plural(count, 'operator')} at {plural(places, 'place')} {be} not supported")
    if others:
        parts.append(plural(len(others), "other fault" if parts else "fault"))
    return ", ".join(parts) or found.error.message


def _faults(found: Survey) -> list[dict[str, Any]]:
    """What is wrong, by kind: the operator, why, what to write instead, and every place."""
    from .frontends.advice import advice_for

    if found.error is None or found.journal is None:
        return []
    rows = [_row(found.error.code, "", line, "", []) for line in found.lines]
    for (code, operator, why), faults in found.journal.groups().items():
        rows.append(_row(code, operator, why, advice_for(operator), faults))
    return rows


def _row(code: str, operator: str, why: str, advice: str, faults: list[Fault]) -> dict[str, Any]:
    places = [place_json(fault.loc) for fault in faults]
    return {"code": code, "operator": operator, "why": why, "advice": advice, "places": places}


def _artifact(path: Path, *, verify: bool, trust: bool, progress: Progress | None) -> tuple[Survey, dict[str, Any]]:
    from .runtime.loading import load_artifact

    loaded = load_artifact(path, verify=verify or None, trust=trust, progress=progress)
    manifest = asdict(loaded.manifest)
    kept = ("compiler", "source", "options", "pipeline", "convention", "mesh", "links", "golden", "entries")
    for arg, port in zip(loaded.module.main.args, loaded.manifest.inputs, strict=False):
        arg.name = port.name
    return Survey("artifact", loaded.module), {**{k: manifest[k] for k in kept}, "verified": loaded.verified}


def weight_rows(module: Module) -> dict[str, dict[str, Any]]:
    """Name -> type and bytes, for every weight and state."""
    everything = {**module.weights, **module.states}
    return {n: {"type": str(w.type), "bytes": bytes_of(w.type, {})} for n, w in everything.items()}
