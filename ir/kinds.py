"""Kinds of operations that code generators treat alike: elementwise ones, products, and reductions of rows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from .graph import Attr
from .opdef import get_op

PRODUCTS = frozenset({"linear", "matmul", "conv"})
ROWS = frozenset({"softmax", "log_softmax", "layer_norm", "rms_norm", "sum", "mean", "amax", "amin"})
_NO_DEFINITION = frozenset({"call", "return", "yield"})


@lru_cache(maxsize=1024)
def is_elementwise(name: str) -> bool:
    """Whether an op works on each element alone: by its definition, operands and results have the same letters."""
    if name in _NO_DEFINITION:
        return False
    definition = get_op(name)
    terms = (*definition.signature.operands, *definition.signature.results)
    letters = {term.letters for term in terms}
    simple = all(t is not None and len(t) == 1 and t[0] in ("*b", "~b") for t in letters)
    return simple and bool(terms) and not definition.effect and not definition.random


def reduced_dims(name: str, attrs: Mapping[str, Attr], rank: int) -> tuple[int, ...] | None:
    """The dims of its first operand that one of ROWS goes over; None where only the run tells."""
    if name in ("softmax", "log_softmax"):
        dims: Attr = (attrs.get("dim", -1),)
    elif name in ("layer_norm", "rms_norm"):
        count = attrs.get("dims", 1)
        dims = tuple(range(rank - count, rank)) if isinstance(count, int) else (None,)
    else:
        given = attrs.get("dims")
        dims = tuple(range(rank)) if given is None else given
    found = [d % rank for d in dims if isinstance(d, int)] if isinstance(dims, tuple) and rank else []
    return tuple(sorted(found)) if isinstance(dims, tuple) and len(found) == len(dims) else None
