"""The passes: each applies one table of rules, and ``fuse_patterns`` all of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

from maiac.ir import Module, Op, TensorType, Weight

from ..base import Pass, note, register
from ..cse import Cse
from ..projections import to_linear
from ..rewrite import Miss, Outcome, Rewriter, Rule, rewrite
from ..rules import SHAPE
from .activations import ACTIVATIONS
from .batch_norm import CHANNELS
from .cleanup import CLEANUP
from .derived import drop_read
from .masks import ATTENTION
from .merge import merge_products, separate_products
from .norms import NORMS
from .required import fusion_counts, record
from .rotary import ROTARY
from .sharing import share_constants


def apply(module: Module, *tables: list[Rule]) -> bool:
    """Apply tables of rules, and forget the weights that nobody reads any more; true if a rule applied."""
    unread = {w for w in module.weights.values() if not w.uses}
    applied: Counter[str] = Counter()
    changed = rewrite(module, (_counted(each, applied) for table in tables for each in table))
    drop_read(module, [w for w in module.weights.values() if w not in unread])
    record(module, applied)
    return changed


def _counted(each: Rule, applied: Counter[str]) -> Rule:
    """The same rule, that also counts how often it applies."""

    def fn(op: Op, b: Rewriter) -> Outcome:
        outcome = each.fn(op, b)
        if outcome is not None and not isinstance(outcome, Miss):
            applied[each.name] += 1
        return outcome

    return Rule(each.name, each.roots, fn)


@dataclass(frozen=True)
class _Tables(Pass):
    """A pass that applies tables of rules."""

    tables: ClassVar[tuple[list[Rule], ...]] = ()

    def run(self, module: Module) -> bool:
        """True where a rule applied."""
        return apply(module, *self.tables)


@register
@dataclass(frozen=True)
class DropCopies(_Tables):
    """Remove copies, and views that undo each other."""

    name: ClassVar[str] = "drop_copies"
    tables: ClassVar[tuple[list[Rule], ...]] = (CLEANUP, SHAPE)


@register
@dataclass(frozen=True)
class FuseNorms(_Tables):
    """Find rms_norm, layer_norm and group_norm."""

    name: ClassVar[str] = "fuse_norms"
    tables: ClassVar[tuple[list[Rule], ...]] = (NORMS,)


@register
@dataclass(frozen=True)
class FuseChannels(_Tables):
    """Batch norms and constants per channel join the weights before them."""

    name: ClassVar[str] = "fuse_channels"
    tables: ClassVar[tuple[list[Rule], ...]] = (CHANNELS,)


@register
@dataclass(frozen=True)
class FuseActivations(_Tables):
    """Find gelu, silu, hardswish, mish and others."""

    name: ClassVar[str] = "fuse_activations"
    tables: ClassVar[tuple[list[Rule], ...]] = (ACTIVATIONS,)


@register
@dataclass(frozen=True)
class FuseAttention(_Tables):
    """Find attention, and what its masks say."""

    name: ClassVar[str] = "fuse_attention"
    tables: ClassVar[tuple[list[Rule], ...]] = (ATTENTION, CLEANUP, SHAPE)


@register
@dataclass(frozen=True)
class FuseRotary(_Tables):
    """Find rotary positions."""

    name: ClassVar[str] = "fuse_rotary"
    tables: ClassVar[tuple[list[Rule], ...]] = (ROTARY,)


@register
@dataclass(frozen=True)
class ShareConstants(Pass):
    """Let equal folded constants be one."""

    name: ClassVar[str] = "share_constants"

    def run(self, module: Module) -> bool:
        """True where one went."""
        return bool(share_constants(module))


@register
@dataclass(frozen=True)
class MergeProducts(Pass):
    """Join products of one value, and cut those whose parts meet. ``widest``: rows that a joined weight may have."""

    name: ClassVar[str] = "merge_products"
    widest: int = 1 << 16

    def run(self, module: Module) -> bool:
        """True where two were joined, or one was cut."""
        cut = separate_products(module)
        merged = merge_products(module, self.widest)
        record(module, {"merge_products": merged})
        return bool(merged or cut)


@register
@dataclass(frozen=True)
class FusePatterns(Pass):
    """All pattern fusions in order. ``merge``: also join products of one value."""

    name: ClassVar[str] = "fuse_patterns"
    merge: bool = True

    def run(self, module: Module) -> bool:
        """True where something was found."""
        before = fusion_counts(module)
        changed = not any(_is_sharded(w) for w in module.weights.values()) and to_linear(module)
        parts = [DropCopies(), FuseActivations(), FuseNorms(), FuseRotary(), FuseAttention(), FuseChannels()]
        # Values that become equal without their copies are read by products that then can be joined.
        for each in (*parts, ShareConstants(), Cse(), *([MergeProducts()] if self.merge else [])):
            changed |= each.run(module)
        after = fusion_counts(module)
        found = [f"{n - before[name]} {name}" for name, n in after.items() if n > before[name]]
        if found:
            note("found " + ", ".join(found))
        return changed


def _is_sharded(weight: Weight) -> bool:
    return isinstance(weight.type, TensorType) and weight.type.is_sharded
