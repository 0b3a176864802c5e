"""fold: run what depends on constants and weights only, once, before the model runs.

The reference body of each op is what runs. Small results are written into the text as ``constant``; larger ones become
weights whose contents are computed when first asked for, so that folding a model of any size costs nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from maiac.ir import DType, Location, Module, Op, Quantized, Result, State, TensorType, Value, Weight, get_op
from maiac.ir.builder import normalize_attrs
from maiac.ir.dims import Dim
from maiac.ir.graph import TensorData
from maiac.ir.opdef import bytes_of

from .analysis import TERMINATORS, Effects, argument_symbols
from .base import Pass, PassFault, register
from .refine import refine, solve_types
from .rewrite import Miss, explainable, note_miss

if TYPE_CHECKING:
    import torch

INLINE = 16  # elements that still read well in the text
_TEXT_DTYPES = frozenset(
    {DType.F64, DType.F32, DType.F16, DType.BF16, DType.BOOL}
    | {DType.I64, DType.I32, DType.I16, DType.I8, DType.U64, DType.U32, DType.U16, DType.U8}
)
_COMPACT = frozenset({"constant", "full", "iota", "dim_tensor", "dim"})  # as small as they get already

explainable("fold", "Run ops on constants and weights at compile time.")


@dataclass(slots=True, eq=False)
class FoldedTensor:
    """Contents computed from other contents when first asked for (a ``TensorData``)."""

    make: Callable[[], torch.Tensor]
    _made: torch.Tensor | None = None
    _lock: Any = field(default_factory=threading.Lock)

    def load(self) -> torch.Tensor:
        """The tensor; computed once."""
        with self._lock:
            if self._made is None:
                self._made = self.make()
            return self._made

    def load_slice(self, slices: tuple[slice, ...]) -> torch.Tensor:
        """A part, in storage of its own."""
        return self.load()[slices].clone()


@register
@dataclass(frozen=True)
class Fold(Pass):
    """Compute at compile time what no input changes.

    limit: bytes up to which a result may be larger than the weights that it is made of.
    """

    name: ClassVar[str] = "fold"
    limit: int = 1 << 20

    def run(self, module: Module) -> bool:
        """Fold until nothing more folds: a weight that one op leaves may be another's alone."""
        changed = False
        while _Folder(module, self.limit).run():
            changed = True
        return changed


class _Folder:
    """Folds the ops of one module."""

    def __init__(self, module: Module, limit: int) -> None:
        self.module = module
        self.limit = limit
        self.effects = Effects(module)
        self.fixed = argument_symbols(module)
        self.solved: dict[str, Any] = {}

    def run(self) -> bool:
        """One walk in order of definition, which folds whole chains."""
        changed = False
        for op in self.module.walk():
            if op.block is not None and op.name not in TERMINATORS:
                changed |= self.visit(op)
        if self.solved:
            refine(self.module, self.solved)
        return changed

    def visit(self, op: Op) -> bool:
        """Fold an op where that is allowed; true if it was."""
        if op.name in _COMPACT or op.name == "call" or op.regions or not op.results:
            return False
        if not op.operands or not all(_is_fixed(v) for v in op.operands):
            return False
        miss = self.obstacle(op)
        if miss is None:
            miss = self.fold(op)
        if miss is not None:
            note_miss("fold", op, miss)
        return miss is None

    def obstacle(self, op: Op) -> Miss | None:
        """Why an op of constants must stay."""
        if not self.effects.mergeable(op):
            return Miss("it has an effect, or is random")
        sources = [v.op for v in op.operands if isinstance(v, Result)]
        if any(isinstance(a, Dim) or _mentions_dims(a) for o in (op, *sources) for a in o.attrs.values()):
            return Miss("a dim is known only at run time")
        for value in op.operands:
            if isinstance(value, Weight) and value.data is None:
                return Miss("the weight has no contents", value)
            if value is not None and not _is_plain(value):
                return Miss("the operand is quantized, sharded or not a tensor", value)
        for value in op.operands:
            if isinstance(value, Weight) and _is_meta(value):
                return Miss("the weight is on the meta device", value)
        return self.growth(op)

    def growth(self, op: Op) -> Miss | None:
        """Why the result would cost more than it saves."""
        if not all(isinstance(r.type, TensorType) and isinstance(r.type.dtype, DType) for r in op.results):
            return Miss("a result is no tensor that a constant could hold", op.results[0])
        if not all(isinstance(r.type, TensorType) and r.type.is_static for r in op.results):
            small = all(_bytes(v) <= self.limit for v in op.operands if v is not None)
            return None if small else Miss("the result's dims are known only at run time", op.results[0])
        made = sum(_bytes(r) for r in op.results)
        if made <= self.limit:
            return None
        weights = {v for v in op.operands if isinstance(v, Weight)}
        kept = [w for w in weights if set(w.uses) != {op}]
        if get_op(op.name).alias and kept:
            return Miss("it is a view of a weight that others use", kept[0])
        if made > sum(_bytes(w) for w in weights):
            return Miss(f"the result takes {made} bytes, more than what it is made of", op.results[0])
        return None

    def fold(self, op: Op) -> Miss | None:
        """Replace the op by constants or weights."""
        make = _thunk(op)
        small = all(_bytes(v) <= self.limit for v in op.operands if v is not None)
        static = all(isinstance(r.type, TensorType) and r.type.is_static for r in op.results)
        made: Sequence[Any] | None = None
        if small and (not static or all(_bytes(r) <= self.limit for r in op.results)):
            try:
                made = make()
            except Exception as error:
                return Miss(f"its reference refuses these constants: {error}")
        values = [self.value(op, i, make, None if made is None else made[i]) for i in range(len(op.results))]
        for old, new in zip(op.results, values, strict=True):
            self.learn(op, old, new)
        op.replace(values)
        return None

    def value(self, op: Op, index: int, make: Callable[[], Sequence[Any]], made: Any) -> Value:
        """A constant or a new weight for one result."""
        result = op.results[index]
        assert isinstance(result.type, TensorType)
        dtype = result.type.dtype
        assert isinstance(dtype, DType)
        if made is None:
            return self.weight(op, result, result.type, _one_of(make, index))
        type = TensorType(dtype, tuple(made.shape))
        if made.numel() <= INLINE and dtype in _TEXT_DTYPES:
            assert op.block is not None
            return op.block.insert(_constant(made, type, op.loc), op).result
        kept = made.contiguous()
        return self.weight(op, result, type, FoldedTensor(lambda: kept))

    def weight(self, op: Op, result: Result, type: TensorType, data: TensorData) -> Weight:
        """A new weight, named after where it comes from."""
        sources = [v.name for v in op.operands if isinstance(v, Weight)]
        stem = sources[0] if sources else ".".join(n for n in (op.loc.name, result.name or op.name) if n)
        name = stem if stem.endswith(".folded") else f"{stem}.folded"
        n = 0
        while name in self.module.weights or name in self.module.states:
            n += 1
            name = f"{stem.removesuffix('.folded')}.folded_{n}"
        return self.module.add_weight(name, type, data)

    def learn(self, op: Op, old: Value, new: Value) -> None:
        """Dims that only the run told are known now."""
        if old.type == new.type:
            return
        found = solve_types(old.type, new.type)
        if found is None or found.keys() & self.fixed:
            raise PassFault("MAIA0301", f"folding {op.name} gives {new.type} for {old.type}")
        for name, dim in found.items():
            self.solved.setdefault(name, dim)


def _is_fixed(value: Value | None) -> bool:
    if isinstance(value, Result):
        return value.op.name in _COMPACT
    return value is None or (isinstance(value, Weight) and not isinstance(value, State))


def _is_plain(value: Value) -> bool:
    """An unsharded tensor of plain numbers."""
    type = value.type
    if not isinstance(type, TensorType) or isinstance(type.dtype, Quantized):
        return False
    return not type.is_sharded


def _mentions_dims(attr: Any) -> bool:
    return isinstance(attr, tuple) and any(isinstance(a, Dim) or _mentions_dims(a) for a in attr)  # pyright: ignore[reportUnknownVariableType]


def _is_meta(weight: Weight) -> bool:
    if isinstance(weight.data, FoldedTensor):
        return False  # made of contents that were checked
    assert weight.data is not None
    return bool(weight.data.load().is_meta)


def _bytes(value: Value) -> int:
    type = value.type
    return bytes_of(type, {}) if isinstance(type, TensorType) and type.is_static else 0


def _thunk(op: Op) -> Callable[[], Sequence[Any]]:
    """Computes an op's results from its operands' contents; holds no part of the graph."""
    definition, attrs = get_op(op.name), dict(op.attrs)
    operands = [_contents(v) for v in op.operands]
    several = any(t.variadic for t in definition.signature.results) or len(op.results) > 1

    def make() -> Sequence[Any]:
        made = definition.reference(*[None if load is None else load() for load in operands], **attrs)
        return made if several else (made,)

    return make


def _one_of(make: Callable[[], Sequence[Any]], index: int) -> FoldedTensor:
    def load() -> torch.Tensor:
        return make()[index].contiguous()

    return FoldedTensor(load)


def _contents(value: Value | None) -> Callable[[], Any] | None:
    if isinstance(value, Weight):
        assert value.data is not None
        return value.data.load
    if isinstance(value, Result):
        reference, attrs = get_op(value.op.name).reference, dict(value.op.attrs)
        return lambda: reference(**attrs)
    return None


def _constant(made: torch.Tensor, type: TensorType, loc: Location) -> Op:
    """A ``constant`` of a small tensor's elements; one number where all are alike."""
    flat = made.reshape(-1).tolist()
    alike = bool(flat) and all(repr(n) == repr(flat[0]) for n in flat)
    attrs = {"value": flat[0] if alike else tuple(flat), "dtype": type.dtype, "shape": type.dims}
    return Op("constant", (), normalize_attrs("constant", attrs), [type], (), loc)
