"""What the models of a zoo are called on, by kind: inputs for a batch and a length, and which dims are dynamic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

BATCH = torch.export.Dim("B", min=1, max=16)
LENGTH = torch.export.Dim("T", min=2, max=128)
SIZES = ((2, 12), (3, 7), (1, 33))  # batch and length: those of the export, then others

Make = Callable[[int, int], dict[str, Any]]


@dataclass(frozen=True)
class Kind:
    """What a model is called on: inputs for a batch and a length, and which dims of them these are."""

    make: Make
    dims: Mapping[str, dict[int, Any]] = field(default_factory=dict[str, dict[int, Any]])


def ids(batch: int, length: int, vocabulary: int = 128) -> torch.Tensor:
    """Token numbers; the first few, which models reserve, do not occur."""
    return torch.randint(8, vocabulary, (batch, length), generator=torch.Generator().manual_seed(length))


def noise(*shape: int) -> torch.Tensor:
    """Pixels, samples, features."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def mask(batch: int, length: int) -> torch.Tensor:
    """All ones, but for a few at the end of the last row."""
    ones = torch.ones(batch, length, dtype=torch.long)
    ones[-1, length - min(4, length // 2) :] = 0
    return ones


def text(extra: Mapping[str, Any], masked: bool = True, length: int = 0) -> Kind:
    """Token numbers and a mask. Both dims are dynamic, unless the model wants one length."""

    def make(batch: int, any_length: int) -> dict[str, Any]:
        size = batch, length or any_length
        return {"input_ids": ids(*size), **({"attention_mask": mask(*size)} if masked else {}), **extra}

    dims = {0: BATCH} if length else {0: BATCH, 1: LENGTH}
    return Kind(make, {"input_ids": dims, **({"attention_mask": dims} if masked else {})})


def pair() -> Kind:
    """Token numbers for an encoder and a decoder."""

    def make(batch: int, length: int) -> dict[str, Any]:
        return {
            "input_ids": ids(batch, length),
            "attention_mask": mask(batch, length),
            "decoder_input_ids": ids(batch, length // 2 + 2),
            "use_cache": False,
        }

    target = torch.export.Dim("D", min=2, max=64)
    source = {0: BATCH, 1: LENGTH}
    return Kind(make, {"input_ids": source, "attention_mask": source, "decoder_input_ids": {0: BATCH, 1: target}})


def batched(**shapes: Sequence[int]) -> Kind:
    """Inputs of real numbers with a dynamic batch; the other dims are given."""

    def make(batch: int, _: int) -> dict[str, Any]:
        return {name: noise(batch, *shape) for name, shape in shapes.items()}

    return Kind(make, {name: {0: BATCH} for name in shapes})


def images(size: int = 32) -> Kind:
    """Square images."""
    return batched(pixel_values=(3, size, size))


def samples(count: int = 1600) -> Kind:
    """Sound."""
    return batched(input_values=(count,))


def with_text(kind: Kind, masked: bool = True) -> Kind:
    """Token numbers beside another kind's inputs."""
    words = text({}, masked)
    return Kind(lambda b, t: {**words.make(b, t), **kind.make(b, t)}, {**words.dims, **kind.dims})


def spoken(**shapes: Sequence[int]) -> Kind:
    """Sound or its features for an encoder, token numbers for the decoder."""
    sound = batched(**shapes)

    def make(batch: int, length: int) -> dict[str, Any]:
        return {**sound.make(batch, length), "decoder_input_ids": ids(batch, length), "use_cache": False}

    return Kind(make, {**sound.dims, "decoder_input_ids": {0: BATCH, 1: LENGTH}})
