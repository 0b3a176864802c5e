"""The manifest of an artifact: what is in it, written as JSON and read back without trust."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from maiac.ir.errors import MaiaError

FORMAT = "maiac artifact"
FORMAT_VERSION = 1
OLDEST_VERSION = 1
MAX_DEPTH = 64  # of nested JSON; input trees of real models stay under 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sum:
    """Size in bytes and checksum of an entry or linked file."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Link:
    """A file outside the artifact that holds weights; ``path`` is relative to the artifact's folder, or absolute."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Piece:
    """Where one tensor lies: under ``key`` of a contained safetensors ``file``, or at ``offset`` of a linked file."""

    file: str = ""
    key: str = ""
    link: int = -1
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """A weight or state. ``type`` is its IR type; no ``data``: it was captured without contents (meta tensors).

    A quantized tensor is three pieces: its codes, ``scale`` and, where codes are offset, ``zero_point``.
    """

    type: str
    data: Piece | None = None
    scale: Piece | None = None
    zero_point: Piece | None = None


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output: its name and IR type."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that is known about an artifact without reading its program or weights."""

    compiler: dict[str, str]
    source: dict[str, str] = field(default_factory=dict[str, str])
    options: dict[str, str] = field(default_factory=dict[str, str])
    pipeline: str = ""
    convention: str = "onnx"
    in_tree: Any = None
    out_tree: Any = None
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    symbols: dict[str, str] = field(default_factory=dict[str, str])
    mesh: dict[str, int | None] = field(default_factory=dict[str, "int | None"])
    entries: dict[str, Sum] = field(default_factory=dict[str, Sum])
    weights: dict[str, Stored] = field(default_factory=dict[str, Stored])
    states: dict[str, Stored] = field(default_factory=dict[str, Stored])
    links: tuple[Link, ...] = ()
    golden: dict[str, Any] = field(default_factory=dict[str, Any])

    def to_json(self) -> bytes:
        """The text of manifest.json; ``digest`` is the checksum of all other fields."""
        table = {"format": FORMAT, "format_version": FORMAT_VERSION}
        table |= {f.name: _plain(getattr(self, f.name)) for f in fields(self)}
        return json.dumps({**table, "digest": _digest(table)}, indent=1, allow_nan=False).encode()


def _plain(value: Any) -> Any:
    """Dataclasses as tables without their defaults, at any depth."""
    if isinstance(value, (Sum, Link, Piece, Stored, Port)):
        table = {f.name: (getattr(value, f.name), f.default) for f in fields(value)}
        return {name: _plain(v) for name, (v, default) in table.items() if v != default}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    return value


def _digest(table: Mapping[str, Any]) -> str:
    canonical = json.dumps(table, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def parse_manifest(text: bytes, where: str) -> Manifest:
    """Read manifest.json. MAIA0402 (not ours), MAIA0404 (damaged), MAIA0405 (version) or MAIA0408 (malformed)."""
    table = _json(text, where)
    if not isinstance(table, dict) or table.get("format") != FORMAT:
        raise MaiaError("MAIA0402", f"{where}: manifest.json was written by something else")
    _check_version(table, where)
    digest = table.pop("digest", None)
    if digest != _digest(table):
        raise MaiaError("MAIA0404", f"{where}: manifest.json does not have the checksum that was written with it")
    try:
        return _manifest(table)
    except _Wrong as e:
        raise MaiaError("MAIA0408", f"{where}: {e}") from None


def _json(text: bytes, where: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        table = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as e:
        raise MaiaError("MAIA0404", f"{where}: manifest.json is not JSON ({type(e).__name__}: {e})") from None
    if _depth(table) > MAX_DEPTH:
        raise MaiaError("MAIA0408", f"{where}: manifest.json is nested more than {MAX_DEPTH} deep")
    return table


def _depth(value: Any) -> int:
    """How deep lists and tables are nested; level by level, because a hostile file would break a recursion."""
    depth, level = 0, [value]
    while level and depth <= MAX_DEPTH:
        inner = [v for v in level if isinstance(v, (dict, list))]
        level = [w for v in inner for w in (v.values() if isinstance(v, dict) else v)]
        depth += 1
    return depth


def _check_version(table: Mapping[str, Any], where: str) -> None:
    version = table.get("format_version")
    if type(version) is not int:
        raise MaiaError("MAIA0408", f"{where}: format_version is {version!r}; expected an integer")
    if OLDEST_VERSION <= version <= FORMAT_VERSION:
        return
    compiler = table.get("compiler")
    writer = compiler.get("maiac", "unknown") if isinstance(compiler, dict) else "unknown"
    age = "newer" if version > FORMAT_VERSION else "older"
    raise MaiaError(
        "MAIA0405",
        f"{where} has format version {version}, {age} than this maiac reads ({OLDEST_VERSION} to {FORMAT_VERSION}); "
        f"maiac {writer} wrote it",
    )


# **** from JSON to dataclasses ****


class _Wrong(Exception):
    """Something in the manifest is of the wrong kind; the text names the field."""


def _manifest(table: dict[str, Any]) -> Manifest:
    """All fields, each of the right kind."""

    def field_of(name: str, read: Callable[[str, Any], T]) -> T:
        if name not in table:
            raise _Wrong(f"manifest.json has no field {name}")
        return read(name, table[name])

    return Manifest(
        compiler=field_of("compiler", _table(_text)),
        source=field_of("source", _table(_text)),
        options=field_of("options", _table(_text)),
        pipeline=field_of("pipeline", _text),
        convention=field_of("convention", _text),
        in_tree=field_of("in_tree", _optional_tree),
        out_tree=field_of("out_tree", _optional_tree),
        inputs=field_of("inputs", _list(_port)),
        outputs=field_of("outputs", _list(_port)),
        symbols=field_of("symbols", _table(_text)),
        mesh=field_of("mesh", _table(lambda w, v: None if v is None else _size(w, v))),
        entries=field_of("entries", _table(_sum)),
        weights=field_of("weights", _table(_stored)),
        states=field_of("states", _table(_stored)),
        links=field_of("links", _list(_link)),
        golden=field_of("golden", _table(lambda _, v: v)),
    )


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"{where} is not a string")
    return value


def _size(where: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise _Wrong(f"{where} is not a size")
    return value


def _object(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Wrong(f"{where} is not a table")
    return value  # pyright: ignore[reportUnknownVariableType]


def _table(read: Callable[[str, Any], T]) -> Callable[[str, Any], dict[str, T]]:
    return lambda where, value: {k: read(f"{where}.{k}", v) for k, v in _object(where, value).items()}


def _list(read: Callable[[str, Any], T]) -> Callable[[str, Any], tuple[T, ...]]:
    def rule(where: str, value: Any) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise _Wrong(f"{where} is not a list")
        return tuple(read(f"{where}[{i}]", v) for i, v in enumerate(value))  # pyright: ignore[reportUnknownVariableType]

    return rule


def _port(where: str, value: Any) -> Port:
    row = _object(where, value)
    return Port(_text(where, row.get("name")), _text(where, row.get("type")))


def _optional_tree(where: str, value: Any) -> Any:
    """An input or output tree (see ``tree``), or None."""
    if value is not None:
        _check_tree(where, value)
    return value


def _check_tree(where: str, value: Any) -> None:
    """The tree is one that ``tree.flatten`` and ``tree.unflatten`` can follow."""
    row = _object(where, value)
    kind = _text(f"{where}.t", row.get("t"))
    if kind == "leaf":
        return
    if kind == "const":
        if not isinstance(row.get("v", _Wrong), (bool, int, float, str, type(None))):
            raise _Wrong(f"{where}.v is not a constant")
        return
    if kind not in ("tuple", "list", "dict", "named"):
        raise _Wrong(f"{where}.t is {kind!r}")
    children = row.get("c")
    if not isinstance(children, list):
        raise _Wrong(f"{where}.c is not a list")
    for i, child in enumerate(children):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        _check_tree(f"{where}.c[{i}]", child)
    if kind in ("dict", "named"):
        keys = row.get("k")
        if not isinstance(keys, list) or len(keys) != len(children):  # pyright: ignore[reportUnknownArgumentType]
            raise _Wrong(f"{where}.k does not name each child")
        for i, key in enumerate(keys):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            if not isinstance(key, (str, int)) or (kind == "named" and not isinstance(key, str)):
                raise _Wrong(f"{where}.k[{i}] is not a key")
    if kind == "named":
        _text(f"{where}.type", row.get("type"))
        if "x" in row:
            _text(f"{where}.x", row["x"])


def _sum(where: str, value: Any) -> Sum:
    row = _object(where, value)
    return Sum(_size(where, row.get("size")), _text(where, row.get("sha256")))


def _link(where: str, value: Any) -> Link:
    row = _object(where, value)
    return Link(_text(where, row.get("path")), _size(where, row.get("size")), _text(where, row.get("sha256")))


def _stored(where: str, value: Any) -> Stored:
    row = _object(where, value)
    pieces = {k: _piece(f"{where}.{k}", row[k]) for k in ("data", "scale", "zero_point") if k in row}
    return Stored(_text(f"{where}.type", row.get("type")), **pieces)


def _piece(where: str, value: Any) -> Piece:
    row = _object(where, value)
    if "link" in row:
        return Piece(link=_size(where, row["link"]), offset=_size(where, row.get("offset", 0)))
    return Piece(_text(where, row.get("file")), _text(where, row.get("key")))


def describe(manifest: Manifest) -> dict[str, Any]:
    """The manifest as plain values, for ``--json``."""
    return asdict(manifest)
