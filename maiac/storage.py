"""Writing files that are either whole or not there: temporary name, sync, rename; and the two containers on top."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import struct
import zipfile
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import BinaryIO, Protocol

from .ir.errors import MaiaError
from .runtime.archive import MANIFEST
from .runtime.manifest import Sum

_FIRST_DATE = (1980, 1, 1, 0, 0, 0)  # no clock in the archive: the same model gives the same bytes
_ALIGNMENT_FIELD = 0xD935  # the extra field that Android's zipalign pads with
_ZIP64_FROM = 1 << 30
_ZIP64_EXTRA = 20


class Container(Protocol):
    """Where entries are written, one after the other."""

    def write(self, name: str, size: int, chunks: Iterable[bytes | memoryview], align: int = 64) -> Sum:
        """Write an entry of ``size`` bytes, its data at a multiple of ``align``; gives size and checksum."""
        ...


class ZipContainer:
    """Entries of a zip archive, stored as they are."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.archive = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True)

    def write(self, name: str, size: int, chunks: Iterable[bytes | memoryview], align: int = 64) -> Sum:
        """See Container."""
        info = zipfile.ZipInfo(name, _FIRST_DATE)
        info.external_attr = 0o644 << 16
        info.create_system = 3  # the same bytes on every system
        zip64 = size >= _ZIP64_FROM
        head = 30 + len(name.encode()) + (_ZIP64_EXTRA if zip64 else 0) + 6
        pad = -(self.archive.start_dir + head) % align
        info.extra = struct.pack("<HHH", _ALIGNMENT_FIELD, 2 + pad, align) + bytes(pad)
        with self.archive.open(info, "w", force_zip64=zip64) as entry:
            return _pour(chunks, size, entry.write)

    def close(self) -> None:
        """Write the directory."""
        self.archive.close()

    def abandon(self) -> None:
        """Write no directory, not even when the archive is collected later."""
        self.archive.fp = None


class FolderContainer:
    """Entries as files of a directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, size: int, chunks: Iterable[bytes | memoryview], align: int = 64) -> Sum:
        """See Container; a file begins at a page, which is aligned to anything."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            written = _pour(chunks, size, file.write)
            _sync(file)
        return written


def _pour(chunks: Iterable[bytes | memoryview], size: int, write: Callable[[bytes | memoryview], object]) -> Sum:
    digest, total = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        write(chunk)
        total += len(chunk)
    assert total == size, f"{total} bytes were written where {size} were promised"
    return Sum(size, digest.hexdigest())


@contextlib.contextmanager
def replacing(path: Path, *, folder: bool) -> Generator[Container]:
    """A container that takes the place of ``path`` when the block ends well, and leaves nothing behind when not.

    MAIA0411 where the system refuses.
    """
    require_folder(path)
    with _refusals(path):
        _refuse_foreign(path, folder=folder)
        with _folder(path) if folder else _zip(path) as container:
            yield container


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all; MAIA0411 where the system refuses."""
    require_folder(path)
    with _refusals(path), whole_file(path, lasting=False) as file:
        file.write(text.encode())


def require_folder(path: Path) -> None:
    """MAIA0411 where there is no folder to write a file into."""
    if not path.parent.is_dir():
        raise MaiaError("MAIA0411", f"cannot write {path}: there is no folder {path.parent}")


@contextlib.contextmanager
def whole_file(path: Path, *, lasting: bool = True) -> Generator[BinaryIO]:
    """A file that takes the place of ``path`` when the block ends well, and leaves nothing behind when not.

    lasting: its bytes are on the disk before it has the name; for what cannot be made again.
    """
    temporary = _beside(path)
    try:
        with temporary.open("x+b") as file:
            yield file
            if lasting:
                _sync(file)
        temporary.replace(path)
        if lasting:
            _sync_folder(path.parent)
    finally:  # Ctrl-C included
        temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


@contextlib.contextmanager
def _refusals(path: Path) -> Generator[None]:
    """Errors of the system as MAIA0411."""
    try:
        yield
    except OSError as e:
        where = f" ({e.filename})" if e.filename and Path(str(e.filename)) != path else ""
        raise MaiaError("MAIA0411", f"cannot write {path}: {e.strerror or e}{where}") from None


def _refuse_foreign(path: Path, *, folder: bool) -> None:
    if folder and path.exists() and not (path / MANIFEST).is_file() and not _is_empty(path):
        raise MaiaError("MAIA0411", f"{path} exists and is not an artifact; it is not overwritten")
    if not folder and path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


@contextlib.contextmanager
def _zip(path: Path) -> Generator[Container]:
    with whole_file(path) as file:
        container = ZipContainer(file)
        try:
            yield container
            container.close()
        finally:
            container.abandon()


@contextlib.contextmanager
def _folder(path: Path) -> Generator[Container]:
    temporary = _beside(path)
    old = temporary.with_suffix(".old")
    try:
        temporary.mkdir()
        yield FolderContainer(temporary)
        for folder, _, _ in os.walk(temporary):
            _sync_folder(Path(folder))
        if path.exists():
            path.replace(old)
        try:
            temporary.replace(path)
        except BaseException:
            if old.exists():
                old.replace(path)
            raise
        _sync_folder(path.parent)
    finally:
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """Make a rename last; where the system cannot open folders (Windows), it does so by itself."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
