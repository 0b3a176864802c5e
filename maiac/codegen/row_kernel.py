"""The kernel of a group with reductions: loops over rows, in them one pass over the row for each reduction.

Where the row lies in one piece, vectors go along it; where another dim does (channels), each lane has a row of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from maiac.runtime.plan import Slot

from .expr import C_TYPE, Term, compute, convert, literal
from .kernel import Writer
from .loops import GRAIN, VECTORS, Group, indices, number_term, read, vector_function, write
from .rows import Node, Rows
from .views import Loop, View, loop_order, nest

_INIT = {"sum": 0.0, "max": float("-inf"), "min": float("inf")}
PIECE = 512  # elements, or vectors of them, that are summed before they join the total: a long sum loses less so
_COMBINE = {"sum": "({0} + {1})", "max": "maximum({0}, {1})", "min": "minimum({0}, {1})"}


def row_kernel(w: Writer, group: Group, rows: Rows, outputs: Mapping[Slot, View], weight: dict[str, int]) -> None:
    """Write the kernel of a group with reductions."""
    _RowWriter(w, group, rows, outputs, weight).write()


def spread(view: View, rows: Rows) -> View:
    """A result as a view of the whole shape: strides of 0 along what was reduced."""
    if view.rank < len(rows.shape):
        dims, strides = list(view.dims), list(view.strides)
        for i in rows.over:
            dims.insert(i, 1)
            strides.insert(i, 0)
        view = replace(view, dims=tuple(dims), strides=tuple(strides))
    return view.expand(rows.shape)


class _Lines:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        """Append a statement."""
        self.lines.append(line)


@dataclass(frozen=True)
class _Pass:
    """One loop over a row: ``innermost`` is the loop that vectors go along, ``loops`` are those around it."""

    loops: Sequence[Loop]
    innermost: Loop | None
    position: str  # where values that are kept lie
    prelude: _Lines  # what stands before the loop


class _RowWriter:
    def __init__(
        self, w: Writer, group: Group, rows: Rows, outputs: Mapping[Slot, View], weight: dict[str, int]
    ) -> None:
        self.w = w
        self.group = group
        self.rows = rows
        self.outputs = {slot: spread(v, rows) for slot, v in outputs.items()}
        self.weight = weight
        leaves = {n: n.view for n in dict.fromkeys(rows.nodes.values()) if n.view is not None}
        self.views = [*leaves.values(), *self.outputs.values()]
        self.at = {n: k for k, n in enumerate(leaves)}  # where operands and results stand among the views
        self.out_at = {slot: len(leaves) + k for k, slot in enumerate(self.outputs)}
        self.kept_dims = [i for i in range(len(rows.shape)) if i not in rows.over]
        full = [v for v in self.views if all(v.strides[i] != 0 for i in rows.over)] or self.views
        self.order = loop_order(full, len(rows.shape), weight)
        self.inner_reduced = self.order[-1] in rows.over or not self.kept_dims
        self.lane: list[str] = []  # steps of the views from row to row, where each lane has a row of its own
        self.last = max(n.level for n in self.needed_all())
        self.kept: dict[Node, str] = {}  # expensive values that more than one pass needs
        self.filled: set[Node] = set()  # of these, what earlier passes have computed
        self.names: dict[Node, str] = {}  # what is known of a node at this point of the text
        self.now = _Pass([], None, "0", _Lines())
        self.count = 0

    def write(self) -> None:
        """The loops over rows, and in them one pass for each level."""
        outer = nest(self.views, [i for i in self.order if i in self.kept_dims])
        inner = nest(self.views, [i for i in self.order if i in self.rows.over])
        names = [self.w.pointer(v, writes=k >= len(self.at)) for k, v in enumerate(self.views)]
        if self.inner_reduced:
            self.scalar_rows(names, outer, inner)
        else:
            self.vector_rows(names, outer, inner)

    def scalar_rows(self, names: Sequence[str], outer: Sequence[Loop], inner: Sequence[Loop]) -> None:
        """One row at a time, vectors along it."""
        w = self.w
        total = w.product([loop.count for loop in outer])
        length = w.product([loop.count for loop in inner])
        cost = self.cost()
        w.emit(f"const int64_t grain = 1 + {GRAIN // 8} * W / (({length} + W) * {cost});")
        w.emit(f"parallel({total}, grain, [&](int64_t begin, int64_t end) {{")
        self.spills(f"{length}")
        w.emit("for (int64_t o = begin; o < end; o++) {", 2)
        indices(w, outer, "o", 3)
        self.bases(names, outer, 3)
        self.passes(inner, 3, vectors=True)
        w.emit("}", 2)
        w.emit("});")

    def vector_rows(self, names: Sequence[str], outer: Sequence[Loop], inner: Sequence[Loop]) -> None:
        """W rows at a time, one in each lane."""
        w = self.w
        lane, outer = outer[-1], outer[:-1] or [Loop(1, (0,) * len(outer[-1].steps))]
        self.lane = [w.size(s) for s in lane.steps]
        blocks = f"(({w.size(lane.count)} + W - 1) / W)"
        total = w.product([loop.count for loop in outer])
        length = w.product([loop.count for loop in inner])
        w.emit(f"const int64_t grain = 1 + {GRAIN // 8} / (1 + ({length}) * {self.cost()});")
        w.emit(f"parallel({total} * {blocks}, grain, [&](int64_t begin, int64_t end) {{")
        self.spills(f"{length} * W")
        w.emit("for (int64_t ob = begin; ob < end; ob++) {", 2)
        w.emit(f"const int64_t o = ob / {blocks}, lane = ob % {blocks} * W;", 3)
        w.emit(f"const int64_t left = {w.size(lane.count)} - lane;", 3)
        indices(w, outer, "o", 3)
        self.bases(names, outer, 3)
        w.emit("auto row = [&](auto n) __attribute__((always_inline)) {", 3)
        self.passes(inner, 4, vectors=False)
        w.emit("};", 3)
        w.emit("left >= W ? row(Full()) : row(left);", 3)
        w.emit("}", 2)
        w.emit("});")

    def cost(self) -> int:
        """Roughly how many cycles a vector of the row takes."""
        return 4 + sum(12 if n.heavy else 1 for n in self.needed_all() if not n.per_row)

    def needed_all(self) -> list[Node]:
        """Every node that the group has, inner ones included."""
        seen: dict[Node, None] = {}

        def visit(n: Node) -> None:
            if n in seen:
                return
            for x in n.inputs:
                visit(x)
            seen[n] = None

        for slot in self.outputs:
            visit(self.rows.nodes[slot])
        return list(seen)

    def spills(self, length: str) -> None:
        """Room for expensive values that more than one pass needs."""
        self.kept = {n: f"kept{k}" for k, n in enumerate(self.read_again())}
        if not self.kept:
            return
        widths = {n: C_TYPE[n.dtype] for n in self.kept}
        size = max(8 if c == "double" else 4 for c in widths.values())
        self.w.emit(f"char* room = (char*)scratch({len(self.kept)} * {size} * ({length} + 2 * W));", 2)
        for k, (n, name) in enumerate(self.kept.items()):
            c = widths[n]
            self.w.emit(f"{c}* __restrict {name} = ({c}*)(room + {k} * {size} * ({length} + 2 * W));", 2)

    def read_again(self) -> list[Node]:
        """The expensive values that more than one pass needs."""
        made, found = set[Node](), dict[Node, None]()

        def visit(n: Node, now: set[Node]) -> None:
            if n.is_reduction or n.per_row or n in now:
                return
            if n in made:
                found.setdefault(n)
                return
            if n.heavy and n.kind == "map":
                now.add(n)
            for x in n.inputs:
                visit(x, now)

        for level in range(self.last + 1):
            now = set[Node]()
            for n in (*(s.inputs[0] for s in self.sums(level)), *(self.rows.nodes[s] for s in self.stores(level))):
                visit(n, now)
            made |= now
        return list(found)

    def sums(self, level: int) -> list[Node]:
        """The reductions that the pass of a level makes."""
        return [n for n in self.needed_all() if n.is_reduction and n.level == level + 1]

    def stores(self, level: int) -> dict[Slot, View]:
        """The results that the pass of a level makes, or that are numbers for a row and known before it."""
        return {s: v for s, v in self.outputs.items() if self.rows.nodes[s].level == level}

    def bases(self, names: Sequence[str], outer: Sequence[Loop], depth: int) -> None:
        """Where each operand's row begins."""
        for at, name in enumerate(names):
            terms = [f"o{k} * {self.w.size(loop.steps[at])}" for k, loop in enumerate(outer) if loop.steps[at] != 0]
            if not self.inner_reduced and self.lane[at] != "0":
                terms.append(f"lane * {self.lane[at]}" if self.lane[at] != "1" else "lane")
            self.w.emit(f"auto* __restrict a{at} = {' + '.join([name, *terms])};", depth)

    def passes(self, inner: Sequence[Loop], depth: int, vectors: bool) -> None:
        """One loop nest for each level that has reductions or results."""
        for level in range(self.last + 1):
            sums, stores = self.sums(level), self.stores(level)
            rowwise = {s: v for s, v in stores.items() if self.rows.nodes[s].per_row}
            self.one_pass(sums, {s: v for s, v in stores.items() if s not in rowwise}, inner, depth, vectors)
            for slot in rowwise:
                self.store_row(slot, depth)

    def one_pass(
        self,
        sums: Sequence[Node],
        stores: Mapping[Slot, View],
        inner: Sequence[Loop],
        depth: int,
        vectors: bool,
    ) -> None:
        """The loop over the row that makes these reductions and results."""
        if not sums and not stores:
            return
        w, outer_names = self.w, dict(self.names)
        accumulators = {n: self.fresh("r") for n in sums}
        loops, innermost = (inner[:-1], inner[-1]) if vectors else (inner, None)
        flat = _flat(w, loops)
        position = f"({flat}) * W" if innermost is None else f"({flat}) * {w.size(innermost.count)} + i"
        self.now = _Pass(loops, innermost, position, _Lines())
        lines = _Lines()
        for n in (*(s.inputs[0] for s in sums), *(self.rows.nodes[s] for s in stores)):
            self.value(n, lines)
        for n, acc in accumulators.items():
            combined = _COMBINE[n.kind].format(acc, self.names[n.inputs[0]])
            lines.add(f"{acc} = first_lanes({combined}, {acc}, n);" if vectors else f"{acc} = {combined};")
        for slot, view in stores.items():
            node = self.rows.nodes[slot]
            value = convert(Term(self.names[node], node.dtype), compute(view.dtype))
            lines.add(self.store(self.out_at[slot], value.text))
        if not sums:
            w.emit("{", depth)
        for n, acc in accumulators.items():
            w.emit(f"auto {acc} = {literal(_INIT[n.kind], n.dtype).text};", depth)
        totals = {acc: self.fresh("q") for n, acc in accumulators.items() if n.kind == "sum"}
        for acc, total in totals.items():
            w.emit(f"auto {total} = {acc};", depth)
        self.loop(inner, lines.lines, depth, totals)
        self.filled |= self.kept.keys() & self.names.keys()
        self.names = outer_names
        for n, acc in accumulators.items():
            self.names[n] = self.finished(n, totals.get(acc, acc), depth, vectors)
        if not sums:
            w.emit("}", depth)

    def loop(self, loops: Sequence[Loop], lines: Sequence[str], depth: int, totals: Mapping[str, str]) -> None:
        """Statements inside the loops over a row; each piece of a sum is added to its total."""
        w, last = self.w, len(loops) - 1
        for line in self.now.prelude.lines:
            w.emit(line, depth)
        for k, loop in enumerate(loops[:-1]):
            w.emit(f"for (int64_t j{k} = 0; j{k} < {w.size(loop.count)}; j{k}++) {{", depth + k)
        deep, count = depth + last, w.size(loops[-1].count)
        piece = f"{PIECE} * W" if self.now.innermost is not None else str(PIECE)
        if totals:
            w.emit(f"for (int64_t from = 0; from < {count}; from += {piece}) {{", deep)
            w.emit(f"const int64_t to = from + {piece} < {count} ? from + {piece} : {count};", deep + 1)
        else:
            w.emit("{", deep)
            w.emit(f"const int64_t from = 0, to = {count};", deep + 1)
        vectors = self.now.innermost is not None
        for line in (
            vector_function(lines) if vectors else [f"for (int64_t j{last} = from; j{last} < to; j{last}++) {{"]
        ):
            w.emit(line, deep + 1)
        for line in VECTORS if vectors else [*lines, "}"]:
            w.emit(line, deep + 1)
        for acc, total in totals.items():
            w.emit(f"{total} += {acc};", deep + 1)
            w.emit(f"{acc} = decltype({acc}){{}};", deep + 1)
        for k in reversed(range(len(loops))):
            w.emit("}", depth + k)

    def finished(self, n: Node, acc: str, depth: int, vectors: bool) -> str:
        """The reduction's value in every lane."""
        if not vectors:
            return acc
        name = self.fresh("t")
        c = C_TYPE[n.dtype]
        if n.kind == "sum":
            self.w.emit(f"const auto {name} = splat<{c}>(lanes_sum({acc}));", depth)
        else:
            fold = "maximum" if n.kind == "max" else "minimum"
            self.w.emit(
                f"const auto {name} = splat<{c}>(lanes_fold({acc}, [](auto x, auto y) {{ return {fold}(x, y); }}));",
                depth,
            )
        return name

    def value(self, n: Node, lines: _Lines) -> str:
        """The variable that holds a node in this pass, computed where it is not yet."""
        if n in self.names:
            return self.names[n]
        assert not n.is_reduction, "a reduction is used before its pass"
        if n.per_row:
            return self.row_value(n, self.now.prelude)
        name = self.fresh("v")
        if n in self.filled:
            lines.add(f"const auto {name} = ld({self.kept[n]} + {self.now.position}, Full());")
        elif n.kind == "leaf":
            lines.add(f"const auto {name} = {self.load(n)};")
        else:
            assert n.build is not None
            terms = [x.term(self.value(x, lines)) for x in n.inputs]
            lines.add(f"const auto {name} = {n.build(terms).text};")
            if n in self.kept:
                lines.add(f"st({self.kept[n]} + {self.now.position}, {name}, Full());")
        self.names[n] = name
        return name

    def load(self, n: Node) -> str:
        """A vector of a leaf."""
        assert n.view is not None
        at = self.at[n]
        base = self.offset(f"a{at}", at)
        if self.now.innermost is not None:
            return read(base, self.w.size(self.now.innermost.steps[at]), "i")
        step = self.lane[at]
        return f"lds({base})" if step == "0" else f"ld({base}, n)" if step == "1" else f"ldg({base}, {step}, n)"

    def store(self, at: int, value: str) -> str:
        """Store a vector of a result."""
        base = self.offset(f"a{at}", at)
        if self.now.innermost is not None:
            return write(base, self.w.size(self.now.innermost.steps[at]), "i", value)
        return f"st({base}, {value}, n);" if self.lane[at] == "1" else f"stg({base}, {self.lane[at]}, {value}, n);"

    def offset(self, base: str, at: int) -> str:
        """A pointer moved by the loops around the innermost one."""
        terms = [
            f"j{k} * {self.w.size(loop.steps[at])}" for k, loop in enumerate(self.now.loops) if loop.steps[at] != 0
        ]
        return f"({' + '.join([base, *terms])})" if terms else base

    def store_row(self, slot: Slot, depth: int) -> None:
        """Store one number for a row, or W of them."""
        node, view, at = self.rows.nodes[slot], self.outputs[slot], self.out_at[slot]
        lines = _Lines()
        self.now = _Pass([], None, "0", _Lines())
        saved = dict(self.names)
        value = convert(Term(self.row_value(node, lines), node.dtype), compute(view.dtype)).text
        self.w.emit("{", depth)
        for line in lines.lines:
            self.w.emit(line, depth + 1)
        if self.inner_reduced:
            self.w.emit(f"st(a{at}, {value}, (int64_t)1);", depth + 1)
        else:
            step = self.lane[at]
            self.w.emit(f"st(a{at}, {value}, n);" if step == "1" else f"stg(a{at}, {step}, {value}, n);", depth + 1)
        self.w.emit("}", depth)
        self.names = saved

    def row_value(self, n: Node, lines: _Lines) -> str:
        """The variable of a node that is one number for a row."""
        if n in self.names:
            return self.names[n]
        name = self.fresh("v")
        if n.kind == "leaf":
            at = self.at[n]
            if self.inner_reduced or self.lane[at] == "0":
                lines.add(f"const auto {name} = lds(a{at});")
            else:
                load = f"ld(a{at}, n)" if self.lane[at] == "1" else f"ldg(a{at}, {self.lane[at]}, n)"
                lines.add(f"const auto {name} = {load};")
        elif n.splat is not None:
            lines.add(f"const auto {name} = {number_term(self.w, n.splat).text};")
        else:
            assert n.build is not None
            terms = [x.term(self.row_value(x, lines)) for x in n.inputs]
            lines.add(f"const auto {name} = {n.build(terms).text};")
        self.names[n] = name
        return name

    def fresh(self, prefix: str) -> str:
        """A new variable."""
        self.count += 1
        return f"{prefix}{self.count}"


def _flat(w: Writer, loops: Sequence[Loop]) -> str:
    """The flat index of a nest of ``j`` loops."""
    text = "0"
    for k, loop in enumerate(loops):
        text = f"j{k}" if text == "0" else f"(({text}) * {w.size(loop.count)} + j{k})"
    return text
