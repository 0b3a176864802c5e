"""Strings and label encoders."""

from __future__ import annotations

import itertools
from typing import Any

from maiac.ir import DType, Value

from ..context import NodeContext
from ..registry import onnx_op
from ..types import dtype_of, to_tensor


@onnx_op("StringConcat")
def string_concat(c: NodeContext) -> Value:
    """Each string of x followed by that of y."""
    return c.emit("string_concat", c[0], c[1])


@onnx_op("StringSplit")
def string_split(c: NodeContext) -> list[Value]:
    """The parts of each string and their numbers."""
    limit = c.attr("maxsplit")
    return list(c.emit_op("string_split", c[0], delimiter=c.attr("delimiter") or None, limit=limit).results)


@onnx_op("StringNormalizer")
def string_normalizer(c: NodeContext) -> Value:
    """Strings without stop words, in one case."""
    words = c.texts("stopwords")
    case = str(c.attr("case_change_action", "NONE")).lower()
    return c.emit("string_normalize", c[0], case=case, stopwords=words, sensitive=bool(c.attr("is_case_sensitive", 0)))


@onnx_op("RegexFullMatch")
def regex_full_match(c: NodeContext) -> Value:
    """True where the whole string matches."""
    return c.emit("regex_full_match", c[0], pattern=c.attr("pattern"))


_KINDS = {"strings": DType.STR, "int64s": DType.I64, "floats": DType.F32}
_DEFAULTS: dict[str, tuple[str, Any]] = {
    "strings": ("default_string", "_Unused"),
    "int64s": ("default_int64", -1),
    "floats": ("default_float", -0.0),
}


@onnx_op("LabelEncoder", domain="ai.onnx.ml", since=2)
def label_encoder(c: NodeContext) -> Value:
    """The value under each key, or a default."""
    keys, _, _ = _labels(c, "keys")
    values, to, kind = _labels(c, "values")
    name, fallback = _DEFAULTS.get(kind, ("default_tensor", None))
    default: Any = _text(c.attr(name, fallback))
    if c.attrs.get("default_tensor") is not None:
        default = _elements(c.attr("default_tensor"))[0][0]
    elif default is None:
        default = {"str": "_Unused"}.get(str(to), -1 if to.is_integer else -0.0)
    c.same_length(keys=keys, values=values)
    return c.emit("look_up", c[0], to=to, keys=keys, values=values, default=default)


@onnx_op("TfIdfVectorizer")
def tf_idf(c: NodeContext) -> Value:
    """Counts of n-grams, weighted or not."""
    pool: list[str | int] = [*c.texts("pool_strings")] or [*(c.ints("pool_int64s") or ())]
    starts = [*(c.ints("ngram_counts") or []), len(pool)]
    ngrams: list[tuple[Any, ...]] = []
    for n, (start, end) in enumerate(itertools.pairwise(starts), 1):
        ngrams += [tuple(pool[i : i + n]) for i in range(start, end, n)]
    return c.emit(
        "count_ngrams",
        c[0],
        ngrams=tuple(ngrams),
        places=tuple(c.ints("ngram_indexes") or ()),
        shortest=int(c.attr("min_gram_length")),
        longest=int(c.attr("max_gram_length")),
        skip=int(c.attr("max_skip_count")),
        mode=c.attr("mode"),
        weights=tuple(float(w) for w in c.attr("weights") or ()),
    )


def _labels(c: NodeContext, what: str) -> tuple[tuple[Any, ...], DType, str]:
    for kind, dtype in _KINDS.items():
        if c.attrs.get(f"{what}_{kind}") is not None:
            name = f"{what}_{kind}"
            return c.texts(name) if kind == "strings" else tuple(c.attr(name)), dtype, kind
    if c.attrs.get(f"{what}_tensor") is None:
        c.fail(f"it has no {what}", "MAIA0223")
    return *_elements(c.attr(f"{what}_tensor")), "tensor"


def _elements(tensor: Any) -> tuple[tuple[Any, ...], DType]:
    dtype = dtype_of(tensor.dtype)
    return tuple(_text(v) for v in to_tensor(tensor.numpy(), dtype).reshape(-1).tolist()), dtype


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
