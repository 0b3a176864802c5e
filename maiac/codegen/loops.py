"""Loops over elements: a group of elementwise operations as one nest, its innermost loop in vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maiac.ir.dims import DimLike
from maiac.ir.dtypes import DType
from maiac.ir.opdef import get_op
from maiac.ir.types import TensorType
from maiac.runtime.plan import Slot, Source, Step

from .expr import Term, compute, convert, cost_class, expression, literal, plain
from .kernel import Writer
from .views import Loop, View, loop_order, nest


@dataclass(frozen=True)
class Splat:
    """A value that is one number everywhere: part of the text, or a size."""

    value: bool | int | float | DimLike
    dtype: DType
    dims: tuple[DimLike, ...]


Place = View | Splat


@dataclass(frozen=True)
class Group:
    """Operations that one kernel computes: steps in order, where each value from outside lies, and what is kept."""

    steps: Sequence[Step]
    places: Mapping[Source, Place]  # values from outside
    results: Sequence[Slot]


def attributes(step: Step) -> dict[str, Any]:
    """A step's attributes, those at their default included."""
    return {name: default for name, (_, default) in get_op(step.op.name).attributes.items()} | dict(step.attrs)


def type_of(value: Source) -> TensorType:
    """The type of a value that native code knows."""
    return plain(value.type)


class Body:
    """The statements that compute a group's values for one vector of elements."""

    def __init__(self, w: Writer, terms: dict[Source, Term]) -> None:
        self.w = w
        self.terms = terms
        self.lines: list[str] = []

    def step(self, step: Step) -> None:
        """One operation: a variable for its result."""
        operands = [v for v in step.operands if v is not None]
        term = expression(
            step.op.name,
            [self.terms[v] for v in operands],
            [type_of(v) for v in operands],
            type_of(step.results[0]),
            attributes(step),
        )
        self.define(step.results[0], term)

    def define(self, slot: Source, term: Term) -> None:
        """A variable that holds an expression."""
        name = f"v{len(self.lines)}"
        self.lines.append(f"const auto {name} = {term.text};")
        self.terms[slot] = Term(name, term.dtype, term.value)


def number_term(w: Writer, splat: Splat) -> Term:
    """The term of a value that is one number."""
    if isinstance(splat.value, (bool, int, float)):
        return literal(splat.value, splat.dtype)
    return convert(Term(f"splat<int64_t>({w.size(splat.value)})", DType.I64), splat.dtype)


def read(base: str, step: str, index: str) -> str:
    """The expression that loads a vector: ``step`` is the stride of the innermost loop."""
    if step == "0":
        return f"lds({base})"
    if step == "1":
        return f"ld({base} + {index}, n)"
    return f"ldg({base} + {index} * {step}, {step}, n)"


def write(base: str, step: str, index: str, value: str) -> str:
    """The statement that stores a vector."""
    if step == "1":
        return f"st({base} + {index}, {value}, n);"
    return f"stg({base} + {index} * {step}, {step}, {value}, n);"


GRAIN = 1 << 15  # cycles' worth of elements that a thread claims at once: below that claiming costs more


def element_cost(steps: Sequence[Step]) -> int:
    """Roughly how many cycles a vector takes, loads and stores included."""
    return 2 + sum(cost_class(s.op.name) for s in steps)


Compute = Callable[[Body], None]


def map_kernel(
    w: Writer,
    places: Mapping[Source, Place],
    outputs: Mapping[Slot, View],
    compute_values: Compute,
    each: int,
    weight: dict[str, int],
) -> None:
    """Write the nest of an elementwise kernel: all outputs have one shape, to which inputs broadcast.

    ``compute_values`` writes the terms of the outputs from those of ``places``; ``each`` is what a vector costs.
    """
    shape = next(iter(outputs.values())).dims
    inputs = {v: p.expand(shape) for v, p in places.items() if isinstance(p, View)}
    views = [*outputs.values(), *inputs.values()]
    loops = nest(views, loop_order(views, len(shape), weight))
    names = [w.pointer(v, writes=True) for v in outputs.values()] + [w.pointer(v) for v in inputs.values()]
    steps = [w.size(step) for step in loops[-1].steps]
    body = Body(w, {v: number_term(w, p) for v, p in places.items() if isinstance(p, Splat)})
    hoisted: list[str] = []
    for at, (slot, view) in enumerate(inputs.items(), len(outputs)):
        load = read(f"a{at}", steps[at], "i")
        if steps[at] == "0":
            hoisted.append(f"const auto h{at} = {load};")
            body.terms[slot] = Term(f"h{at}", compute(view.dtype))
        else:
            body.define(slot, Term(load, compute(view.dtype)))
    compute_values(body)
    for at, (slot, view) in enumerate(outputs.items()):
        value = convert(body.terms[slot], compute(view.dtype))
        body.lines.append(write(f"a{at}", steps[at], "i", value.text))
    _around(w, names, loops, each, [*hoisted, *vector_function(body.lines)])


def vector_function(lines: Sequence[str]) -> list[str]:
    """Statements for one vector as a function of its first element i and its lanes n."""
    head = "const auto vector = [&](int64_t i, auto n) __attribute__((always_inline)) {"
    return [head, *(f"    {line}" for line in lines), "};"]


VECTORS = ("int64_t i = from;", "for (; i + W <= to; i += W) vector(i, Full());", "if (i < to) vector(i, to - i);")


def _around(w: Writer, names: Sequence[str], loops: Sequence[Loop], each: int, lines: Sequence[str]) -> None:
    """The loops around a vector's statements: chunks of the innermost one, or of all others together."""
    inner, outer = loops[-1], loops[:-1]
    count = w.size(inner.count)
    if not outer:
        w.emit(f"parallel({count}, {max(64, GRAIN // each)}, [&](int64_t from, int64_t to) {{")
        for at, name in enumerate(names):
            w.emit(f"auto* __restrict a{at} = {name};", 2)
        for line in (*lines, *VECTORS):
            w.emit(line, 2)
        w.emit("});")
        return
    total = w.product([loop.count for loop in outer])
    w.emit(f"const int64_t grain = 1 + {GRAIN // 8} / (1 + (({count} + W - 1) / W) * {each});")
    w.emit(f"parallel({total}, grain, [&](int64_t begin, int64_t end) {{")
    w.emit("for (int64_t o = begin; o < end; o++) {", 2)
    w.emit(f"const int64_t from = 0, to = {count};", 3)
    indices(w, outer, "o", 3)
    for at, name in enumerate(names):
        terms = [f"o{k} * {w.size(loop.steps[at])}" for k, loop in enumerate(outer) if loop.steps[at] != 0]
        w.emit(f"auto* __restrict a{at} = {' + '.join([name, *terms])};", 3)
    for line in (*lines, *VECTORS):
        w.emit(line, 3)
    w.emit("}", 2)
    w.emit("});")


def indices(w: Writer, loops: Sequence[Loop], flat: str, depth: int) -> None:
    """``o0``, ``o1``... from a flat index over loops, the last of which is the innermost."""
    if len(loops) == 1:
        w.emit(f"const int64_t o0 = {flat};", depth)
        return
    w.emit(f"int64_t rest = {flat};", depth)
    for k in reversed(range(1, len(loops))):
        count = w.size(loops[k].count)
        w.emit(f"const int64_t o{k} = rest % {count};", depth)
        w.emit(f"rest /= {count};", depth)
    w.emit("const int64_t o0 = rest;", depth)
