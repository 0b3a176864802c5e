"""Architectures of transformers, small and with random weights: compiled from torch.export and from ONNX.

    python -m tests.conformance transformers_zoo
    python -m tests.conformance transformers_zoo --group export --filter '^Qwen'

The group ``export`` compiles the module, ``onnx`` the file that torch.onnx.export makes of it; transformers_table.py
lists the architectures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from tests.models.zoo import Case as Model

from .suite import Case
from .transformers_table import ENTRIES, config_of
from .zoo_check import check_export, check_onnx, shaken
from .zoo_inputs import SIZES


def build(name: str) -> Model:
    """A model in eval mode with its inputs: random weights, also where the model begins with zeros and ones."""
    import transformers

    entry = ENTRIES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = shaken(getattr(transformers, entry.cls)(config_of(entry.cls, entry.config)).eval())
    make, dims = entry.kind.make, entry.kind.dims
    kwargs = make(*SIZES[0])
    shapes = {key: dims.get(key) for key in kwargs} if dims else None
    return Model(model, (), kwargs, shapes, lambda n: ((), make(*SIZES[n])), (1, 2))


def cases() -> Iterator[Case]:
    """All cases, by group."""
    for group, check in (("export", check_export), ("onnx", check_onnx)):
        for name in ENTRIES:
            yield Case(group, name, partial(_check, check, name))


def _check(check: Callable[[Model], bool | None], name: str) -> bool | None:
    return check(build(name))
