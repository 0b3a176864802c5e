"""Strings (ONNX): at run time NumPy arrays of Python strings, which live on the host only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..dims import DimLike
from ..dtypes import DType
from ..errors import TypeFault
from ..opdef import OpDef, op, unknown
from ..types import TensorType, Type
from .sampling import Sample, Sampler
from .values import to_torch


@op("x:str[~b], y:str[~b] -> z[~b]", dtype="bool", host=True)
def string_equal(x: Any, y: Any) -> Any:
    """True where two strings are equal."""
    return torch.from_numpy(np.asarray(x == y, np.bool_))


@op("x:str[~b], y:str[~b] -> z[~b]", dtype="str", host=True)
def string_concat(x: Any, y: Any) -> Any:
    """Each string of x followed by that of y."""
    return np.asarray(np.asarray(x, object) + np.asarray(y, object), object)


@op("xs:str* -> y", host=True)
def string_join(*xs: Any, dim: int) -> Any:
    """Join tensors of strings along a dim."""
    return np.concatenate(xs, dim)


@string_join.infer
def _(*xs: TensorType, dim: int) -> Type:
    size: DimLike = 0
    for x in xs:
        size = x.dims[dim] + size
    at = dim % xs[0].rank
    return TensorType(DType.STR, tuple(size if i == at else d for i, d in enumerate(xs[0].dims)))


@op("x:str -> parts, counts", host=True)
def string_split(x: Any, *, delimiter: str | None = None, limit: int | None = None) -> Any:
    """The parts of each string in a new last dim, filled up with empty ones, and their numbers.

    delimiter: runs of white space where None. limit: the most cuts.
    """
    rows = [s.split(delimiter or None, -1 if limit is None else limit) for s in x.reshape(-1)]
    width = max(map(len, rows), default=0)
    parts = np.empty((len(rows), width), object)
    parts[...] = ""
    for i, row in enumerate(rows):
        parts[i, : len(row)] = row
    counts = torch.tensor([len(r) for r in rows], dtype=torch.int64)
    return parts.reshape(*x.shape, width), counts.reshape(x.shape)


@string_split.infer
def _(x: TensorType, **_: Any) -> list[Type]:
    return [TensorType(DType.STR, (*x.dims, unknown())), TensorType(DType.I64, x.dims)]


@op("x:str -> y", host=True)
def string_normalize(x: Any, *, case: str = "none", stopwords: tuple[str, ...] = (), sensitive: bool = False) -> Any:
    """x[c] or x[1 c] without stop words, in lower or upper case; one empty string where none is left.

    case: none, lower or upper. sensitive: stop words are compared as they are, else regardless of case.
    """
    words = {w if sensitive else w.lower() for w in stopwords}
    kept = [s for s in x.reshape(-1) if (s if sensitive else s.lower()) not in words]
    kept = [s.lower() if case == "lower" else s.upper() if case == "upper" else s for s in kept] or [""]
    return np.asarray(kept, object).reshape((1, -1) if x.ndim == 2 else (-1,))


@string_normalize.infer
def _(x: TensorType, *, case: str = "none", **_: Any) -> Type:
    if x.rank not in (1, 2) or case not in ("none", "lower", "upper"):
        raise TypeFault(f"x is {x} and case is {case!r}; expected [c] or [1, c], and none, lower or upper")
    return TensorType(DType.STR, (*([1] * (x.rank - 1)), unknown()))


@op("x:str[*b] -> y[*b]", dtype="bool", host=True)
def regex_full_match(x: Any, *, pattern: str) -> Any:
    """True where the whole string matches a regular expression."""
    found = [re.fullmatch(pattern, s) is not None for s in x.reshape(-1)]
    return torch.tensor(found, dtype=torch.bool).reshape(x.shape)


@op("x[*b] -> y[*b]", dtype="to", host=True)
def cast_string(x: Any, *, to: DType) -> Any:
    """Numbers as strings, or strings as numbers."""
    if to is DType.STR:
        return np.asarray([_spelled(v) for v in x.reshape(-1).tolist()], object).reshape(tuple(x.shape))
    read = float if to.is_float else int
    numbers = [read(s) for s in x.reshape(-1)]
    return torch.tensor(numbers, dtype=to_torch(to)).reshape(x.shape)


def _spelled(value: bool | int | float) -> str:
    if isinstance(value, float):
        return (
            "NaN"
            if value != value
            else "INF"
            if value == float("inf")
            else "-INF"
            if value == -float("inf")
            else str(value)
        )
    return str(value)


@op("x[*b] -> y[*b]", dtype="to", host=True)
def look_up(
    x: Any,
    *,
    to: DType,
    keys: tuple[int | float | str, ...],
    values: tuple[int | float | str, ...],
    default: int | float | str,
) -> Any:
    """The value under each element's key, or the default; NaN is a key like others."""
    table = {_key(k): v for k, v in zip(keys, values, strict=True)}
    found = [table.get(_key(k), default) for k in x.reshape(-1).tolist()]
    if to is DType.STR:
        return np.asarray(found, object).reshape(tuple(x.shape))
    return torch.tensor(found, dtype=to_torch(to)).reshape(tuple(x.shape))


def _key(value: int | float | str) -> int | float | str:
    return "NaN" if value != value else value


@look_up.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.ints(4, 6),), {"to": DType.I64, "keys": (0, 2, 3), "values": (7, 8, 9), "default": -1}
    yield (s.ints(4),), {"to": DType.F32, "keys": (0, 2), "values": (0.5, 1.5), "default": 0.0}


@op("x -> y", host=True)
def count_ngrams(
    x: Any,
    *,
    ngrams: tuple[tuple[int | str, ...], ...],
    places: tuple[int, ...],
    shortest: int,
    longest: int,
    skip: int = 0,
    mode: str = "TF",
    weights: tuple[float, ...] = (),
) -> Any:
    """How often each n-gram stands in each row of x[c] or x[n c]: f32[places] or f32[n places] (ONNX TfIdfVectorizer).

    places: the column of each n-gram. skip: the most elements left out between two of an n-gram, always as many.
    mode: TF counts, IDF gives the weight of those that occur, TFIDF the product.
    """
    column = dict(zip(ngrams, places, strict=True))
    rows = [r.tolist() for r in (x if x.ndim == 2 else x[None])]
    out = torch.zeros(len(rows), max(places) + 1)
    for i, row in enumerate(rows):
        for found in _ngrams(row, shortest, longest, skip):
            if found in column:
                out[i, column[found]] += 1
    if mode != "TF":
        scale = torch.ones(out.shape[1])
        scale[list(places)] = torch.tensor(weights or (1.0,) * len(places))
        out = (out if mode == "TFIDF" else (out > 0).float()) * scale
    return out if x.ndim == 2 else out[0]


def _ngrams(row: list[Any], shortest: int, longest: int, skip: int) -> Iterator[tuple[Any, ...]]:
    for n in range(shortest, longest + 1):
        for step in range(1, 2 if n == 1 else skip + 2):
            for first in range(len(row) - (n - 1) * step):
                yield tuple(row[first : first + (n - 1) * step + 1 : step])


@count_ngrams.infer
def _(x: TensorType, *, places: tuple[int, ...], mode: str = "TF", **_: Any) -> Type:
    if x.rank not in (1, 2) or mode not in ("TF", "IDF", "TFIDF"):
        raise TypeFault(f"x is {x} and mode is {mode!r}; expected [c] or [n, c], and TF, IDF or TFIDF")
    return TensorType(DType.F32, (*x.dims[:-1], max(places) + 1))


@count_ngrams.samples
def _(s: Sampler) -> Iterator[Sample]:
    attrs = {"ngrams": ((1,), (2,), (1, 2)), "places": (0, 1, 3), "shortest": 1, "longest": 2}
    yield (s.ints(4, 8, high=3),), attrs
    yield (s.ints(8, high=3),), {**attrs, "skip": 2, "mode": "TFIDF", "weights": (0.5, 1.0, 2.0)}


def _no_samples(definition: OpDef) -> None:
    """Strings split over devices make no sense, and their types follow from letters or are tested by ONNX's suite."""

    def rule(s: Sampler) -> Iterator[Sample]:
        yield from ()

    definition.samples(rule)


for _definition in (
    string_equal,
    string_concat,
    string_join,
    string_split,
    string_normalize,
    regex_full_match,
    cast_string,
):
    _no_samples(_definition)
