"""Weight-only quantization: constant operands that an op's definition names become quantized types."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from maiac.ir import DType, MaiaError, Module, Op, Quantized, State, TensorType, Weight, get_op
from maiac.ir.opdef import Quant

from ..projections import to_linear
from ..weights import QuantizedData

SCHEMES: dict[str, DType] = {"fp8": DType.F8E4M3FN, "int8": DType.I8}


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of a weight for one of its readers. ``reason`` says why it was kept, or kept besides."""

    weight: str
    reader: str
    before: str
    after: str
    reason: str = ""

    @property
    def quantized(self) -> bool:
        """Whether the reader takes a quantized weight now."""
        return self.before != self.after


@dataclass(slots=True)
class QuantizeReport:
    """Every weight that a quantizable op reads, in program order."""

    scheme: str
    entries: list[Entry] = field(default_factory=list[Entry])

    def __str__(self) -> str:
        done = sum(e.quantized for e in self.entries)
        lines = [f"{self.scheme}: {done} of {len(self.entries)} weights quantized"]
        for e in self.entries:
            what = f"{e.before} -> {e.after}" if e.quantized else "kept"
            lines.append(f"  @{e.weight} in {e.reader}: {what}" + (f" ({e.reason})" if e.reason else ""))
        return "\n".join(lines)


def quantize_weights(module: Module, scheme: str, skip: Sequence[str] = ()) -> QuantizeReport:
    """Give constant operands named by ``OpDef.quant`` a type with one scale per output channel, by absmax.

    ``scheme``: ``fp8`` (e4m3fn) or ``int8``. ``skip``: shell patterns of weight names or source locations to leave
    alone. Contents are computed when read. A weight with other readers (an embedding tied to the head) is kept for
    them as it is. MAIA0320 for another scheme, MAIA0321 for a pattern that nothing matches.
    """
    if scheme not in SCHEMES:
        raise MaiaError("MAIA0320", f"there is no quantization scheme {scheme!r}", hint=f"use {' or '.join(SCHEMES)}")
    to_linear(module)
    reads = [Read(op, at, fact) for op in module.walk() if (fact := quant_fact(op)) for at in _named(op, fact)]
    _check_patterns(skip, reads)
    work = _Quantizer(module, scheme, tuple(skip))
    return QuantizeReport(scheme, [work.quantize(read) for read in reads])


@dataclass(frozen=True, slots=True)
class Read:
    """A weight read in the slot that the op's definition allows to be quantized."""

    op: Op
    at: int
    fact: Quant

    @property
    def weight(self) -> Weight:
        """The weight that stands in the slot now."""
        weight = self.op.operand(self.at)
        assert isinstance(weight, Weight)
        return weight

    @property
    def reader(self) -> str:
        """The source location of the op, or its name."""
        return self.op.loc.name or self.op.name

    def skipped_by(self, patterns: Sequence[str]) -> str:
        """The first pattern that matches the weight's name or the reader; empty where none does."""
        names = (self.weight.name, self.reader)
        return next((p for p in patterns if any(fnmatch.fnmatchcase(n, p) for n in names)), "")


def quant_fact(op: Op) -> Quant | None:
    """What the op's definition says about a quantized operand."""
    return None if op.name in ("return", "yield", "call") else get_op(op.name).quant


def _named(op: Op, fact: Quant) -> Iterator[int]:
    """The index of the operand that the fact names, where that is a weight."""
    at = [term.name for term in get_op(op.name).signature.operands].index(fact.operand)
    if isinstance(op.operands[at], Weight) and not isinstance(op.operands[at], State):
        yield at


class _Quantizer:
    """Quantizes one read after the other; a weight that several ops read is quantized once."""

    def __init__(self, module: Module, scheme: str, skip: tuple[str, ...]) -> None:
        self.module = module
        self.storage = SCHEMES[scheme]
        self.skip = skip
        self.before: dict[Weight, TensorType] = {}  # weights quantized in place, with their old types
        self.copies: dict[tuple[Weight, int], Weight] = {}  # quantized beside a weight that others still read

    def quantize(self, read: Read) -> Entry:
        """Quantize the weight for this reader, or say why not."""
        weight, channel = read.weight, read.fact.channel
        assert isinstance(weight.type, TensorType)
        if weight in self.before:
            return Entry(weight.name, read.reader, str(self.before[weight].dtype), str(weight.type.dtype))
        before = str(weight.type.dtype)
        reason = self.why_not(read)
        if reason:
            return Entry(weight.name, read.reader, before, before, reason)
        type = weight.type.with_dtype(Quantized(self.storage, "channel", (channel,)))
        others = self.others(weight, channel)
        if not others:
            self.before[weight] = weight.type
            weight.type, weight.data = type, _quantized(weight, type)
            return Entry(weight.name, read.reader, before, str(type.dtype))
        copy = self.copies.get((weight, channel))
        if copy is None:
            name = f"{weight.name}.{self.storage}"
            copy = self.module.add_weight(name, type, _quantized(weight, type), **weight.attrs)
            self.copies[weight, channel] = copy
        read.op.set_operand(read.at, copy)
        reason = f"@{weight.name} stays for {', '.join(others)}"
        return Entry(copy.name, read.reader, before, str(type.dtype), reason)

    def why_not(self, read: Read) -> str:
        """The reason that a weight stays as it is."""
        type, pattern = read.weight.type, read.skipped_by(self.skip)
        assert isinstance(type, TensorType)
        if pattern:
            return f"matches the pattern {pattern!r}"
        if isinstance(type.dtype, Quantized):
            return f"is {type.dtype} already"
        if not type.dtype.is_float:
            return f"holds {type.dtype}, not real numbers"
        return "" if type.is_static else "has a symbolic dim"

    def others(self, weight: Weight, channel: int) -> list[str]:
        """Readers that need the weight as it is, or quantized along another dim."""
        found: set[str] = set()
        for op in weight.uses:
            fact = quant_fact(op)
            slots = [*_named(op, fact)] if fact is not None and fact.channel == channel else []
            read = Read(op, slots[0], fact) if slots and fact is not None else None
            alone = read is not None and read.weight is weight and op.operands.count(weight) == 1
            if read is None or not alone or read.skipped_by(self.skip):
                found.add(op.loc.name or op.name)
        return sorted(found)


def _quantized(weight: Weight, type: TensorType) -> QuantizedData | None:
    assert isinstance(type.dtype, Quantized)
    return None if weight.data is None else QuantizedData(weight.data, type.dtype)


def _check_patterns(skip: Sequence[str], reads: Sequence[Read]) -> None:
    unused = [p for p in skip if not any(read.skipped_by([p]) for read in reads)]
    if unused:
        names = sorted({n for read in reads for n in (read.weight.name, read.reader)})
        details = [f"no weight or layer matches {p!r}" for p in unused]
        hint = f"names are such as {', '.join(names[:4])}" if names else "the model has no weights to quantize"
        raise MaiaError("MAIA0321", "a pattern of layers to skip matches nothing", details=details, hint=hint)
