"""Partitioning: one program for many ranks, by types alone.

Read in this order: ``tensor`` (which weights to split), ``region`` (what follows from a split), ``apply``, ``fused``
(query, key and value in one weight), then ``stages`` and ``balance`` (pipeline stages).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from maiac.ir import MaiaError, Module, TensorType

from ..base import Pass, note, register
from ..projections import to_linear
from .balance import balanced_cuts
from .stages import StageReport, cut_stages
from .tensor import TensorReport, split_tensors

__all__ = ["Partition", "StageReport", "TensorReport", "balanced_cuts", "cut_stages", "split_tensors"]


@register
@dataclass(frozen=True)
class Partition(Pass):
    """Split a program over a mesh: ``tp`` ranks share each layer, ``pp`` stages follow one another.

    ``tp`` is the number that every split dim must divide by; the program then runs on any mesh that divides its dims,
    and on any number of ranks along ``pp`` up to the number of stages.
    """

    name: ClassVar[str] = "partition"
    tp: int = 1
    pp: int = 1

    def run(self, module: Module) -> bool:
        """True where anything was split or cut."""
        if self.tp < 1 or self.pp < 1:
            raise MaiaError("MAIA0340", f"tp = {self.tp} and pp = {self.pp}; expected at least 1 of each")
        if self.tp == self.pp == 1:
            return False
        _check_whole(module)
        if self.pp > 1:
            module.mesh["pp"] = self.pp
        if self.tp > 1:
            self.split(module)
        if self.pp > 1:
            note(str(cut_stages(module, "pp", self.pp)))
        return True

    def split(self, module: Module) -> None:
        """Tensor parallelism; MAIA0341 where nothing could be split."""
        to_linear(module)
        module.mesh["tp"] = None
        report = split_tensors(module, "tp", self.tp)
        if not report.split:
            details = [f"{layer}: {why}" for layer, why in report.whole]
            raise MaiaError("MAIA0341", f"no weight could be split over tp = {self.tp}", details=details)
        note(str(report))


def _check_whole(module: Module) -> None:
    """MAIA0342 where the module is split or cut already."""
    globals_ = (*module.weights.values(), *module.states.values())
    split = [w.name for w in globals_ if isinstance(w.type, TensorType) and w.type.is_sharded]
    staged = [f.name for f in module.functions.values() if f.stage is not None]
    if split or staged:
        what = f"@{split[0]} is split" if split else f"@{staged[0]} is a pipeline stage"
        raise MaiaError("MAIA0342", f"module @{module.name} is partitioned already: {what}")
