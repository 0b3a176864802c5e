"""Hugging Face folders: config.json says the architecture; the weights in *.safetensors stay in their files."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import torch

from maiac.ir.errors import MaiaError
from maiac.runtime.safetensors import read_header
from maiac.runtime.weights import MappedTensor

INDEX = "model.safetensors.index.json"
EXAMPLE_LENGTH = 16  # tokens of the example input; its size is free afterwards

Loaded = tuple[torch.nn.Module, tuple[Any, ...], dict[str, Any], dict[str, Any]]


def load_folder(path: str | Path, *, random_weights: bool = False) -> Loaded:
    """The model of a folder, with example inputs: (model, args, kwargs, dynamic_shapes).

    Weights are memory-mapped; with ``random_weights`` the folder needs none and the architecture is initialised
    anew. Text models take any length ``T`` up to what the config allows, and return logits without a cache.
    MAIA0208 for a folder that lacks something, MAIA0210 where weights do not fit, MAIA0212 for architectures that
    transformers does not know.
    """
    from ..sources import need

    need("transformers", "a Hugging Face folder", "pip install 'maiac[hf]'")
    path = Path(path)
    config = _config(path)
    cls = _architecture(config)
    model = _initialised(cls, config) if random_weights else _with_weights(cls, config, path)
    kwargs, shapes = example_inputs(model)
    return model.eval(), (), kwargs, shapes


def load_skeleton(path: Path) -> Loaded:
    """The same without weights, in the dtype that the config names: call it under ``torch.device("meta")``."""
    config = _config(path)
    cls = _architecture(config)
    dtype = getattr(config, "dtype", None)
    model = cls._from_config(config, dtype=dtype) if isinstance(dtype, torch.dtype) else _initialised(cls, config)
    kwargs, shapes = example_inputs(model)
    return model.eval(), (), kwargs, shapes


def _config(path: Path) -> Any:
    from transformers import AutoConfig

    if not (path / "config.json").is_file():
        raise MaiaError("MAIA0208", f"{path} holds no config.json")
    try:
        return AutoConfig.from_pretrained(path, local_files_only=True)
    except ImportError as cause:  # a package that transformers imports is broken or missing
        reason = " ".join(str(_root(cause)).split())
        raise MaiaError("MAIA0704", f"transformers cannot be used for {path}: {reason}") from cause
    except KeyError as cause:
        raise MaiaError("MAIA0212", f"{path}/config.json: unknown model type {cause}") from cause
    except (ValueError, OSError) as cause:
        text = str(cause).strip().splitlines()[0]
        code = "MAIA0212" if "model type" in str(cause) or "model_type" in str(cause) else "MAIA0208"
        raise MaiaError(code, f"{path}/config.json: {text}") from cause


def _root(cause: BaseException) -> BaseException:
    """Where a chain of exceptions began: transformers' own say little."""
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return cause


def _architecture(config: Any) -> Any:
    """The class that the config names first; the plain model where it names none."""
    import transformers

    names = list(getattr(config, "architectures", None) or ())
    if not names:
        return transformers.AutoModel._model_mapping[type(config)]  # pyright: ignore[reportPrivateUsage]
    found = getattr(transformers, names[0], None)
    if found is None:
        raise MaiaError("MAIA0212", f"transformers {transformers.__version__} has no {names[0]}")
    return found


def _initialised(cls: Any, config: Any) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return cls(config)


def _with_weights(cls: Any, config: Any, path: Path) -> torch.nn.Module:
    """The model over the mapped tensors of the folder's files."""
    tensors = {name: mapped.load() for name, mapped in mapped_tensors(path).items()}
    try:
        with _no_bars():
            model, info = cls.from_pretrained(
                None, config=config, state_dict=tensors, dtype="auto", output_loading_info=True, local_files_only=True
            )
    except RuntimeError as cause:  # shapes that differ
        raise MaiaError("MAIA0210", str(cause).strip().splitlines()[0]) from cause
    missing = sorted(info["missing_keys"])
    if missing:
        raise MaiaError("MAIA0210", f"{len(missing)} tensors are not in the files of {path}", details=missing[:20])
    return model


@contextlib.contextmanager
def _no_bars() -> Generator[None]:
    """Without transformers' own progress bars, which would stand in logs and between ours."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def mapped_tensors(path: Path) -> dict[str, MappedTensor]:
    """Every tensor of the folder's safetensors files, left where it lies. MAIA0208 where there is none."""
    files = _weight_files(path)
    found: dict[str, MappedTensor] = {}
    for file in files:
        try:
            slots = read_header(file)
        except OSError as cause:
            raise MaiaError("MAIA0701", f"cannot read {file}: {cause.strerror or cause}") from cause
        for name, slot in slots.items():
            found[name] = MappedTensor(file, slot.offset, slot.dtype, slot.shape)
    return found


def _weight_files(path: Path) -> list[Path]:
    if (path / INDEX).is_file():
        try:
            table: Mapping[str, str] = json.loads((path / INDEX).read_text(encoding="utf-8"))["weight_map"]
            files = [path / name for name in sorted(set(table.values()))]
        except (ValueError, KeyError, TypeError) as cause:
            raise MaiaError("MAIA0208", f"{path / INDEX} cannot be read: {cause}") from cause
        lost = [f.name for f in files if not f.is_file()]
        if lost:
            raise MaiaError("MAIA0208", f"{INDEX} names files that {path} lacks", details=lost)
        return files
    files = (
        [path / "model.safetensors"] if (path / "model.safetensors").is_file() else sorted(path.glob("*.safetensors"))
    )
    if not files:
        others = sorted(f.name for f in path.iterdir() if f.suffix in (".bin", ".pt", ".pth", ".gguf"))
        hint = f"convert {', '.join(others)} with save_pretrained(folder), or pass --random-weights" if others else ""
        raise MaiaError("MAIA0208", f"{path} holds no *.safetensors", hint=hint)
    return files


# **** example inputs ****


def example_inputs(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keyword arguments that the model's forward takes, and their dynamic_shapes. MAIA0212 where they are unknown."""
    wanted = model.main_input_name
    make = _EXAMPLES.get(wanted)
    if make is None:
        raise MaiaError("MAIA0212", f"{type(model).__name__} takes {wanted!r}, for which there is no example")
    return make(model)


def _text(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    config = model.config.get_text_config()
    length = torch.export.Dim("T", min=1, max=_longest(config))
    ids = torch.arange(EXAMPLE_LENGTH).reshape(1, -1) % config.vocab_size
    kwargs: dict[str, Any] = {"input_ids": ids}
    shapes: dict[str, Any] = {"input_ids": {1: length}}
    if model.config.is_encoder_decoder:
        kwargs["decoder_input_ids"] = ids[:, : EXAMPLE_LENGTH // 2].clone()
        shapes["decoder_input_ids"] = {1: torch.export.Dim("D", min=1, max=_longest(config))}
    elif not model.can_generate():
        kwargs["attention_mask"] = torch.ones_like(ids)
        shapes["attention_mask"] = {1: length}
    if hasattr(config, "use_cache") and "attention_mask" not in kwargs:
        kwargs["use_cache"] = False
        shapes["use_cache"] = None
    return kwargs, shapes


def _longest(config: Any) -> int:
    longest = getattr(config, "max_position_embeddings", None)
    return longest if isinstance(longest, int) and longest > EXAMPLE_LENGTH else 8192


def _image(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    config = getattr(model.config, "vision_config", model.config)
    size = getattr(config, "image_size", 224)
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    image = torch.zeros(1, getattr(config, "num_channels", 3), height, width, dtype=model.dtype)
    return {"pixel_values": image}, {"pixel_values": None}


def _audio(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"input_values": torch.zeros(1, 16000, dtype=model.dtype)}, {"input_values": None}


_EXAMPLES: dict[str, Callable[[Any], tuple[dict[str, Any], dict[str, Any]]]] = {
    "input_ids": _text,
    "pixel_values": _image,
    "input_values": _audio,
}
