"""An artifact against the model that it was compiled from: outputs, and every layer on the way."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from .artifact import Artifact
from .difference import Difference, difference
from .ir.errors import MaiaError
from .ir.graph import Weight
from .observe import Source, open_observable

if TYPE_CHECKING:
    from .runtime.plan import Step

# Allowed per element where the caller gives nothing: |a - b| <= atol + rtol |b|.
TOLERANCES: dict[torch.dtype, tuple[float, float]] = {
    torch.float64: (1e-7, 1e-9),
    torch.float32: (1e-4, 1e-5),
    torch.float16: (1e-2, 1e-3),
    torch.bfloat16: (5e-2, 1e-2),
}


@dataclass(frozen=True, slots=True)
class Layer:
    """One place of the source's code: the last tensor that it makes, in artifact and source."""

    name: str
    op: str
    type: str
    difference: Difference
    order: int


@dataclass(frozen=True)
class Comparison:
    """What ``maiac compare`` found. ``judged``: whether outputs were held against tolerances at all."""

    engine: str
    outputs: list[Difference]
    layers: list[Layer] = field(default_factory=list[Layer])
    unmatched: int = 0
    judged: bool = True

    @property
    def fits(self) -> bool:
        """Whether every output is within its tolerances."""
        return not self.judged or all(d.fits for d in self.outputs)


def compare(
    artifact: Artifact,
    model: Any,
    inputs: Sequence[Any],
    *,
    rtol: float | None = None,
    atol: float | None = None,
    min_sqnr: float | None = None,
    layers: bool = False,
) -> Comparison:
    """Run both on the same flat inputs and measure the artifact against its source.

    rtol, atol: allowed per element; by default as the dtype allows, and not at all for quantized artifacts. min_sqnr:
    dB that every output must reach. MAIA0712 where the source's outputs or layers are not the artifact's.
    """
    source = open_observable(model, artifact)
    expected = source.run(inputs, observe=layers)
    found, matched = _run(artifact, inputs, source) if layers else (artifact.run(inputs), [])
    if len(expected) != len(found):
        raise MaiaError("MAIA0712", f"the source gives {len(expected)} outputs, the artifact {len(found)}")
    quantized = "quantize" in artifact.manifest.options or "kv_dtype" in artifact.manifest.options
    judged = not quantized or rtol is not None or atol is not None or min_sqnr is not None
    differences: list[Difference] = []
    for port, a, b in zip(artifact.outputs, found, expected, strict=True):
        r, t = tolerance(b, rtol, atol, only_sqnr=min_sqnr is not None and quantized)
        d = difference(port.name, a, b, rtol=r, atol=t)
        if min_sqnr is not None and not d.problem and d.sqnr < min_sqnr:
            d = replace(d, problem=f"SQNR {d.sqnr:.1f} dB is under {min_sqnr:g} dB")
        differences.append(d)
    seen = {layer.name for layer in matched}
    return Comparison(source.engine, differences, matched, len(source.seen.keys() - seen), judged)


def tolerance(
    reference: Any, rtol: float | None, atol: float | None, *, only_sqnr: bool = False
) -> tuple[float, float]:
    """The tolerances for one output: those given, or those of its dtype."""
    if rtol is not None or atol is not None:
        return rtol or 0.0, atol or 0.0
    if only_sqnr:
        return 0.0, math.inf
    return TOLERANCES.get(reference.dtype, (0.0, 0.0)) if isinstance(reference, torch.Tensor) else (0.0, 0.0)


def _run(artifact: Artifact, inputs: Sequence[Any], source: Source) -> tuple[list[Any], list[Layer]]:
    """Run the artifact observed; each place's last result of the source's shape is measured."""
    layers: dict[str, Layer] = {}
    places = _places(artifact, source)
    running = artifact.executor.run_observed(inputs)
    for order in itertools.count():
        try:
            step = next(running)
        except StopIteration as done:
            return done.value, sorted(layers.values(), key=lambda layer: layer.order)
        name = places[order] if places else step.loc.name or step.name
        reference = source.seen.get(name)
        if reference is None or not isinstance(step.value, torch.Tensor) or step.value.shape != reference.shape:
            continue
        layers[name] = Layer(name, step.op, str(step.type), difference(name, step.value, reference), order)
    raise AssertionError("a run ends by itself")


def _places(artifact: Artifact, source: Source) -> list[str]:
    """The place of each observed value, in order; nothing where the artifact's own locations say it.

    A function that stands for several layers carries the locations of the first. The source, compiled again without
    outlining, gives the same steps with their own ones.
    """
    if len(artifact.module.functions) == 1:
        return []
    from .passes.manager import parse_pipeline, run_pipeline
    from .runtime.plan import flatten

    pipeline = [p for p in parse_pipeline(artifact.manifest.pipeline) if p.name != "outline"]
    module = source.captured.module
    run_pipeline(module, pipeline, verify=False)
    apart = flatten(module, artifact.executor.placement).steps
    theirs, ours = _by_key(apart), _by_key(artifact.executor.program.steps)
    twins = {
        here: there
        for key, mine in ours.items()
        if len(mine) == len(theirs.get(key, ()))
        for here, there in zip(mine, theirs[key], strict=True)
    }
    return [
        twins[step].loc.name or slot.name if step in twins else ""
        for step in artifact.executor.program.steps
        for slot in step.results
        if not slot.absent
    ]


def _by_key(steps: Sequence[Step]) -> dict[object, list[Step]]:
    """Steps by what they are: operation and weights; alike steps stand in the same order in both programs."""
    found: dict[object, list[Step]] = {}
    for step in steps:
        weights = tuple(v.name for v in step.operands if isinstance(v, Weight))
        found.setdefault((step.op.name, weights), []).append(step)
    return found
