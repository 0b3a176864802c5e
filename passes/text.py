"""Pipelines as text: ``fold,quantize{scheme=fp8},partition{tp=4}``, read and printed."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import MISSING
from types import NoneType
from typing import Any, Literal, NoReturn, get_args, get_origin

from maiac.ir import MaiaError

from .base import Pass, get_pass

_WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9-]*")
_BARE = re.compile(r"[A-Za-z_0-9.+:/-]+")
_QUOTED = re.compile(r'"([^"\\]|\\.)*"')
_SPACE = re.compile(r"\s*")
_KEYWORDS: dict[str, Any] = {"true": True, "false": False, "none": None}


def parse_pipeline(text: str) -> list[Pass]:
    """The passes that a text names, with their options.

    MAIA0303 for a syntax error, MAIA0304 for an unknown pass, MAIA0305 for an unknown, missing or ill-typed option;
    each with a caret under the place.
    """
    return _Reader(text).pipeline()


def pipeline_text(passes: Sequence[Pass]) -> str:
    """The text of a pipeline; options at their defaults are left out."""
    return ",".join(pass_text(p) for p in passes)


def pass_text(instance: Pass) -> str:
    """The text of one pass: ``outline{min_ops=4}``."""
    given = ((name, getattr(instance, name), default) for name, (_, default) in instance.options().items())
    shown = [f"{name}={_value_text(value)}" for name, value, default in given if value != default]
    return instance.name + (f"{{{','.join(shown)}}}" if shown else "")


def _value_text(value: Any) -> str:
    for word, known in _KEYWORDS.items():
        if value is known:
            return word
    if isinstance(value, str):
        plain = _BARE.fullmatch(value) and isinstance(_bare_value(value), str)
        return value if plain else json.dumps(value)
    return repr(value)


def _bare_value(word: str) -> Any:
    if word in _KEYWORDS:
        return _KEYWORDS[word]
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


class _Reader:
    """Reads a pipeline from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.skip()

    def pipeline(self) -> list[Pass]:
        """``pass,pass,...``; nothing at all is an empty pipeline."""
        found: list[Pass] = []
        while self.at < len(self.text):
            if found:
                self.expect(",")
            found.append(self.one())
        return found

    def one(self) -> Pass:
        """``name`` or ``name{option=value,...}``."""
        start = self.at
        name = self.word("a pass")
        try:
            cls = get_pass(name)
        except MaiaError as error:
            self.fault(error.code, error.message, start, error.hint)
        values: dict[str, Any] = {}
        if self.taken("{"):
            while not self.taken("}"):
                if values:
                    self.expect(",")
                self.option(cls, values)
        missing = [n for n, (_, default) in cls.options().items() if default is MISSING and n not in values]
        if missing:
            self.fault("MAIA0305", f"{name} needs the option {missing[0]!r}", start)
        return cls(**values)

    def option(self, cls: type[Pass], values: dict[str, Any]) -> None:
        """``option=value`` of the right kind."""
        start = self.at
        name = self.word("an option")
        known = cls.options()
        if name not in known:
            near = difflib.get_close_matches(name, known, 3)
            hint = f"did you mean {', '.join(near)}?" if near else f"its options: {', '.join(known) or 'none'}"
            self.fault("MAIA0305", f"{cls.name} has no option {name!r}", start, hint)
        if name in values:
            self.fault("MAIA0305", f"{cls.name}: the option {name!r} is given twice", start)
        self.expect("=")
        start = self.at
        value = self.value()
        kind = known[name][0]
        if not _fits(value, kind):
            self.fault("MAIA0305", f"{cls.name}: {name} = {value!r} is not {_kind_text(kind)}", start)
        values[name] = float(value) if kind is float else value

    def value(self) -> Any:
        """A number, ``true``, ``false``, ``none``, a bare word or a quoted string."""
        quoted = _QUOTED.match(self.text, self.at)
        found = quoted or _BARE.match(self.text, self.at)
        if found is None:
            self.fault("MAIA0303", f"expected a value, found {self.here()}", self.at)
        self.at = found.end()
        self.skip()
        return json.loads(found.group()) if quoted else _bare_value(found.group())

    def word(self, what: str) -> str:
        """A name."""
        found = _WORD.match(self.text, self.at)
        if found is None:
            self.fault("MAIA0303", f"expected {what}, found {self.here()}", self.at)
        self.at = found.end()
        self.skip()
        return found.group()

    def taken(self, mark: str) -> bool:
        """Whether this mark comes next; it is then consumed."""
        if not self.text.startswith(mark, self.at):
            return False
        self.at += len(mark)
        self.skip()
        return True

    def expect(self, mark: str) -> None:
        """Consume a mark that must come next."""
        if not self.taken(mark):
            self.fault("MAIA0303", f"expected {mark!r}, found {self.here()}", self.at)

    def skip(self) -> None:
        """Pass over white space."""
        found = _SPACE.match(self.text, self.at)
        assert found is not None
        self.at = found.end()

    def here(self) -> str:
        """What stands at the reader."""
        return repr(self.text[self.at]) if self.at < len(self.text) else "the end"

    def fault(self, code: str, message: str, at: int, hint: str = "") -> NoReturn:
        """Raise with a caret under a place."""
        line = self.text.count("\n", 0, at)
        start = self.text.rfind("\n", 0, at) + 1
        excerpt = f"{self.text.splitlines()[line] if self.text else ''}\n{' ' * (at - start)}^"
        raise MaiaError(code, f"pipeline, column {at - start + 1}: {message}", excerpt=excerpt, hint=hint) from None


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return any(value == choice and type(value) is type(choice) for choice in get_args(kind))
    if get_args(kind):
        return any(_fits(value, k) for k in get_args(kind))
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _kind_text(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    if get_args(kind):
        return " or ".join(_kind_text(k) for k in get_args(kind))
    if kind is NoneType:
        return "none"
    names = {bool: "true or false", int: "an integer", float: "a number", str: "a word"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))
