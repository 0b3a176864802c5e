"""Weights that torch.compile hands in with every call of an inference graph, as constants of a program."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .ir import Module
from .passes.clone import clone_module
from .runtime.executor import Executor
from .runtime.weights import HeldTensor

MOST_PROGRAMS = 128  # layers of one class share a graph, each with weights of its own


def without_gradient(x: Any) -> Any:
    """A tensor as the runtime takes it: gradients are AOTAutograd's concern."""
    return x.detach() if isinstance(x, torch.Tensor) and x.requires_grad else x


@dataclass
class _Frozen:
    """A program and the versions of its weights. It goes with the first of them that goes.

    held: the weights' memory, where no other weight may come to lie, though folding makes the program forget them.
    """

    versions: list[int]
    held: list[torch.Tensor]
    executor: Executor


class FreezingExecutor:
    """Runs a graph by programs in which its weights are constants: folded, and packed once.

    There is a program for each set of weights that the graph is called with. Where one of them was written to since,
    where torch does not count writes, or where there are too many sets, the program runs that takes them as inputs.

    module: the graph as it was imported. weights: the places of weights among its inputs, which it does not write to.
    prepare: the passes, and how the program runs; it may change the module.
    """

    def __init__(self, module: Module, weights: Sequence[int], prepare: Callable[[Module], Executor]) -> None:
        self._module, self._prepare = module, prepare
        self._weights = tuple(weights)
        self._others = [i for i in range(len(module.main.args)) if i not in set(weights)]
        self._frozen: dict[tuple[int, ...], _Frozen] = {}
        self._general: Executor | None = None

    def run(self, given: Sequence[Any]) -> Sequence[Any]:
        """The results for all inputs of the graph."""
        executor = self._program_of([given[i] for i in self._weights])
        if executor is not None:
            return executor.run([without_gradient(given[i]) for i in self._others])
        if self._general is None:
            self._general = self._prepare(clone_module(self._module))
        return self._general.run(list(map(without_gradient, given)))

    def _program_of(self, weights: Sequence[torch.Tensor]) -> Executor | None:
        key = tuple(w.data_ptr() for w in weights)
        if key not in self._frozen:
            if len(self._frozen) >= MOST_PROGRAMS or any(w.is_inference() for w in weights):
                return None
            self._frozen[key] = self._freeze(weights)
            for w in weights:
                weakref.finalize(w, self._frozen.pop, key, None)
        frozen = self._frozen[key]
        return frozen.executor if frozen.versions == [w._version for w in weights] else None

    def _freeze(self, weights: Sequence[torch.Tensor]) -> _Frozen:
        module = clone_module(self._module)
        args = module.main.args
        for place, tensor in zip(self._weights, weights, strict=True):
            held = module.add_weight(args[place].name, args[place].type, HeldTensor(tensor.detach()))
            args[place].replace_all_uses(held)
        for place in sorted(self._weights, reverse=True):
            module.main.body.remove_arg(place)
        return _Frozen([w._version for w in weights], [w.detach() for w in weights], self._prepare(module))
