"""``maiac run``"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console import JsonFlag, bytes_text, decibels, emit, err, out, plural, progress, seconds_text, table
from .options import (
    ArtifactArgument,
    DimOption,
    InputOption,
    PpOption,
    RandomOption,
    SeedOption,
    TpOption,
    TrustFlag,
    read_dims,
)
from .ranks import Job, RankResult, rank_rows, run_ranks

if TYPE_CHECKING:
    from ..artifact import Artifact


def run(
    artifact: ArtifactArgument,
    input: InputOption = [],  # noqa: B006  (typer reads the default)
    random: RandomOption = False,
    seed: SeedOption = 0,
    dim: DimOption = [],  # noqa: B006
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the outputs: .npz, .npy, .safetensors.")
    ] = None,
    self_test: Annotated[bool, typer.Option("--self-test", help="Check checksums and the stored results.")] = False,
    nproc: Annotated[int, typer.Option("--nproc", min=1, help="Start so many ranks on this machine.")] = 1,
    tp: TpOption = 1,
    pp: PpOption = 1,
    trust: TrustFlag = False,
    json: JsonFlag = False,
) -> None:
    """Run an artifact and show its outputs."""
    if self_test:
        _self_test(artifact, trust=trust, as_json=json)
        return
    require_artifact(artifact)
    mesh = {a: n for a, n in (("pp", pp), ("tp", tp)) if n > 1}
    job = Job(artifact, input, random, seed, read_dims(dim), mesh, trust)
    ranks = max(nproc, pp * tp)
    if ranks > 1 or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        results = run_ranks(job, ranks)
    else:
        results = [_run_here(job)]
    if results is None:
        return  # rank 0 of torchrun speaks for all
    first = results[0]
    if output is not None:
        from ..inputs import write_tensors

        write_tensors(output, tensors_of(first.names, first.values))
    if json:
        shown = {n: plain_output(v) for n, v in zip(first.names, first.values, strict=True)}
        emit({"seconds": first.seconds, "outputs": shown, "ranks": rank_rows(results)})
        return
    show_outputs(first.names, first.values)
    if len(results) > 1:
        _show_ranks(results)
    where = f", written to {output}" if output is not None else ""
    out().print(f"[dim]ran in {seconds_text(max(r.seconds for r in results))}{where}[/dim]")


def _show_ranks(results: list[RankResult]) -> None:
    listed = table("rank", "at", "weights held", "resident", right=["rank", "weights held", "resident"])
    for row in rank_rows(results):
        at = ", ".join(f"{a} = {n}" for a, n in row["at"].items())
        listed.add_row(str(row["rank"]), at, bytes_text(row["weight_bytes"]), bytes_text(row["resident_bytes"]))
    out().print(listed)


def _run_here(job: Job) -> RankResult:
    from ..artifact import load
    from ..runtime.distributed import resident_bytes

    with progress() as report:
        report("loading", 0, 0)
        loaded = load(job.path, trust=job.trust, progress=report)
        inputs = choose_inputs(loaded, job.files, job.random, job.seed, job.dims)
        report("running", 0, 0)
        loaded.executor.prepare()
        start = time.perf_counter()
        values = loaded.run(inputs)
        seconds = time.perf_counter() - start
    names = [p.name for p in loaded.outputs]
    return RankResult(0, {}, names, values, seconds, loaded.executor.weight_bytes(), resident_bytes())


def require_artifact(path: str) -> None:
    """MAIA0706 where a source model is given in an artifact's place."""
    from ..ir.errors import MaiaError
    from ..sources import kind_of

    if (kind := kind_of(path)) != "artifact":
        hint = f"compile it first: maiac compile {path}"
        raise MaiaError("MAIA0706", f"{path} is a source model ({kind}), not an artifact", hint=hint)


def choose_inputs(artifact: Artifact, files: list[str], random: bool, seed: int, dims: dict[str, int]) -> list[Any]:
    """Flat inputs: from files, or random. MAIA0416 where neither is asked for and there are inputs."""
    from ..inputs import choose_sizes, random_inputs, read_inputs
    from ..ir.errors import MaiaError

    if files and random:
        raise MaiaError("MAIA0706", "--input and --random exclude each other")
    if files:
        return read_inputs(artifact.module, files)
    if not random and artifact.inputs:
        listed = [f"{p.name}: {p.type}" for p in artifact.inputs]
        hint = "give them with --input FILE, or use --random"
        raise MaiaError("MAIA0416", "the model takes inputs, and none are given", details=listed, hint=hint)
    return random_inputs(artifact.module, choose_sizes(artifact.module, dims), seed)


# **** outputs ****


def show_outputs(names: list[str], values: list[Any]) -> None:
    """A table: type, range, first elements."""
    listed = table("output", "type", "min", "mean", "max", "first elements", right=["min", "mean", "max"])
    for name, value in zip(names, values, strict=True):
        row = plain_output(value)
        figures = [f"{row[k]:.4g}" if row.get(k) is not None else "" for k in ("min", "mean", "max")]
        first = row.get("first", row.get("value"))
        shown = (
            "  ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in first)
            if isinstance(first, list)
            else str(first)
        )
        listed.add_row(name, row["type"].replace("[", r"\["), *figures, shown)
    out().print(listed)


def plain_output(value: Any) -> dict[str, Any]:
    """What is shown of an output: type, range, and the first elements."""
    import torch

    if isinstance(value, list):
        return {"type": f"list of {len(value)}", "value": [plain_output(v) for v in value]}  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(value, torch.Tensor):
        return {
            "type": type(value).__name__,
            "value": value if isinstance(value, (int, float, str, bool)) else str(value),
        }
    from ..ir.ops.values import FROM_TORCH

    kind = f"{FROM_TORCH[value.dtype]}[{', '.join(map(str, value.shape))}]"
    if not value.numel() or value.is_complex():
        return {"type": kind, "first": [str(v) for v in value.flatten()[:4].tolist()]}
    wide = value.to(torch.float64)
    row = {"min": float(wide.min()), "mean": float(wide.mean()), "max": float(wide.max())}
    return {
        "type": kind,
        **row,
        "first": value.flatten()[:4].to(wide.dtype if value.is_floating_point() else value.dtype).tolist(),
    }


def tensors_of(names: list[str], values: list[Any]) -> dict[str, Any]:
    """The outputs that a file of tensors can hold, by name; sequences are numbered."""
    import torch

    found: dict[str, Any] = {}
    for name, value in zip(names, values, strict=True):
        if isinstance(value, torch.Tensor):
            found[name] = value
        elif isinstance(value, list):
            found |= tensors_of([f"{name}.{i}" for i in range(len(value))], value)  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(value, (bool, int, float)):
            found[name] = torch.tensor(value)
    return found


# **** self-test ****


def _self_test(path: str, *, trust: bool, as_json: bool) -> None:
    from ..artifact import load

    with progress() as report:
        start = time.perf_counter()
        loaded = load(path, verify=True, trust=trust, progress=report)
        report("running the golden inputs", 0, 0)
        differences = loaded.self_test()
        seconds = time.perf_counter() - start
    if as_json:
        emit({"passed": True, "seconds": seconds, "outputs": [d.to_json() for d in differences]})
        return
    listed = table("output", "elements", "max difference", "SQNR, dB", right=["elements", "max difference", "SQNR, dB"])
    for d in differences:
        listed.add_row(d.name, f"{d.elements:,}", f"{d.max_abs:.3g}", decibels(d.sqnr))
    out().print(listed)
    out().print(
        f"[green]passed[/green]: every checksum and {plural(len(differences), 'output')}, in {seconds_text(seconds)}"
    )
    if not differences:
        err().print("the model has no outputs to compare")
