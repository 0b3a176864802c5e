"""One definition per operation: ``@op("x[*b k], w[n k], bias[n]? -> y[*b n]", ...)``.

A signature names operands and results with their index letters:

- ``n``        one dim; the same letter is the same size, split alike, everywhere in the signature
- ``*b``       all leading dims that are left over, equal in every operand that has them
- ``~b``       like ``*b``, but aligned at the right and broadcast as NumPy does
- ``?``        after an operand: it may be absent;  ``*`` after an operand: any number of them
- ``x:int``    the dtype family that an operand takes (float, int, num, quantized, ...), one dtype, or ``value`` for
  anything at all; without it an operand is a tensor of any dtype that is not quantized
- no brackets  any shape: the op then says its result types with ``.infer``

From the letters follow checks, result types, sharding and flops; decorators override what letters cannot say.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .attributes import Attributes, attributes_of, fits, holds_dim, kind_text, numbers_only
from .dims import DimLike, evaluate, product
from .dtypes import BY_NAME, DType
from .errors import MaiaError, TypeFault
from .graph import Attr, Block
from .promotion import promote
from .signature import Signature, Terms, mentions_unknown, parse_signature, unknown
from .types import Axes, DimType, Quantized, TensorType, Type

__all__ = ["OpDef", "Quant", "bytes_of", "get_op", "mentions_unknown", "op", "op_names", "unknown", "unknown_op"]


@dataclass(frozen=True, slots=True)
class Quant:
    """Which operand may be quantized, the letter along which its products are summed, and its output-channel dim.

    Scales per index of dim ``channel`` may be applied after the sum.
    """

    operand: str
    along: str
    channel: int = 0


@dataclass(eq=False)
class OpDef:
    """Everything that is known about one operation; made by ``op``."""

    name: str
    signature: Signature
    reference: Callable[..., Any]
    dtype: str = ""
    linear: frozenset[str] = frozenset()
    additive: frozenset[str] = frozenset()
    offset: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()
    same: frozenset[str] = frozenset()
    quant: Quant | None = None
    alias: str = ""
    effect: bool = False
    random: bool = False
    host: bool = False
    regions: int = 0
    binds: str = ""
    mutates: str = ""
    into: Callable[..., Any] | None = None
    local: Mapping[str, str] = field(default_factory=dict[str, str])
    domain: tuple[float, float] | None = None
    infer_rule: Callable[..., Any] | None = None
    shard_rule: Callable[..., Any] | None = None
    flops_rule: Callable[..., Any] | None = None
    sample_rule: Callable[..., Any] | None = None

    @property
    def doc(self) -> str:
        """The docstring of the reference."""
        return inspect.getdoc(self.reference) or ""

    @cached_property
    def attributes(self) -> Attributes:
        """Attribute name -> (annotated kind, default); the default is ``inspect.Parameter.empty`` where required."""
        return attributes_of(self.reference)

    @cached_property
    def _numbers(self) -> frozenset[str]:
        return numbers_only(self.infer_rule)

    # **** decorators that say what letters cannot ****

    def infer(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """``rule(*operand types, **attrs) -> result type or list``: types without sharding."""
        self.infer_rule = rule
        return rule

    def shard(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """``rule(results, *operand types, **attrs) -> results``: add splits and owed sums, or raise TypeFault."""
        self.shard_rule = rule
        return rule

    def flops(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """``rule(results, *operand types, **attrs) -> DimLike``."""
        self.flops_rule = rule
        return rule

    def samples(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """``rule(s) -> iterator of (operands, attrs)``: inputs for the generated tests (see ops/sampling.py)."""
        self.sample_rule = rule
        return rule

    # **** what passes, builder and verifier ask ****

    def group(self, operands: Sequence[Type | None]) -> Terms:
        """Line operand types up with the signature's terms."""
        return self.signature.group(operands)

    def check_attrs(self, attrs: Mapping[str, Attr]) -> list[str]:
        """What is wrong with the attributes: missing or unknown names, wrong kinds."""
        faults = [f"{self.name} has no attribute {name!r}" for name in attrs if name not in self.attributes]
        for name, (hint, default) in self.attributes.items():
            if name not in attrs:
                if default is inspect.Parameter.empty:
                    faults.append(f"{self.name} needs the attribute {name!r}")
            elif not fits(attrs[name], hint):
                faults.append(f"{self.name}: {name} = {attrs[name]!r} is not {kind_text(hint)}")
            elif name in self._numbers and holds_dim(attrs[name]):
                faults.append(f"{self.name}: {name} = {attrs[name]} must be a number, not a symbol")
        return faults

    def result_types(
        self, operands: Sequence[Type | None], attrs: Mapping[str, Attr], regions: Sequence[Block] = ()
    ) -> list[Type]:
        """The types of the results, sharding included; TypeFault where the operands do not fit."""
        faults = self.check_attrs(attrs)
        if faults:
            raise TypeFault("; ".join(faults), "MAIA0107")
        if len(regions) != self.regions:
            raise TypeFault(f"{self.name} has {len(regions)} regions; expected {self.regions}", "MAIA0106")
        terms = self.group(operands)
        self.signature.check(terms, self.quant.operand if self.quant else "")
        self._check_same(terms)
        bound = self.signature.bind(terms)
        if self.infer_rule is not None:
            extra = {"regions": regions} if self.regions else {}
            results = _listed(self.infer_rule(*self._spread(terms), **attrs, **extra))
        else:
            results = self._letter_results(bound, terms, attrs)
        if any(isinstance(t, TensorType) and t.is_sharded for t in operands):
            results = self._shard(results, terms, attrs, bound)
            self._check_axes(results)
        return results

    def _spread(self, terms: Terms) -> Iterator[Any]:
        for term, types in zip(self.signature.operands, terms, strict=True):
            if term.variadic and isinstance(types, list):
                yield from types
            else:
                yield types

    def _check_same(self, terms: Terms) -> None:
        given = [(n, t) for n, t in self.signature.named(terms) if n in self.same]
        plain = [(n, t) for n, t in given if not isinstance(t.dtype, Quantized)]
        if len({t.dtype for _, t in plain}) > 1:
            shown = ", ".join(f"{n} = {t}" for n, t in plain)
            raise TypeFault(f"{self.name}: expected one dtype, but found {shown}")

    def _check_axes(self, results: Sequence[Type]) -> None:
        for type in results:
            axes = type.axes if isinstance(type, TensorType) else []
            if len(set(axes)) < len(axes):
                raise TypeFault(f"{self.name}: one mesh axis would split a result twice: {type}", "MAIA0108")

    def _letter_results(self, bound: dict[str, DimLike], terms: Terms, attrs: Mapping[str, Attr]) -> list[Type]:
        dtype, results = self.result_dtype(terms, attrs), self.signature.results
        return [TensorType(dtype, tuple(bound[x] for x in self.signature.letters_of(t, bound))) for t in results]

    def result_dtype(self, terms: Terms, attrs: Mapping[str, Attr]) -> DType | Quantized:
        """The dtype rule: an operand's name, a dtype's name, an attribute's name, or ``promote``."""
        if self.dtype in BY_NAME:
            return BY_NAME[self.dtype]
        if self.dtype in self.attributes:
            chosen = attrs.get(self.dtype, self.attributes[self.dtype][1])
            assert isinstance(chosen, DType)
            return chosen
        if self.dtype == "promote":
            return promote([t for t in self._spread(terms) if isinstance(t, TensorType)])
        at = [t.name for t in self.signature.operands].index(self.dtype)
        source = terms[at]
        source = source[0] if isinstance(source, list) else source
        assert isinstance(source, TensorType)
        return source.dtype

    def _shard(
        self, results: list[Type], terms: Terms, attrs: Mapping[str, Attr], bound: dict[str, DimLike]
    ) -> list[Type]:
        if self.shard_rule is not None:
            return _listed(self.shard_rule(results, *self._spread(terms), **attrs))
        if not self.signature.has_letters:
            raise TypeFault(f"{self.name} has no sharding rule, but an operand is sharded", "MAIA0108")
        try:
            split = self.signature.bind_split(terms, self.whole)
            owed = self._owed(terms, split)
        except TypeFault as fault:
            raise TypeFault(f"{self.name}: {fault}", fault.code) from None
        out: list[Type] = []
        for term, result in zip(self.signature.results, results, strict=True):
            assert isinstance(result, TensorType)
            out.append(result.with_split([split.get(x, ()) for x in self.signature.letters_of(term, bound)], owed))
        return out

    def _owed(self, terms: Terms, split: Mapping[str, Axes]) -> set[str]:
        """Mesh axes whose sum the results owe: contracted letters that are split, and sums that arrive owed."""
        given = self.signature.named(terms)
        arriving = {n: t.owed for n, t in given if t.owed}
        for name, axes in arriving.items():
            if name not in self.linear | self.additive:
                raise TypeFault(f"{name} still owes a sum over {'.'.join(axes)}", "MAIA0108")
        if arriving.keys() & self.additive and len({t.owed for n, t in given if n in self.additive}) > 1:
            raise TypeFault("its operands owe different sums", "MAIA0108")
        if len(arriving.keys() & self.linear) > 1:
            raise TypeFault("a product of two sums that are owed is not their sum", "MAIA0108")
        owed = {a for axes in arriving.values() for a in axes} | self._contracted(split)
        added = [n for n, _ in given if n in self.offset]
        if owed and added:
            what = "/".join(added)
            raise TypeFault(f"{what} would be added once per {'.'.join(sorted(owed))} rank", "MAIA0108")
        return owed

    def _contracted(self, split: Mapping[str, Axes]) -> set[str]:
        """Mesh axes that split letters which no result keeps: the op must be linear in whoever holds them."""
        kept = {x for term in self.signature.results for x in (term.letters or ())}
        axes: set[str] = set()
        for letter, by in split.items():
            base = letter.rstrip("0123456789") if letter[0] in "*~" else letter
            if not by or base in kept:
                continue
            for term in self.signature.operands:
                if base in (term.letters or ()) and term.name not in self.linear:
                    raise TypeFault(
                        f"dim {letter} of {term.name} must be whole, but {'.'.join(by)} splits it", "MAIA0108"
                    )
            axes |= set(by)
        return axes

    def count_flops(
        self, operands: Sequence[Type | None], attrs: Mapping[str, Attr], results: Sequence[Type]
    ) -> DimLike:
        """Floating-point operations: the product of all letters, twice where one is contracted."""
        terms = self.group(operands)
        if self.flops_rule is not None:
            return self.flops_rule(list(results), *self._spread(terms), **attrs)
        if self.alias or not self.signature.has_letters:
            return 0
        bound = self.signature.bind(terms)
        for term, result in zip(self.signature.results, results, strict=True):
            if isinstance(result, TensorType):  # where broadcasting left a size open, the result has it
                bound |= dict(zip(self.signature.letters_of(term, bound), result.dims, strict=True))
        kept = {x for term in self.signature.results for x in (term.letters or ())}
        contracted = any(x not in kept and not x.startswith(("*", "~")) for x in bound)
        return product(list(bound.values())) * (2 if contracted else 1)


def _listed(made: Type | Sequence[Type]) -> list[Type]:
    return list(made) if isinstance(made, Sequence) else [made]


# **** registry ****

_OPS: dict[str, OpDef] = {}


def op(
    signature: str,
    *,
    name: str = "",
    dtype: str = "",
    linear: str = "",
    additive: str = "",
    offset: str = "",
    whole: str = "",
    same: str = "",
    quant: Quant | None = None,
    alias: str = "",
    effect: bool = False,
    random: bool = False,
    host: bool = False,
    regions: int = 0,
    binds: str = "",
    mutates: str = "",
    into: Callable[..., Any] | None = None,
    local: Mapping[str, str] | None = None,
    domain: tuple[float, float] | None = None,
) -> Callable[[Callable[..., Any]], OpDef]:
    """Declare an operation by its reference body.

    - dtype: dtype of the results (see ``OpDef.result_dtype``); same: operands that have one dtype
    - linear: operands in each of which, the others fixed and no offset given, the op is linear
    - additive: operands in which it is jointly linear (add); offset: operands that are added to the result (a bias)
    - whole: letters that no mesh axis may split
    - quant: the operand that may be of a quantized type
    - alias: the operand whose storage the result may share (views)
    - effect: never removed or merged; random: never merged
    - host: runs on the host only, because no accelerator has what it works on (strings, compressed images)
    - regions: how many regions it holds
    - binds: the attribute that names symbols which this op binds
    - mutates: the operand that it changes in place, which must be a state
    - into: a torch function of the same operands and attributes that takes ``out=``
    - local: attributes that hold a result's dims, of which a rank sees its own part
    - domain: where the op is defined and smooth, for the generated tests
    """

    def define(reference: Callable[..., Any]) -> OpDef:
        definition = OpDef(
            name or reference.__name__.rstrip("_"),
            parse_signature(signature),
            reference,
            dtype,
            frozenset(linear.split()),
            frozenset(additive.split()),
            frozenset(offset.split()),
            frozenset(whole.split()),
            frozenset(same.split()),
            quant,
            alias,
            effect,
            random,
            host,
            regions,
            binds,
            mutates,
            into,
            dict(local or {}),
            domain,
        )
        assert definition.name not in _OPS, f"{definition.name} is defined twice"
        _OPS[definition.name] = definition
        return definition

    return define


def _loaded() -> dict[str, OpDef]:
    importlib.import_module(".ops", __package__)  # defines every op; late, because it imports torch
    return _OPS


def get_op(name: str) -> OpDef:
    """The definition of an op; MAIA0102 with the nearest names where there is none."""
    found = _OPS.get(name) or _loaded().get(name)
    if found is None:
        raise unknown_op(name)
    return found


def unknown_op(name: str) -> MaiaError:
    """The error for a name that no file declares."""
    near = difflib.get_close_matches(name, _loaded(), 3)
    hint = f"did you mean {', '.join(near)}?" if near else ""
    return MaiaError("MAIA0102", f"there is no operation {name!r}", hint=hint)


def op_names() -> list[str]:
    """Every operation's name, sorted."""
    return sorted(_loaded())


def bytes_of(type: Type, env: Mapping[str, int]) -> int:
    """Bytes of a tensor's elements under a binding of symbols, scales included; 0 for what is not a tensor."""
    if not isinstance(type, TensorType):
        return 8 if isinstance(type, DimType) else 0
    dims = [evaluate(d, env) for d in type.dims]
    total = type.element.bytes_for(math.prod(dims))
    if isinstance(type.dtype, Quantized):
        scales = math.prod(evaluate(d, env) for d in type.dtype.scale_shape(tuple(dims)))
        total += type.dtype.scale.bytes_for(scales)
    return total
