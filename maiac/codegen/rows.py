"""Rows: groups with reductions (softmax, normalisations, sums), one pass over a row for each reduction.

Values of a group have one shape, or that shape with the reduced dims gone or 1. What a later pass needs of an earlier
one is computed again from the operands, which lie in the cache by then, unless it is expensive: that is kept aside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from maiac.ir.dims import DimLike, product
from maiac.ir.dtypes import DType
from maiac.ir.kinds import ROWS
from maiac.ir.kinds import reduced_dims as reduced_by
from maiac.ir.types import TensorType
from maiac.runtime.plan import Source, Step

from .expr import Term, Unsupported, compute, cost_class, expression, is_elementwise, literal
from .loops import Group, Splat, attributes, type_of
from .views import View


@dataclass(eq=False)
class Node:
    """A value of a row: ``leaf`` (in memory), ``number``, ``map`` (an expression), or a reduction: sum, max, min."""

    kind: str
    dtype: DType
    inputs: tuple[Node, ...] = ()
    build: Callable[[list[Term]], Term] | None = None
    view: View | None = None
    splat: Splat | None = None
    heavy: bool = False
    level: int = 0
    per_row: bool = False  # one number for a row

    @property
    def is_reduction(self) -> bool:
        """Whether a pass over the row makes it."""
        return self.kind in ("sum", "max", "min")

    def term(self, name: str) -> Term:
        """The value under the name that it has in the text."""
        value = None if self.splat is None else self.splat.value
        return Term(name, self.dtype, value if isinstance(value, (bool, int, float)) else None)


@dataclass
class Rows:
    """The values of a group as nodes, and the dims that its reductions go over."""

    shape: tuple[DimLike, ...]
    over: tuple[int, ...]
    nodes: dict[Source, Node] = field(default_factory=dict[Source, Node])


def reduced_dims(step: Step) -> tuple[TensorType, tuple[int, ...]]:
    """The shape that a row operation works on, and the dims that it reduces."""
    operand = step.operands[0]
    assert operand is not None
    x = type_of(operand)
    over = reduced_by(step.op.name, attributes(step), x.rank)
    if over is None:
        raise Unsupported("dims that only the run tells")
    return x, over


def analyse(group: Group) -> Rows:
    """The nodes of a group. Unsupported where its shapes do not fit together."""
    firsts = [reduced_dims(s) for s in group.steps if s.op.name in ROWS]
    type, over = firsts[0]
    if not over or any(t.dims != type.dims or o != over for t, o in firsts):
        raise Unsupported("reductions of different shapes")
    rows = Rows(type.dims, over)
    for step in group.steps:
        _Maker(rows, group).step(step)
    return rows


class _Maker:
    """Makes the nodes of one step."""

    def __init__(self, rows: Rows, group: Group) -> None:
        self.rows = rows
        self.group = group

    def node(self, value: Source) -> Node:
        """The node of an operand."""
        found = self.rows.nodes.get(value)
        if found is not None:
            return found
        place = self.group.places[value]
        type = type_of(value)
        if isinstance(place, Splat):
            made = Node("number", compute(type.element), splat=place, per_row=True)
        else:
            view = place.expand(self.rows.shape)
            made = Node("leaf", compute(type.element), view=view)
            made.per_row = all(view.strides[i] == 0 for i in self.rows.over)
        self.rows.nodes[value] = made
        return made

    def map(
        self, inputs: Iterable[Node], build: Callable[[list[Term]], Term], dtype: DType, heavy: bool = False
    ) -> Node:
        """An expression of other nodes."""
        given = tuple(inputs)
        level = max((n.level for n in given), default=0)
        return Node("map", dtype, given, build, heavy=heavy, level=level, per_row=all(n.per_row for n in given))

    def reduce(self, kind: str, x: Node) -> Node:
        """A reduction of a node over the row."""
        return Node(kind, x.dtype, (x,), level=x.level + 1, per_row=True)

    def scaled(self, x: Node) -> Node:
        """A sum over the row, divided by the row's length."""
        count = product([self.rows.shape[i] for i in self.rows.over])
        total = self.reduce("sum", x)
        length = Node("number", total.dtype, splat=Splat(count, total.dtype, ()), per_row=True)
        return self.map([total, length], lambda t: Term(f"({t[0].text} / {t[1].text})", total.dtype), total.dtype)

    def step(self, step: Step) -> None:
        """The node of a step's result."""
        name, slot = step.op.name, step.results[0]
        operands = [self.node(v) for v in step.operands if v is not None]
        if name not in ROWS:
            self.rows.nodes[slot] = self.elementwise(step, operands)
            return
        x = operands[0]
        if compute(type_of(slot).element) not in (DType.F32, DType.F64) or x.per_row:
            raise Unsupported(f"{name} of {type_of(slot)}")
        made = getattr(self, name)(step, x, operands)
        self.rows.nodes[slot] = made

    def elementwise(self, step: Step, operands: list[Node]) -> Node:
        """An elementwise step."""
        types = [type_of(v) for v in step.operands if v is not None]
        result, attrs, name = type_of(step.results[0]), attributes(step), step.op.name

        def build(terms: list[Term]) -> Term:
            return expression(name, terms, types, result, attrs)

        return self.map(operands, build, compute(result.element), cost_class(name) > 1)

    def binary(self, op: str, x: Node, y: Node, heavy: bool = False) -> Node:
        """An arithmetic node."""
        return self.map([x, y], lambda t: Term(f"({t[0].text} {op} {t[1].text})", x.dtype), x.dtype, heavy)

    def call(self, fn: str, x: Node, heavy: bool = True) -> Node:
        """A function of a node."""
        return self.map([x], lambda t: Term(f"{fn}({t[0].text})", x.dtype), x.dtype, heavy)

    # **** row operations in terms of reductions ****

    def softmax(self, step: Step, x: Node, _: list[Node]) -> Node:
        """exp(x - max) over its sum; a row of -inf is NaN, as in torch."""
        e = self.call("exp", self.binary("-", x, self.reduce("max", x)))
        one = self.map([], lambda t: literal(1, x.dtype), x.dtype)
        one.per_row = True
        return self.binary("*", e, self.binary("/", one, self.reduce("sum", e)))

    def log_softmax(self, step: Step, x: Node, _: list[Node]) -> Node:
        """x - max - log(sum(exp(x - max)))."""
        shifted = self.binary("-", x, self.reduce("max", x))
        total = self.reduce("sum", self.call("exp", shifted))
        return self.binary("-", shifted, self.call("log", total))

    def layer_norm(self, step: Step, x: Node, operands: list[Node]) -> Node:
        """Mean, then the variance of what is left: as exact as a two-pass variance."""
        centred = self.binary("-", x, self.scaled(x))
        variance = self.scaled(self.binary("*", centred, centred))
        return self.affine(step, self.binary("*", centred, self.inverse_root(variance, step)))

    def rms_norm(self, step: Step, x: Node, operands: list[Node]) -> Node:
        """x over the root of its mean square."""
        square = self.scaled(self.binary("*", x, x))
        return self.affine(step, self.binary("*", x, self.inverse_root(square, step)))

    def inverse_root(self, x: Node, step: Step) -> Node:
        """1 / sqrt(x + eps)"""
        eps = float(attributes(step)["eps"])
        d = x.dtype
        text = f"({literal(1, d).text} / sqrt(%s + {literal(eps, d).text}))"
        return self.map([x], lambda t: Term(text % t[0].text, d), d, True)

    def affine(self, step: Step, x: Node) -> Node:
        """Times the scale, plus the shift, where they are given."""
        for op, value in zip("*+", step.operands[1:], strict=False):
            if value is not None:
                x = self.binary(op, x, self.node(value))
        return x

    def sum(self, step: Step, x: Node, _: list[Node]) -> Node:
        """The sum over the row."""
        return self.reduce("sum", x)

    def mean(self, step: Step, x: Node, _: list[Node]) -> Node:
        """The mean over the row."""
        return self.scaled(x)

    def amax(self, step: Step, x: Node, _: list[Node]) -> Node:
        """The greatest element; NaN wins."""
        return self.reduce("max", x)

    def amin(self, step: Step, x: Node, _: list[Node]) -> Node:
        """The least element; NaN wins."""
        return self.reduce("min", x)


def is_row_op(step: Step) -> bool:
    """Whether a step reduces a row."""
    return step.op.name in ROWS


def may_join(step: Step) -> bool:
    """Whether a step may stand in a group with reductions."""
    return is_row_op(step) or is_elementwise(step.op.name)
