"""Changes that keep most of an input in form: tokens of a text, fields of an ONNX model."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

import onnx
from google.protobuf.message import DecodeError, Message

from maiac.frontends.onnx.registry import handled_ops

_TOKENS = re.compile(rb"(\s+|\b)")
_SPECIAL = [0, 1, -1, 2, 3, 7, 8, 16, 255, 2**31 - 1, -(2**31), 2**62, 2**63 - 1, -(2**63)]


def tokens(data: bytes, words: Sequence[bytes], rng: random.Random) -> bytes:
    """Replace, remove, swap, insert, repeat or cut out tokens, a few times."""
    parts = _TOKENS.split(data)
    for _ in range(rng.randint(1, 4)):
        at, other = rng.randrange(len(parts)), rng.randrange(len(parts))
        match rng.randrange(5):
            case 0:
                parts[at] = rng.choice(words)
            case 1:
                parts[at] = b""
            case 2:
                parts[at], parts[other] = parts[other], parts[at]
            case 3:
                parts.insert(at, rng.choice(words))
            case _:
                start, stop = sorted((at, other))
                parts[start:stop] = parts[start:stop] * 2 if rng.random() < 0.5 else []
        parts = parts or [b""]
    return b"".join(parts)


def model(data: bytes, rng: random.Random) -> bytes:
    """Change fields of an ONNX model, a few times; the bytes as they are where they are none."""
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
        for _ in range(rng.randint(1, 3)):
            places = list(_places(proto))
            if places:
                _change(*rng.choice(places), rng, _texts(places))
    except (DecodeError, UnicodeDecodeError):  # not protobuf, or with names that are no text
        return data
    return proto.SerializeToString()


def _places(message: Message) -> Iterator[tuple[Message, Any]]:
    """Every field that is set, at any depth."""
    for field, value in message.ListFields():
        yield message, field
        if field.message_type is not None:
            for inner in value if field.is_repeated else [value]:
                yield from _places(inner)


def _texts(places: Sequence[tuple[Message, Any]]) -> list[str]:
    """Names of the model, and of operators."""
    found = {str(getattr(m, f.name)) for m, f in places if f.cpp_type == f.CPPTYPE_STRING and not f.is_repeated}
    return sorted(found) + [name for _, name in handled_ops()] + ["com.microsoft", "ai.onnx.ml"]


def _change(message: Message, field: Any, rng: random.Random, texts: Sequence[str]) -> None:
    """Another content for one field."""
    if not field.is_repeated:
        if field.message_type is None and rng.random() < 0.9:
            setattr(message, field.name, _content(field, getattr(message, field.name), rng, texts))
        else:
            message.ClearField(field.name)
        return
    items = getattr(message, field.name)
    at = rng.randrange(len(items))
    if rng.random() < 0.25:
        del items[at]
    elif field.message_type is not None:
        items.add().CopyFrom(items[at])
    elif rng.random() < 0.3:
        items.append(items[at])
    else:
        items[at] = _content(field, items[at], rng, texts)


def _content(field: Any, old: Any, rng: random.Random, texts: Sequence[str]) -> Any:
    if field.cpp_type == field.CPPTYPE_ENUM:
        return rng.choice(field.enum_type.values).number
    if field.cpp_type == field.CPPTYPE_STRING and isinstance(old, bytes):
        return old[: rng.randint(0, len(old))] + rng.randbytes(rng.randint(0, 8))
    if field.cpp_type == field.CPPTYPE_STRING:
        return rng.choice(texts)
    if isinstance(old, float):
        return rng.choice([0.0, -1.0, 1e30, float("nan"), float("inf"), old * 2])
    number = rng.choice([rng.randint(-3, 30), rng.choice(_SPECIAL), old + rng.choice((-1, 1))])
    low, high = (-(2**31), 2**31 - 1) if field.cpp_type == field.CPPTYPE_INT32 else (-(2**63), 2**63 - 1)
    return max(low if field.cpp_type != field.CPPTYPE_UINT64 else 0, min(number, high))
