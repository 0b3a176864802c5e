"""One definition per operation: ``@op("x[*b k], w[n k], bias[n]? -> y[*b n]", ...)``.

A signature names operands and results with their index letters:

- ``n``        one dim; the same letter is the same size, split alike, everywhere in the signature
- ``*b``       all leading dims that are left over, equal in every operand that has them
- ``~b``       like ``*b``, but aligned at the right and broadcast as NumPy does
- ``?``        after an operand: it may be absent;  ``*`` after an operand: any number of them
- ``x:int``    the dtype family that an operand takes (float, int, bool, num, ...) or one dtype
- no brackets  any shape: the op then says its result types with ``.infer``

From the letters follow checks, result types, sharding and flops; decorators override what letters cannot say.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias, get_type_hints

from .dims import Dim, DimLike, evaluate, product, sym
from .dtypes import BY_NAME, DType
from .errors import MaiaError, TypeFault
from .graph import Attr, Block
from .signature import Signature, parse_signature
from .types import DimType, Quantized, TensorType, Type

Types: TypeAlias = "list[Type | list[Type] | None]"  # by operand term: one type, a variadic list, or None if absent


@dataclass(frozen=True, slots=True)
class Quant:
    """Which operand may be quantized, and the letter along which its products are summed."""

    operand: str
    along: str


def unknown(index: int = 0) -> Dim:
    """A result dim that only the run tells; the builder puts a fresh symbol in its place."""
    return sym(f"?{index}")


def is_unknown(dim: DimLike) -> bool:
    """Whether this is an ``unknown`` placeholder."""
    return isinstance(dim, Dim) and str(dim).startswith("?")


@dataclass(eq=False)
class OpDef:
    """Everything that is known about one operation; made by ``op``."""

    name: str
    signature: Signature
    reference: Callable[..., Any]
    dtype: str = ""
    linear: frozenset[str] = frozenset()
    additive: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()
    quant: Quant | None = None
    alias: str = ""
    effect: bool = False
    random: bool = False
    regions: int = 0
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
    def attributes(self) -> dict[str, tuple[Any, Any]]:
        """Attribute name -> (annotated type, default); the default is ``inspect.Parameter.empty`` where required."""
        hints = get_type_hints(self.reference)
        found: dict[str, tuple[Any, Any]] = {}
        for parameter in inspect.signature(self.reference).parameters.values():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.name != "regions":
                found[parameter.name] = (hints.get(parameter.name, Any), parameter.default)
        return found

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

    def group(self, operands: Sequence[Type | None]) -> Types:
        """Line operand types up with the signature's terms."""
        return self.signature.group(operands)

    def check_attrs(self, attrs: Mapping[str, Attr]) -> list[str]:
        """What is wrong with the attributes: missing or unknown names, wrong kinds."""
        faults = [f"{self.name} has no attribute {name!r}" for name in attrs if name not in self.attributes]
        for name, (hint, default) in self.attributes.items():
            if name not in attrs:
                if default is inspect.Parameter.empty:
                    faults.append(f"{self.name} needs the attribute {name!r}")
            elif not _fits(attrs[name], hint):
                faults.append(f"{self.name}: {name} = {attrs[name]!r} is not {_hint_text(hint)}")
        return faults

    def result_types(
        self, operands: Sequence[Type | None], attrs: Mapping[str, Attr], regions: Sequence[Block] = ()
    ) -> list[Type]:
        """The types of the results, sharding included; TypeFault where the operands do not fit."""
        faults = self.check_attrs(attrs)
        if faults:
            raise TypeFault("; ".join(faults), "MAIA0107")
        terms = self.group(operands)
        bound = self.signature.bind(terms)
        extra = {"regions": regions} if self.regions else {}
        if self.infer_rule is not None:
            made = self.infer_rule(*self._spread(terms), **attrs, **extra)
            results: list[Type] = [made] if isinstance(made, Type) else list(made)
        else:
            results = self._letter_results(bound, terms, attrs)
        if any(isinstance(t, TensorType) and t.is_sharded for t in operands):
            return self._shard(results, terms, attrs)
        return results

    def _spread(self, terms: Types) -> Iterator[Any]:
        for term, types in zip(self.signature.operands, terms, strict=True):
            if term.variadic and isinstance(types, list):
                yield from types
            else:
                yield types

    def _letter_results(self, bound: dict[str, DimLike], terms: Types, attrs: Mapping[str, Attr]) -> list[Type]:
        dtype = self.result_dtype(terms, attrs)
        return [TensorType(dtype, self.signature.dims_of(term, bound)) for term in self.signature.results]

    def result_dtype(self, terms: Types, attrs: Mapping[str, Attr]) -> DType | Quantized:
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

    def _shard(self, results: list[Type], terms: Types, attrs: Mapping[str, Attr]) -> list[Type]:
        if self.shard_rule is not None:
            made = self.shard_rule(results, *self._spread(terms), **attrs)
            return [made] if isinstance(made, Type) else list(made)
        if not self.signature.has_letters:
            raise TypeFault(f"{self.name} has no sharding rule, but an operand is sharded", "MAIA0108")
        split = self.signature.bind_split(terms, self.whole, self.name)
        owed = self._owed(terms, split)
        out: list[Type] = []
        for term, result in zip(self.signature.results, results, strict=True):
            assert isinstance(result, TensorType)
            axes = self.signature.split_of(term, split)
            used = [a for per_dim in axes for a in per_dim]
            if len(set(used)) < len(used):
                raise TypeFault(f"{self.name}: one mesh axis would split two dims of {term.name}", "MAIA0108")
            out.append(result.with_split(axes, owed))
        return out

    def _owed(self, terms: Types, split: dict[str, tuple[str, ...]]) -> set[str]:
        """Mesh axes whose sum the results owe: contracted letters that are split, and sums that arrive owed."""
        kept = {x for term in self.signature.results for x in (term.letters or ())}
        owed = {a for x, axes in split.items() for a in axes if x not in kept and x[:1] not in "*~"}
        given = self.signature.named(terms)
        arriving = {n: t.owed for n, t in given if t.owed}
        for name, axes in arriving.items():
            if name not in self.linear | self.additive:
                raise TypeFault(f"{self.name}: {name} still owes a sum over {'.'.join(axes)}", "MAIA0108")
        if arriving.keys() & self.additive and len({t.owed for n, t in given if n in self.additive}) > 1:
            raise TypeFault(f"{self.name}: its operands owe different sums", "MAIA0108")
        if len(arriving.keys() & self.linear) > 1:
            raise TypeFault(f"{self.name}: a product of two sums that are owed is not their sum", "MAIA0108")
        owed |= {a for axes in arriving.values() for a in axes}
        once = [n for n, _ in given if n not in self.linear | self.additive]
        if owed and once:
            what = "/".join(once)
            raise TypeFault(f"{self.name}: {what} would be added once per {'.'.join(sorted(owed))} rank", "MAIA0108")
        return owed

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
        kept = {x for term in self.signature.results for x in (term.letters or ())}
        contracted = any(x not in kept and not x.startswith(("*", "~")) for x in bound)
        return product(list(bound.values())) * (2 if contracted else 1)


# **** dtype promotion (torch's rule: a 0-dim operand widens only to a higher family) ****

_FAMILY = {"bool": 0, "uint": 1, "int": 1, "float": 2, "complex": 3}
_WIDTH = {d: i for i, d in enumerate([DType.F16, DType.BF16, DType.F32, DType.F64])}


def promote(types: Sequence[TensorType]) -> DType:
    """The common dtype of operands under torch's promotion rule."""
    dims, zero = [t for t in types if t.rank], [t for t in types if not t.rank]
    winner = _common([t.element for t in dims])
    scalar = _common([t.element for t in zero])
    if winner is None or scalar is None:
        found = winner or scalar
        assert found is not None
        return found
    if _FAMILY[scalar.family] > _FAMILY[winner.family]:
        both = _common([winner, scalar]) if winner.is_float else scalar
        assert both is not None
        return DType.F32 if scalar is DType.F64 and not winner.is_float and scalar.is_float else both
    return winner


def _common(dtypes: Sequence[DType]) -> DType | None:
    out: DType | None = None
    for d in dtypes:
        out = d if out is None else _pair(out, d)
    return out


def _pair(a: DType, b: DType) -> DType:
    if a is b:
        return a
    fa, fb = _FAMILY[a.family], _FAMILY[b.family]
    if fa != fb:
        high, low = (a, b) if fa > fb else (b, a)
        return DType.C128 if high is DType.C64 and low is DType.F64 else high
    if a.is_float:
        if {a, b} == {DType.F16, DType.BF16}:
            return DType.F32
        return max(a, b, key=lambda d: _WIDTH.get(d, -1))
    if a.family == b.family:
        return a if a.bits >= b.bits else b
    signed, unsigned = (a, b) if a.family == "int" else (b, a)
    return signed if signed.bits > unsigned.bits else BY_NAME[f"i{min(64, unsigned.bits * 2)}"]


# **** attribute kinds ****


def _hint_text(hint: Any) -> str:
    return getattr(hint, "__name__", None) if isinstance(hint, type) else str(hint).replace("maiac.ir.", "")


def _fits(value: Any, hint: Any) -> bool:
    args = getattr(hint, "__args__", ())
    if hint is Any:
        return True
    if hint is None or hint is type(None):
        return value is None
    if getattr(hint, "__origin__", None) is tuple:
        return isinstance(value, tuple) and all(_fits(v, args[0]) for v in value)
    if args:
        return any(_fits(value, a) for a in args)
    if hint is int or hint is Dim:
        return isinstance(value, (int, Dim)) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint)


# **** registry ****

_OPS: dict[str, OpDef] = {}


def op(
    signature: str,
    *,
    name: str = "",
    dtype: str = "",
    linear: str = "",
    additive: str = "",
    whole: str = "",
    quant: Quant | None = None,
    alias: str = "",
    effect: bool = False,
    random: bool = False,
    regions: int = 0,
    into: Callable[..., Any] | None = None,
    local: Mapping[str, str] | None = None,
    domain: tuple[float, float] | None = None,
) -> Callable[[Callable[..., Any]], OpDef]:
    """Declare an operation by its reference body.

    dtype: dtype of the results (see ``OpDef.result_dtype``). linear: operands in each of which, the others fixed, the
    op is linear; additive: operands in which it is jointly linear (add). whole: letters that no mesh axis may split.
    alias: the operand whose storage the result may share (views). effect: never removed or merged. random: never
    merged. regions: how many regions it holds. into: a torch function of the same operands and attributes that takes
    ``out=``. local: attributes that hold a result's dims, which a rank sees as its own part. domain: where the
    op is defined and smooth, for the generated tests.
    """

    def define(reference: Callable[..., Any]) -> OpDef:
        definition = OpDef(
            name or reference.__name__.rstrip("_"),
            parse_signature(signature),
            reference,
            dtype,
            frozenset(linear.split()),
            frozenset(additive.split()),
            frozenset(whole.split()),
            quant,
            alias,
            effect,
            random,
            regions,
            into,
            dict(local or {}),
            domain,
        )
        assert definition.name not in _OPS, f"{definition.name} is defined twice"
        _OPS[definition.name] = definition
        return definition

    return define


def _loaded() -> dict[str, OpDef]:
    from . import ops  # noqa: F401, PLC0415  (defines every op; late, because it imports torch)

    return _OPS


def get_op(name: str) -> OpDef:
    """The definition of an op; MAIA0102 with the nearest names where there is none."""
    found = _OPS.get(name) or _loaded().get(name)
    if found is None:
        raise unknown_op(name)
    return found


def unknown_op(name: str) -> MaiaError:
    """The error for a name that no file declares."""
    import difflib  # noqa: PLC0415

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
