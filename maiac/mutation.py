"""Programs that change their inputs in place: the module says so, and a call writes the new values back.

``mutates = [[0, 2]]`` in a module: after a call, the caller's first argument holds the program's third result. The
results that say so stand behind those that the caller gets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .ir import Module
from .ir.errors import raise_all


def mutated(module: Module) -> tuple[tuple[int, int], ...]:
    """Pairs (parameter, result that holds its new contents); none where the program leaves its inputs alone."""
    return module.attrs.get("mutates", ())  # type: ignore[return-value]  # the verifier has seen to its form


def write_back(module: Module, inputs: Sequence[Any], results: Sequence[Any]) -> list[Any]:
    """Put new contents into the caller's tensors and arrays; the results that the caller gets."""
    pairs = mutated(module)
    if not pairs:
        return list(results)
    written = {_storage(inputs[at]) for at, _ in pairs}
    # A result may be an input as it came (or a view of it): it must not change with what is written here.
    kept = [v.clone() if isinstance(v, torch.Tensor) and _storage(v) in written else v for v in results]
    with torch.no_grad():
        for at, result in pairs:
            _tensor(inputs[at]).copy_(kept[result])
    return kept[: len(kept) - len(pairs)]


def check_writable(module: Module, inputs: Sequence[Any]) -> None:
    """MAIA0510 where an input that the program changes cannot take new contents, or shares memory with another."""
    pairs = mutated(module)
    if not pairs:
        return
    faults: list[str] = []
    storages = [_storage(v) for v in inputs]
    for at, _ in pairs:
        name = module.main.args[at].name or f"#{at}"
        if storages[at] is None:
            faults.append(f"the input {name} is changed in place, but a {type(inputs[at]).__name__} cannot be")
        elif storages.count(storages[at]) > 1:
            faults.append(f"the input {name} is changed in place, but another input shares its memory")
    raise_all("MAIA0510", "the program changes inputs in place", faults)


def _storage(value: Any) -> int | None:
    """Where the elements lie; None for what holds none that could be written."""
    if isinstance(value, np.ndarray):
        base = value
        while isinstance(base.base, np.ndarray):
            base = base.base
        return base.ctypes.data if value.flags.writeable else None
    return value.untyped_storage().data_ptr() if isinstance(value, torch.Tensor) else None


def _tensor(value: Any) -> torch.Tensor:
    from .tensors import from_numpy

    return from_numpy(value) if isinstance(value, np.ndarray) else value
