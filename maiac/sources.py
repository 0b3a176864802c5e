"""Where models come from: telling the kinds apart, and opening each through its frontend."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .ir import Module, parse
from .ir.errors import MaiaError

FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_TORCH_FILES = {".pt", ".pth", ".bin", ".ckpt", ".safetensors"}


@dataclass
class Captured:
    """A model as IR, with what is known about where it came from.

    ``args`` and ``kwargs`` are example inputs, where there are some. ``original`` is the model itself, for comparisons:
    an nn.Module, an ExportedProgram, or the path of an ONNX file.
    """

    module: Module
    source: dict[str, str]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    original: Any = None


def kind_of(model: Any) -> str:
    """What a model is: ``module``, ``exported``, ``onnx``, ``onnx proto``, ``pt2``, ``huggingface``, ``factory``,
    ``text``, ``artifact``, ``ir``. MAIA0701 for a path that cannot be read, MAIA0702 for anything else."""
    if isinstance(model, (str, os.PathLike)):
        return _kind_of_path(os.fspath(model))
    if isinstance(model, Module):
        return "ir"
    if type(model).__name__ == "ModelProto":
        return "onnx proto"
    if "torch" in sys.modules:
        import torch

        if isinstance(model, torch.export.ExportedProgram):
            return "exported"
        if isinstance(model, torch.nn.Module) or callable(model):
            return "module"
    raise MaiaError("MAIA0702", f"an object of type {type(model).__name__} is not a model")


def _kind_of_path(text: str) -> str:
    path = Path(text)
    if not path.exists():
        if path.is_symlink():
            raise MaiaError("MAIA0701", f"{text} is a link to {path.readlink()}, which does not exist")
        if FACTORY.fullmatch(text):
            return "factory"
        raise MaiaError("MAIA0701", f"there is no file or folder {text}", hint=_near(path))
    if path.is_dir():
        if (path / "manifest.json").is_file():
            return "artifact"
        if (path / "config.json").is_file():
            return "huggingface"
        if not text:
            raise MaiaError("MAIA0701", "the name of the model is empty")
        raise MaiaError(
            "MAIA0702", f"the folder {text} holds no config.json (Hugging Face) and no manifest.json (maiac)"
        )
    if not _head(path):
        raise MaiaError("MAIA0702", f"{text} is empty", hint="copy it again, or make it again")
    kinds = {".onnx": "onnx", ".onnxtxt": "onnx", ".pt2": "pt2"}
    if path.suffix in kinds:
        return kinds[path.suffix]
    if path.suffix == ".maia":
        return "artifact" if _starts_as_zip(path) else "text"
    hint, what = "", path.suffix or "a file without a suffix"
    if path.suffix in _TORCH_FILES:
        hint = (
            f"{path.suffix} files hold weights without the model's code: name a factory that builds it and loads them"
        )
    raise MaiaError("MAIA0702", f"{text}: {what} is no kind of model file", hint=hint)


def _near(path: Path) -> str:
    import difflib

    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    near = difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()], 3)
    return f"did you mean {', '.join(near)}?" if near else ""


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4)
    except OSError as e:
        raise MaiaError("MAIA0701", f"cannot read {path}: {e.strerror or e}") from None


def _starts_as_zip(path: Path) -> bool:
    head = _head(path)
    return not head.lstrip() or head[:2] == b"PK" or any(b >= 0x7F or b == 0 for b in head)


def open_source(
    model: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    *,
    random_weights: bool = False,
) -> Captured:
    """Capture a model of any kind as IR. random_weights: a Hugging Face folder needs a config only."""
    kind = kind_of(model)
    if not isinstance(args, (tuple, list)):
        hint = "put the arguments into a tuple: maiac.compile(model, (x,))"
        raise MaiaError("MAIA0713", f"args is a {type(args).__name__}; expected a tuple", hint=hint)
    if random_weights:
        if kind != "huggingface":
            raise MaiaError("MAIA0706", f"random weights are for Hugging Face folders, not for {model} ({kind})")
        return _from_folder(model, tuple(args), dict(kwargs or {}), dynamic_shapes, random_weights=True)
    return _OPENERS[kind](model, tuple(args), dict(kwargs or {}), dynamic_shapes)


def _from_module(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_shapes: Any) -> Captured:
    from .frontends.exported import export

    if not args and not kwargs and not _takes_nothing(model):
        raise MaiaError("MAIA0713", f"{type(model).__name__} needs example inputs")
    return _imported(
        export(model, args, kwargs, dynamic_shapes=dynamic_shapes), "module", type(model).__name__, args, kwargs
    )


def _from_exported(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_shapes: Any) -> Captured:
    from .frontends.exported import export

    del dynamic_shapes  # the program has its own
    return _imported(export(model), "exported program", type(model.graph_module).__name__, args, kwargs)


def _from_pt2(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_shapes: Any) -> Captured:
    from .frontends.exported import export

    del dynamic_shapes
    path = Path(model)
    captured = _imported(export(path), "pt2", path.name, args, kwargs)
    captured.source = {"kind": "pt2", "name": path.name, "sha256": file_sha256(path)}
    return captured


def _imported(exported: Any, kind: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Captured:
    """An exported program (with the user's names of dims) as IR; its own example inputs where none are given."""
    from .frontends.exported import import_exported

    program = exported.program
    module = import_exported(program, names=exported.names)
    if not args and not kwargs and program.example_inputs is not None:
        args, kwargs = program.example_inputs
    return Captured(module, _described(kind, name, module), tuple(args), dict(kwargs), program)


def _from_onnx(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_shapes: Any) -> Captured:
    del dynamic_shapes
    from .frontends.onnx import import_onnx

    if not isinstance(model, (str, os.PathLike)):
        digest = hashlib.sha256(model.SerializeToString()).hexdigest()
        source = {"kind": "onnx", "name": model.graph.name, "sha256": digest}
        return Captured(import_onnx(model), source, args, kwargs, model)
    path = Path(model)
    return Captured(
        import_onnx(path), {"kind": "onnx", "name": path.name, "sha256": file_sha256(path)}, args, kwargs, path
    )


def _from_folder(
    model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_shapes: Any, *, random_weights: bool = False
) -> Captured:
    path = Path(model)
    need("transformers", "a Hugging Face folder", "pip install 'maiac[hf]'")
    from .frontends.huggingface import load_folder

    loaded, its_args, its_kwargs, its_shapes = load_folder(path, random_weights=random_weights)
    if not args and not kwargs:
        args, kwargs = tuple(its_args), dict(its_kwargs)
        dynamic_shapes = its_shapes if dynamic_shapes is None else dynamic_shapes
    captured = _from_module(loaded, args, kwargs, dynamic_shapes)
    digest = file_sha256(path / "config.json")
    captured.source = {"kind": "huggingface", "name": path.resolve().name, "config_sha256": digest}
    if random_weights:
        captured.source["weights"] = "random"
    return captured


def _from_factory(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_shapes: Any) -> Captured:
    made, its_args, its_kwargs, its_shapes = call_factory(str(model))
    if not args and not kwargs:
        args, kwargs = its_args, its_kwargs
        dynamic_shapes = its_shapes if dynamic_shapes is None else dynamic_shapes
    if kind_of(made) == "factory":
        raise MaiaError("MAIA0703", f"{model} gives the name of another factory")
    captured = open_source(made, args, kwargs, dynamic_shapes)
    captured.source = {**captured.source, "kind": "factory", "name": str(model)}
    return captured


def _from_text(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_shapes: Any) -> Captured:
    del dynamic_shapes
    path = Path(model)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise MaiaError("MAIA0701", f"cannot read {path} as text: {e}") from None
    module = parse(text, file=str(path))
    return Captured(module, {"kind": "text", "name": path.name, "sha256": file_sha256(path)}, args, kwargs)


def _from_artifact(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_shapes: Any) -> Captured:
    del dynamic_shapes
    from .runtime.loading import load_artifact

    loaded = load_artifact(Path(model))
    return Captured(loaded.module, dict(loaded.manifest.source), args, kwargs)


def _from_ir(model: Module, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_shapes: Any) -> Captured:
    del dynamic_shapes
    return Captured(model, _described("ir", model.name, model), args, kwargs)


_OPENERS: dict[str, Callable[..., Captured]] = {
    "module": _from_module,
    "exported": _from_exported,
    "pt2": _from_pt2,
    "onnx": _from_onnx,
    "onnx proto": _from_onnx,
    "huggingface": _from_folder,
    "factory": _from_factory,
    "text": _from_text,
    "artifact": _from_artifact,
    "ir": _from_ir,
}


# **** parts ****


def _takes_nothing(model: Any) -> bool:
    import inspect

    try:
        parameters = inspect.signature(getattr(model, "forward", model)).parameters.values()
    except (TypeError, ValueError):
        return False
    return all(p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)


def call_factory(text: str) -> tuple[Any, tuple[Any, ...], dict[str, Any], Any]:
    """Import ``pkg.mod:name`` and call it: model, args, kwargs, dynamic_shapes. MAIA0703 where that fails."""
    name, _, attribute = text.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # like `python -m`: a module in the folder where the command is run
    try:
        found: Any = importlib.import_module(name)
    except ModuleNotFoundError as e:
        raise MaiaError("MAIA0703", f"cannot import {name}: {e}") from None
    except Exception as e:
        raise MaiaError("MAIA0703", f"{name} fails while it is imported: {type(e).__name__}: {e}") from e
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise MaiaError("MAIA0703", f"{name} has no {attribute}")
        found = getattr(found, part)
    try:
        made = found() if callable(found) and not _is_model(found) else found
    except Exception as e:
        raise MaiaError("MAIA0703", f"{text} fails: {type(e).__name__}: {e}") from e
    parts: tuple[Any, ...] = made if isinstance(made, tuple) else (made,)
    if not 1 <= len(parts) <= 4:
        raise MaiaError("MAIA0703", f"{text} gives {len(parts)} things; expected model, args, kwargs, dynamic_shapes")
    model, args, kwargs, shapes = (*parts, *((), None, None)[len(parts) - 1 :])
    return model, tuple(args) if isinstance(args, (tuple, list)) else (args,), dict(kwargs or {}), shapes


def _is_model(found: Any) -> bool:
    import torch

    return isinstance(found, torch.nn.Module)


def need(package: str, what: str, how: str) -> None:
    """MAIA0704 where an optional package is not installed."""
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise MaiaError("MAIA0704", f"{what} needs the package {package}", hint=how)


def file_sha256(path: Path) -> str:
    """The checksum of a file; MAIA0701 where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as e:
        raise MaiaError("MAIA0701", f"cannot read {path}: {e.strerror or e}") from None


def _described(kind: str, name: str, module: Module) -> dict[str, str]:
    """The source of a model that lies in memory: its checksum is that of the captured program."""
    from .ir import print_module

    return {"kind": kind, "name": name, "program_sha256": hashlib.sha256(print_module(module).encode()).hexdigest()}
