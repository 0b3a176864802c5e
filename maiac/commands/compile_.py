"""``maiac compile``"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console import JsonFlag, bytes_text, count_text, emit, facts, out, plural, progress, seconds_text
from .options import ModelArgument, PpOption, TpOption

if TYPE_CHECKING:
    from ..artifact import Artifact


def compile(
    model: ModelArgument,
    output: Annotated[str, typer.Option("--output", "-o", help="Where to write; a trailing / makes a directory.")] = "",
    target: Annotated[str, typer.Option(help="The chip to compile for; see `maiac targets`.")] = "host",
    quantize: Annotated[str | None, typer.Option(metavar="SCHEME", help="Quantize weights: fp8 or int8.")] = None,
    kv_dtype: Annotated[str | None, typer.Option(metavar="DTYPE", help="Type of KV caches, such as f8e4m3fn.")] = None,
    tp: TpOption = 1,
    pp: PpOption = 1,
    passes: Annotated[str | None, typer.Option(help="Another pipeline, such as 'fold,cse,dce'.")] = None,
    dump_ir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the text after every pass goes, and files that reproduce faults."),
    ] = None,
    link_weights: Annotated[
        bool, typer.Option("--link-weights", help="Leave weights in the files where they are.")
    ] = False,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Initialise a Hugging Face folder's model anew.")
    ] = False,
    golden: Annotated[
        bool | None, typer.Option("--golden/--no-golden", help="Store results for the self-test; by default if quick.")
    ] = None,
    require_fusion: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=N", help="Fail unless N such operations are found, as attention=12; repeatable."),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Compile a model into an artifact."""
    from ..driver import compile as compile_model

    required = required_fusions(require_fusion or [])
    start = time.perf_counter()
    path = output or default_output(model)
    require_other_file(model, path)
    with progress() as report:
        artifact = compile_model(
            model,
            target=target,
            quantize=quantize,
            kv_dtype=kv_dtype,
            mesh={"tp": tp, "pp": pp},
            passes=passes,
            dump_ir=dump_ir,
            random_weights=random_weights,
            require_fusion=required,
            progress=report,
        )
        manifest = artifact.save(path, golden=golden, link_weights=link_weights, progress=report)
    seconds = time.perf_counter() - start
    size = file_size(Path(path))
    if json:
        golden_origin = manifest.golden.get("origin") or manifest.golden.get("skipped")
        facts_of_file = {"path": path, "bytes": size, "seconds": seconds, "golden": golden_origin}
        emit({**facts_of_file, "pipeline": manifest.pipeline, **artifact.report})
        return
    out().print(f"[bold]{path}[/bold]  {bytes_text(size)}, compiled in {seconds_text(seconds)}\n", highlight=False)
    out().print(facts(describe(artifact)))


def required_fusions(texts: list[str]) -> dict[str, int]:
    """What --require-fusion asks for; bad usage where it is not NAME=NUMBER, MAIA0308 where a name is none."""
    from ..passes.fusion import parse_required
    from ..passes.fusion.required import check_names

    try:
        required = parse_required(texts)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--require-fusion") from None
    check_names(required)
    return required


def default_output(model: str) -> str:
    """``model.maia`` in the current folder, named after the source."""
    name = model.rpartition(":")[2] if not Path(model).exists() else Path(model).resolve().name
    stem = name.removesuffix(".onnx").removesuffix(".pt2")
    return f"{stem.removesuffix('.maia') + '-compiled' if stem.endswith('.maia') else stem}.maia"


def require_other_file(model: str, output: str) -> None:
    """MAIA0411 where the artifact would take the place of its own source."""
    from ..ir.errors import MaiaError

    source, target = Path(model), Path(output)
    if source.is_file() and target.is_file() and source.samefile(target):
        hint = f"write to another file: -o {default_output(model)}"
        raise MaiaError("MAIA0411", f"{output} is the source itself; it is not overwritten", hint=hint)


def file_size(path: Path) -> int:
    """Bytes of a file or of all files under a folder."""
    return path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


def describe(artifact: Artifact) -> list[tuple[str, Any]]:
    """The lines that a compilation ends with."""
    from rich.text import Text

    summary, pipeline = artifact.report["summary"], artifact.report["pipeline"]
    rows: list[tuple[str, Any]] = [
        ("inputs", ports_text(summary["inputs"])),
        ("outputs", ports_text(summary["outputs"])),
    ]
    if summary["symbols"]:
        rows.append(("dims", ", ".join(f"{n} in {r}" for n, r in summary["symbols"].items())))
    rows.append(("weights", weights_text(summary)))
    if summary["states"]:
        rows.append(("states", f"{bytes_text(summary['state_bytes'])} ({', '.join(summary['states'])})"))
    rows.append(("compute", flops_text(summary)))
    before = pipeline["passes"][0]["ops_before"] if pipeline["passes"] else summary["ops_in_program"]
    passes = plural(len(pipeline["passes"]), "pass", "passes")
    shape = f"{plural(before, 'op')} captured, {summary['ops_in_program']:,} after {passes}"
    if summary["functions"] > 1:
        shape += f", in {summary['functions']} functions"
    rows.append(("program", shape))
    if artifact.manifest.mesh:
        rows.append(("mesh", mesh_text(summary)))
    target = artifact.report["target"]
    rows += [("target", Text(f"{target['name']}: {warning}")) for warning in target["warnings"]]
    table = artifact.manifest.golden
    origin = {"example": "the example inputs", "random": "random inputs"}.get(table.get("origin", ""))
    rows.append(("self-test", f"results for {origin} are stored" if origin else f"none: {table.get('skipped')}"))
    for each in pipeline["passes"]:
        rows += [(each["text"].partition("{")[0], Text(note.splitlines()[0])) for note in each["notes"][:4] if note]
    return rows


def ports_text(ports: list[dict[str, str]]) -> Any:
    """Inputs or outputs, one a line; the first ten of many."""
    from rich.text import Text

    lines = [f"{p['name']}: {p['type']}" for p in ports[:10]]
    if len(ports) > 10:
        lines.append(f"and {len(ports) - 10} more")
    return Text("\n".join(lines) or "none")


def weights_text(summary: dict[str, Any]) -> str:
    """``25.6 M parameters, 97.5 MiB (f32)``"""
    if not summary["weights"]:
        return "none"
    split = ", ".join(f"{d} {bytes_text(r['bytes'])}" for d, r in list(summary["weights"].items())[:4])
    kinds = split if len(summary["weights"]) > 1 else next(iter(summary["weights"]))
    return f"{count_text(summary['parameters'])} parameters, {bytes_text(summary['weight_bytes'])} ({kinds})".replace(
        "[", r"\["
    )


def mesh_text(summary: dict[str, Any]) -> str:
    """``pp 1 or 2, tp 1, 2 or 4 ranks``"""
    from ..runtime.placement import sizes_text

    return "; ".join(f"{axis} = {sizes_text(sizes)}" for axis, sizes in summary["mesh_sizes"].items())


def flops_text(summary: dict[str, Any]) -> str:
    """``8.2 GFLOP at N = 1``"""
    at = ", ".join(f"{n} = {s}" for n, s in summary["flops_at"].items())
    more = "; parts whose size only a run tells count once" if summary["data_dependent"] else ""
    count = count_text(summary["flops"])
    unit = "FLOP" if count[-1].isalpha() else " FLOP"
    return f"{count}{unit}{' at ' + at if at else ''}{more}"
