"""``maiac compare``"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ..console import JsonFlag, decibels, emit, out, plural, progress, table
from .options import ArtifactArgument, DimOption, InputOption, SeedOption, TrustFlag, read_dims

if TYPE_CHECKING:
    from ..compare import Comparison
    from ..difference import Difference


DIFFER = "MAIA0710"  # the number under which `maiac explain` says what to do


class Order(StrEnum):
    """How layers are listed."""

    worst = "worst"
    program = "program"


def compare(
    artifact: ArtifactArgument,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="The source: .onnx, .pt2, Hugging Face folder, factory.")
    ],
    input: InputOption = [],  # noqa: B006  (typer reads the default)
    seed: SeedOption = 0,
    dim: DimOption = [],  # noqa: B006
    rtol: Annotated[float | None, typer.Option(min=0, help="Allowed difference, relative to the element.")] = None,
    atol: Annotated[float | None, typer.Option(min=0, help="Allowed difference of an element.")] = None,
    min_sqnr: Annotated[
        float | None, typer.Option(metavar="DB", help="Signal to noise that every output must reach.")
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Measure every layer too.")] = False,
    order: Annotated[Order, typer.Option(help="List layers worst first or in program order.")] = Order.worst,
    top: Annotated[int, typer.Option(min=1, help="List so many layers.")] = 20,
    trust: TrustFlag = False,
    json: JsonFlag = False,
) -> None:
    """Compare an artifact's results with its source's.

    Without --input both run on the inputs stored in the artifact, or on random ones.
    """
    from ..artifact import load
    from ..compare import compare as compare_models
    from .run import choose_inputs, require_artifact

    require_artifact(artifact)
    with progress() as report:
        report("loading", 0, 0)
        loaded = load(artifact, trust=trust, progress=report)
        stored = not input and not dim and not seed and "inputs" in loaded.manifest.golden
        inputs = loaded.golden()[0] if stored else choose_inputs(loaded, input, not input, seed, read_dims(dim))
        report("running both", 0, 0)
        found = compare_models(loaded, model, inputs, rtol=rtol, atol=atol, min_sqnr=min_sqnr, layers=layers)
    if json:
        emit(_plain(found, order))
    else:
        _show(found, order, top, "the stored inputs" if stored else "given inputs" if input else "random inputs")
    if not found.fits:
        raise typer.Exit(1)


def _plain(found: Comparison, order: Order) -> dict[str, object]:
    listed = _ordered(found, order)
    rows = [{"name": x.name, "op": x.op, "type": x.type, **x.difference.to_json()} for x in listed]
    return {
        "engine": found.engine,
        "judged": found.judged,
        "fits": found.fits,
        "code": None if found.fits else DIFFER,
        "outputs": [d.to_json() for d in found.outputs],
        "layers": rows,
        "unmatched_layers": found.unmatched,
    }


def _ordered(found: Comparison, order: Order) -> list:  # type: ignore[type-arg]
    from ..difference import badness

    if order is Order.program:
        return found.layers
    return sorted(found.layers, key=lambda layer: badness(layer.difference), reverse=True)


def _show(found: Comparison, order: Order, top: int, inputs: str) -> None:
    from rich.markup import escape

    figures = ["max abs", "max rel", "SQNR, dB", "cosine"]
    listed = table("output", *figures, "", right=figures)
    for d in found.outputs:
        listed.add_row(escape(d.name), *_figures(d), _verdict(d, judged=found.judged))
    out().print(listed)
    if found.layers:
        figures.remove("max rel")  # near zero it says nothing, and there are many zeros
        listed = table("layer", "op", "type", *figures, right=figures, wrap=["layer", "type"])
        for layer in _ordered(found, order)[:top]:
            max_abs, _, *others = _figures(layer.difference)
            listed.add_row(escape(layer.name), layer.op, escape(layer.type), max_abs, *others)
        out().print(listed)
        more = max(0, len(found.layers) - top)
        out().print(
            f"[dim]{plural(len(found.layers), 'layer')} measured"
            + (f", {more} not shown (--top)" if more else "")
            + (f", {found.unmatched} of the source have no counterpart" if found.unmatched else "")
            + "[/dim]"
        )
    if not found.judged:
        verdict = "[yellow]not judged[/yellow]: the artifact is quantized; give --min-sqnr, --rtol or --atol"
    else:
        verdict = "[green]agree[/green]" if found.fits else f"[red]differ[/red] ({DIFFER})"
    out().print(f"{verdict}  [dim]against {found.engine}, on {inputs}[/dim]")


def _figures(d: Difference) -> list[str]:
    if d.problem and not d.elements:
        return ["", "", "", ""]
    return [f"{d.max_abs:.3g}", f"{d.max_rel:.3g}", decibels(d.sqnr), f"{d.cosine:.6f}"]


def _verdict(d: Difference, *, judged: bool) -> str:
    if d.problem:
        return f"[red]{d.problem}[/red]"
    if not judged:
        return ""
    return "[green]within[/green]" if d.fits else f"[red]over by {d.excess:.3g}[/red]"
