"""The source that other engines run: opened without capturing it, its inputs, and its ONNX file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .ir.errors import MaiaError

if TYPE_CHECKING:
    from .artifact import Artifact


@dataclass(frozen=True)
class Setup:
    """What every engine runs: an artifact's inputs, the artifact or its source, threads (0: as many as a run has).

    outputs: a folder where every engine leaves the outputs of its first run, as ``NAME.pt``. environment: variables
    for the engines' processes. trust: as for ``load``.
    """

    artifact: str
    source: str = ""
    seed: int = 0
    dims: dict[str, int] = field(default_factory=dict[str, int])
    threads: int = 0
    outputs: str = ""
    environment: dict[str, str] = field(default_factory=dict[str, str])
    trust: bool = False


@dataclass(frozen=True)
class Question:
    """What a worker is asked. ``shared``: what the process that prepares left for all (see ``prepare``)."""

    engine: str
    setup: Setup
    shared: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass
class Original:
    """The source itself: an nn.Module or exported program with its own example inputs, or the path of an ONNX file."""

    model: Any
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    shapes: Any = None

    @property
    def is_onnx(self) -> bool:
        """Whether it is an ONNX model."""
        return isinstance(self.model, Path)


def original(source: Any, *, random_weights: bool = False) -> Original:
    """Open a source without capturing it. MAIA0711 for kinds that no other engine runs."""
    import torch

    from .sources import call_factory, kind_of

    match kind_of(source):
        case "onnx":
            return Original(Path(source))
        case "pt2":
            return _of_program(torch.export.load(source))
        case "exported":
            return _of_program(source)
        case "module":
            return Original(source)
        case "factory":
            model, args, kwargs, shapes = call_factory(source)
            found = original(model)
            return Original(found.model, args or found.args, kwargs or found.kwargs, shapes)
        case "huggingface":
            from .frontends.huggingface import load_folder

            return Original(*load_folder(Path(source), random_weights=random_weights))
        case kind:
            raise MaiaError("MAIA0711", f"no other engine runs {source} ({kind})")


def _of_program(program: Any) -> Original:
    args, kwargs = program.example_inputs or ((), {})
    return Original(program, tuple(args), dict(kwargs))


def prepare(question: Question) -> dict[str, Any]:
    """Make the inputs that all engines get, and an ONNX file where the source is none and some engine wants one.

    Gives ``inputs``: a file of torch.save; ``random_weights``: see ``original``; ``onnx``: a path, or ``onnx_error``:
    why there is none.
    """
    import torch

    from .artifact import load

    folder = Path(question.shared["folder"])
    artifact = load(question.setup.artifact, trust=question.setup.trust)
    random_weights = artifact.manifest.source.get("weights") == "random"
    source = original(question.setup.source, random_weights=random_weights)
    inputs = chosen_inputs(question.setup, artifact, source)
    torch.save({"tree": artifact.manifest.in_tree, "inputs": inputs}, folder / "inputs.pt")
    facts: dict[str, Any] = {"inputs": str(folder / "inputs.pt"), "random_weights": random_weights}
    facts["is_onnx"] = source.is_onnx
    if source.is_onnx:
        return {**facts, "onnx": str(source.model)}
    if not question.shared["wants_onnx"]:
        return facts
    try:
        return {**facts, "onnx": str(exported(source, folder / "model.onnx"))}
    except Exception as e:  # the exporter's faults are many; eager and Inductor run all the same
        return {**facts, "onnx_error": reason(e)}


def chosen_inputs(setup: Setup, artifact: Artifact, source: Original | None = None) -> list[Any]:
    """The source's own example inputs, or random ones where it has none or ``--dim`` asks for other sizes."""
    from .inputs import choose_sizes, random_inputs

    if source is not None and (source.args or source.kwargs) and not setup.dims:
        from .artifact import bind_inputs

        return bind_inputs(artifact.module, artifact.manifest, source.args, source.kwargs)
    return random_inputs(artifact.module, choose_sizes(artifact.module, setup.dims), setup.seed)


def exported(source: Original, path: Path) -> Path:
    """The source as an ONNX file, as torch's exporter writes it, optimised as it does by default."""
    import torch

    from .sources import need

    need("onnxscript", "exporting to ONNX", "pip install 'maiac[bench]'")
    shapes = source.shapes
    if isinstance(source.model, torch.export.ExportedProgram):
        torch.onnx.export(source.model, (), path, dynamo=True, verbose=False)
        return path
    with torch.no_grad():
        source.model(*source.args, **source.kwargs)  # what a model makes at its first call is then a constant
        torch.onnx.export(
            source.model,
            source.args,
            path,
            kwargs=source.kwargs,
            dynamic_shapes=shapes,
            dynamo=True,
            external_data=True,
            optimize=True,
            verbose=False,
        )
    return path


def reason(error: Exception) -> str:
    """An error in one line."""
    if isinstance(error, MaiaError):
        return ": ".join((error.message, *error.details[:1]))
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
