"""Reading an artifact's container: a strict look at a zip archive, or the same tree as a directory.

An artifact may come from anywhere, so that nothing in it is believed before it is checked: entries are stored
(never compressed), lie inside the file without overlap, and have plain relative names.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import re
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from maiac.ir.errors import MaiaError

MANIFEST = "manifest.json"
CHUNK = 1 << 22
MAX_ENTRIES = 100_000
_LOCAL = struct.Struct("<4s5H3I2H")  # a local file header up to its name (PKWARE APPNOTE 4.3.7)
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")


@dataclass(frozen=True, slots=True)
class Entry:
    """A part of an artifact: ``size`` bytes from byte ``offset`` of a file."""

    path: Path
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Archive:
    """An opened artifact: its entries by name."""

    path: Path
    entries: dict[str, Entry]

    def read(self, name: str, limit: int) -> bytes:
        """The bytes of an entry; MAIA0408 where there is none or it is larger than ``limit``."""
        entry = self.entries.get(name)
        if entry is None:
            raise MaiaError("MAIA0408", f"{self.path} has no entry {name}")
        if entry.size > limit:
            raise MaiaError("MAIA0408", f"{self.path}: {name} takes {entry.size:,} bytes; at most {limit:,} are read")
        return b"".join(_chunks(entry))

    def sha256(self, name: str) -> str:
        """The checksum of an entry."""
        digest = hashlib.sha256()
        for chunk in _chunks(self.entries[name]):
            digest.update(chunk)
        return digest.hexdigest()


def _chunks(entry: Entry) -> Iterator[bytes]:
    with entry.path.open("rb") as file:
        file.seek(entry.offset)
        left = entry.size
        while left:
            chunk = file.read(min(left, CHUNK))
            if not chunk:
                raise MaiaError("MAIA0403", f"{entry.path} became shorter while it was read")
            left -= len(chunk)
            yield chunk


def open_archive(path: Path) -> Archive:
    """Open an artifact. MAIA0401, 0402, 0403, 0406 or 0407 where it cannot be one."""
    try:
        if path.is_dir():
            return Archive(path, _tree(path))
        with path.open("rb") as file:
            return Archive(path, _zip(path, file))
    except OSError as e:
        raise _unreadable(path, e) from None


def plain_file(path: Path) -> Archive:
    """Any file as an archive with one entry, named ""."""
    return Archive(path, {"": Entry(path, 0, path.stat().st_size)})


def _unreadable(path: Path, e: OSError) -> MaiaError:
    near = ""
    if e.errno == errno.ENOENT and path.parent.is_dir():
        others = sorted(p.name for p in path.parent.glob("*.maia"))[:5]
        near = f"artifacts in that folder: {', '.join(others)}" if others else ""
    return MaiaError("MAIA0401", f"cannot read {path}: {os.strerror(e.errno) if e.errno else e}", hint=near)


def _tree(path: Path) -> dict[str, Entry]:
    if not (path / MANIFEST).is_file():
        raise MaiaError("MAIA0401", f"{path} is a directory without {MANIFEST}")
    found: dict[str, Entry] = {}
    for folder, folders, files in os.walk(path, followlinks=False):
        here = Path(folder)
        for name in (*folders, *files):
            if (here / name).is_symlink():
                raise MaiaError("MAIA0406", f"{here / name} is a link; what it names may lie outside the artifact")
        for name in files:
            file = here / name
            found[_plain(path, file.relative_to(path).as_posix())] = Entry(file, 0, file.stat().st_size)
    return found


def _plain(path: Path, name: str) -> str:
    """A name that stays inside the artifact on every system."""
    if not _PLAIN.fullmatch(name):
        raise MaiaError("MAIA0406", f"{path}: the entry name {name!r} is not a plain relative path")
    return name


def _zip(path: Path, file: BinaryIO) -> dict[str, Entry]:
    infos = _directory(path, file)
    if all(info.orig_filename != MANIFEST for info in infos):
        raise MaiaError("MAIA0402", f"{path} is a zip archive without {MANIFEST}")
    size = file.seek(0, 2)
    found: dict[str, Entry] = {}
    spans: list[tuple[int, int, str]] = []
    for info in infos:
        name = _plain(path, info.orig_filename)
        if name in found:
            raise MaiaError("MAIA0406", f"{path}: the entry {name} stands there twice")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1 or info.compress_size != info.file_size:
            raise MaiaError("MAIA0407", f"{path}: the entry {name} is compressed or encrypted")
        offset = _data_offset(path, file, info, size)
        found[name] = Entry(path, offset, info.file_size)
        spans.append((info.header_offset, offset + info.file_size, name))
    spans.sort()
    for (_, end, one), (begin, _, other) in itertools.pairwise(spans):
        if begin < end:
            raise MaiaError("MAIA0406", f"{path}: the entries {one} and {other} lie over each other")
    return found


def _directory(path: Path, file: BinaryIO) -> list[zipfile.ZipInfo]:
    """The central directory, as zipfile reads it."""
    magic = file.read(4)
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, OverflowError, EOFError) as e:
        if magic == b"PK\x03\x04":
            raise MaiaError("MAIA0403", f"{path} has no readable directory at its end ({e})") from None
        raise MaiaError("MAIA0402", f"{path} is not a zip archive") from None
    if len(infos) > MAX_ENTRIES:
        raise MaiaError("MAIA0406", f"{path} has {len(infos):,} entries; at most {MAX_ENTRIES:,} are read")
    return infos


def _data_offset(path: Path, file: BinaryIO, info: zipfile.ZipInfo, size: int) -> int:
    """Where an entry's data begins, after checking that its own header agrees with the directory."""
    start = info.header_offset
    if not 0 <= start <= size - _LOCAL.size:
        raise MaiaError("MAIA0403", f"{path}: {info.orig_filename} lies outside the file")
    file.seek(start)
    magic, _, flags, method, _, _, _, _, _, name_size, extra_size = _LOCAL.unpack(file.read(_LOCAL.size))
    offset = start + _LOCAL.size + name_size + extra_size
    name = file.read(name_size)
    if magic != b"PK\x03\x04" or flags & 0x1 or method or name != info.orig_filename.encode():
        raise MaiaError("MAIA0404", f"{path}: the header of {info.orig_filename} does not agree with the directory")
    if offset + info.file_size > size:
        raise MaiaError("MAIA0403", f"{path}: {info.orig_filename} ends outside the file")
    return offset
