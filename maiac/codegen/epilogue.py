"""Epilogues: what follows a product, done on each tile of sums while it is in the cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from maiac.ir.dtypes import DType
from maiac.runtime.plan import Slot, Source

from .expr import Term, compute, convert, plain
from .kernel import Writer
from .loops import Body, Group, indices, number_term, read, vector_function, write
from .views import View, nest


def epilogue(
    w: Writer,
    group: Group,
    anchor: Slot,
    outputs: Mapping[Slot, View],
    order: Sequence[int],
    extra: Sequence[tuple[str, View]] = (),
) -> str:
    """Write the function that turns a tile of ``anchor``'s sums into the group's results; its name.

    ``order`` lists the dims of the result so that the last is the tile's columns and the others, in row-major order,
    its rows. ``extra``: operands combined with the sums first, ``("+", bias)`` or ``("*", scale)``.
    """
    shape = plain(anchor.type).dims
    inputs: list[tuple[Source | None, View]] = [(None, v.expand(shape)) for _, v in extra]
    inputs += [(v, p.expand(shape)) for v, p in group.places.items() if isinstance(p, View)]
    terms: dict[Source, Term] = {v: number_term(w, p) for v, p in group.places.items() if not isinstance(p, View)}
    names = [w.pointer(v, writes=True) for v in outputs.values()] + [w.pointer(v) for _, v in inputs]
    views = [*outputs.values(), *(v for _, v in inputs)]
    rows = nest(views, order[:-1])
    columns = [w.size(v.strides[order[-1]]) for v in views]
    body = Body(w, terms)
    body.define(anchor, Term("ld(sums + i, n)", DType.F32))
    for at, (op, view) in enumerate(extra, len(outputs)):
        load = convert(Term(read(f"a{at}", columns[at], "i"), compute(view.dtype)), DType.F32)
        body.define(anchor, Term(f"({body.terms[anchor].text} {op} {load.text})", DType.F32))
    for at, (slot, view) in enumerate(inputs, len(outputs)):
        if slot is not None:
            body.define(slot, Term(read(f"a{at}", columns[at], "i"), compute(view.dtype)))
    for step in group.steps:
        body.step(step)
    for at, (slot, view) in enumerate(outputs.items()):
        value = convert(body.terms[slot], compute(view.dtype))
        body.lines.append(write(f"a{at}", columns[at], "i", value.text))
    w.emit(
        "const auto finish = [&](const float* tile, int64_t ld_, int64_t row, int64_t rows, int64_t col, int64_t to) {"
    )
    w.emit("for (int64_t r = 0; r < rows; r++) {", 2)
    if len(rows) == 1:  # what the next tile will write and read, while the products before it are made
        for at, (name, step) in enumerate(zip(names, columns, strict=True)):
            if step == "1" and rows[0].steps[at] != 0:
                w.emit(f"__builtin_prefetch({name} + (row + rows + r) * {w.size(rows[0].steps[at])} + col);", 3)
    indices(w, rows, "row + r", 3)
    for at, (name, step) in enumerate(zip(names, columns, strict=True)):
        moved = [f"o{k} * {w.size(loop.steps[at])}" for k, loop in enumerate(rows) if loop.steps[at] != 0]
        moved += [] if step == "0" else ["col"] if step == "1" else [f"col * {step}"]
        w.emit(f"auto* __restrict a{at} = {' + '.join([name, *moved])};", 3)
    w.emit("const float* sums = tile + r * ld_;", 3)
    for line in vector_function(body.lines):
        w.emit(line, 3)
    w.emit("int64_t i = 0;", 3)
    w.emit("for (; i + W <= to; i += W) vector(i, Full());", 3)
    w.emit("if (i < to) vector(i, to - i);", 3)
    w.emit("}", 2)
    w.emit("};")
    return "finish"
