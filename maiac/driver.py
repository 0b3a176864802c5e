"""The whole way: capture, passes, artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .codegen import prepare_host_code
from .collector import older_objects_frozen
from .config import CompileOptions
from .ir import Module
from .ir.errors import MaiaError
from .ir.parser import prepare_parser
from .reproducers import reproducers_in
from .sources import Captured, kind_of, open_source

if TYPE_CHECKING:
    from .artifact import Artifact
    from .passes.base import Pass
    from .writer import Progress


def capture(
    model: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, *, dynamic_shapes: Any = None
) -> Module:
    """A model as Maia IR, before any pass.

    model: nn.Module or function (with example ``args`` and ``kwargs``), ExportedProgram, onnx.ModelProto, or a path:
    .onnx, .pt2, Hugging Face folder, .maia text, ``pkg.mod:factory``. dynamic_shapes: as for torch.export.export.
    MAIA0701 to MAIA0713 for a model that cannot be opened, MAIA02xx for one that cannot be represented.
    """
    return open_source(model, args, kwargs, dynamic_shapes).module


def compile(
    model: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    target: str = "host",
    quantize: str | None = None,
    kv_dtype: str | None = None,
    mesh: Mapping[str, int] | None = None,
    dynamic_shapes: Any = None,
    passes: str | Sequence[Pass] | None = None,
    dump_ir: str | Path | None = None,
    random_weights: bool = False,
    require_fusion: Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> Artifact:
    """Compile a model (see ``capture``) into an artifact that runs here and can be saved.

    target: a name from ``maiac targets``. quantize: ``"fp8"`` or ``"int8"`` weights. kv_dtype: the dtype of caches.
    mesh: ``{"tp": 4, "pp": 2}`` partitions for up to so many ranks. passes: another pipeline, as text or a list.
    dump_ir: a folder for the text after every pass; files that reproduce faults lie there too, else here.
    random_weights: for a Hugging Face folder without weights.
    require_fusion: ``{"attention": 12}``, MAIA0307 where the compiled program holds fewer (docs/fusion.md).
    progress: called with (what, done, total).
    """
    options = CompileOptions(target, quantize, kv_dtype, mesh or {})
    if kind_of(model) == "artifact":
        raise MaiaError("MAIA0702", f"{model} is compiled already", hint="compile the source that it was made from")
    if progress:
        progress("capturing", 0, 0)
    prepare()
    with reproducers_in(dump_ir):
        captured = open_source(model, args, kwargs, dynamic_shapes, random_weights=random_weights)
    return lower(captured, options, passes=passes, dump_ir=dump_ir, require_fusion=require_fusion, progress=progress)


def prepare() -> None:
    """Begin in the background what has to be made once on a machine: while a model is captured there is time for it."""
    prepare_host_code()
    prepare_parser()


@older_objects_frozen()
def lower(
    captured: Captured,
    options: CompileOptions,
    *,
    passes: str | Sequence[Pass] | None = None,
    dump_ir: str | Path | None = None,
    require_fusion: Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> Artifact:
    """Run the pipeline on a captured model and wrap the result."""
    from .artifact import Artifact, new_manifest
    from .fit import fit
    from .passes.clone import clone_module
    from .passes.manager import parse_pipeline, pipeline_text, run_pipeline
    from .report import summarize
    from .targets import get_target

    module = clone_module(captured.module) if captured.source.get("kind") == "ir" else captured.module
    pipeline = parse_pipeline(passes) if isinstance(passes, str) else passes
    if pipeline is not None:
        _refuse_unused(options)
    else:
        from .passes.pipeline import default_pipeline

        pipeline = default_pipeline(
            quantize=options.quantize,
            kv_dtype=options.kv_dtype,
            mesh=dict(options.mesh) or None,
            target=options.target,
        )
    done = run_pipeline(module, pipeline, dump_dir=dump_ir, late=True, progress=progress)
    if require_fusion:
        from .passes.fusion import check_required

        check_required(module, require_fusion)
    manifest = new_manifest(module, captured.source, options.describe(), pipeline_text(pipeline))
    report: dict[str, Any] = {"pipeline": done.to_json(), "summary": summarize(module)}
    report["target"] = fit(module, get_target(options.target), options.mesh)
    return Artifact(module, manifest, report=report, examples=example_leaves(module, captured))


def _refuse_unused(options: CompileOptions) -> None:
    """MAIA0706 for options that only the default pipeline reads, beside a pipeline of the user's own."""
    unused = [n for n in ("quantize", "kv_dtype", "mesh") if getattr(options, n)]
    if unused:
        hint = "write them as passes: quantize{scheme=fp8}, kv_cache{dtype=f8e4m3fn}, partition{tp=2,pp=2}"
        raise MaiaError("MAIA0706", f"passes takes the place of {', '.join(unused)}", hint=hint)


def example_leaves(module: Module, captured: Captured) -> list[Any] | None:
    """The example inputs, one for each parameter of main; None where there are none."""
    if not captured.args and not captured.kwargs:
        return None
    from .artifact import bind_inputs, new_manifest

    return bind_inputs(module, new_manifest(module, {}, {}, ""), captured.args, captured.kwargs)
