"""Reading an artifact: container, manifest, checksums, program, then weights as views of the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from maiac.ir import Module, parse
from maiac.ir import verify as check_module
from maiac.ir.dims import evaluate
from maiac.ir.dtypes import DType
from maiac.ir.errors import MaiaError, raise_all
from maiac.ir.graph import State, TensorData, Weight
from maiac.ir.ops.values import QTensor, to_torch
from maiac.ir.types import Quantized, TensorType

from .archive import MANIFEST, Archive, open_archive, plain_file
from .manifest import Link, Manifest, Piece, Stored, parse_manifest
from .safetensors import Slot, read_header
from .weights import DerivedTensor, MappedTensor, MetaTensor, identity, map_file

PROGRAM = "program.maia"
REPORT = "report.json"
WEIGHTS = "weights.safetensors"
STATES = "states.safetensors"
GOLDEN = "golden.safetensors"

MAX_MANIFEST = 1 << 26
MAX_TEXT = 1 << 28
# Weights up to this size (bytes, all of them together) are always checked while loading: SHA-256 takes half a second.
# Larger ones are left in the file until they are needed, unless the caller asks.
CHECKED_WEIGHTS = 1 << 28


@dataclass(frozen=True, slots=True)
class Loaded:
    """An artifact as read: its module's weights lie in the file still."""

    path: Path
    module: Module
    manifest: Manifest
    archive: Archive
    verified: bool


def load_artifact(
    path: Path,
    *,
    verify: bool | None = None,
    trust: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Loaded:
    """Read an artifact; MAIA0401 to MAIA0410 say what is wrong with it, MAIA0419 that it reads files elsewhere.

    ``verify`` says whether the checksums of weights are compared as well: always (True), never (False), or where they
    are small enough (None). All other entries are always checked. ``trust`` lets linked weights lie in other folders.
    """
    before = identity(path) if path.is_file() else None
    archive = open_archive(path)
    manifest = parse_manifest(archive.read(MANIFEST, MAX_MANIFEST), str(path))
    check_sizes(archive, manifest)
    if not trust:
        check_links(path, manifest.links)
    heavy = sum(manifest.entries[n].size for n in (WEIGHTS, STATES) if n in manifest.entries)
    heavy += sum(link.size for link in manifest.links)
    whole = heavy <= CHECKED_WEIGHTS if verify is None else verify
    with ThreadPoolExecutor(1) as beside:  # SHA-256 leaves the interpreter to who reads the program
        program = beside.submit(read_program, archive)
        check_sums(archive, manifest, weights=whole, progress=progress)
        module = program.result()
    attach(module, archive, manifest)
    if before is not None and identity(path) != before:
        raise MaiaError("MAIA0418", f"{path} was replaced while it was read")
    return Loaded(path, module, manifest, archive, whole)


def read_program(archive: Archive) -> Module:
    """The module, without the contents of its weights."""
    text = archive.read(PROGRAM, MAX_TEXT)
    try:
        module = parse(text.decode(), file=f"{archive.path}:{PROGRAM}")
    except UnicodeDecodeError:
        raise MaiaError("MAIA0408", f"{archive.path}: {PROGRAM} is not UTF-8 text") from None
    if "main" not in module.functions:
        raise MaiaError("MAIA0408", f"{archive.path}: the program has no function @main")
    check_module(module)  # the executor generates code from it
    return module


def check_sizes(archive: Archive, manifest: Manifest) -> None:
    """The entries are those of the manifest, of the same sizes."""
    there = archive.entries.keys() - {MANIFEST}
    faults = [f"{name} is missing" for name in sorted(manifest.entries.keys() - there)]
    faults += [f"{name} is not in the manifest" for name in sorted(there - manifest.entries.keys())]
    for name, sum in manifest.entries.items():
        found = archive.entries.get(name)
        if found is not None and found.size != sum.size:
            faults.append(f"{name} has {found.size:,} bytes; {sum.size:,} were written")
    raise_all("MAIA0404", f"{archive.path} does not hold what its manifest lists", faults)


def check_sums(
    archive: Archive,
    manifest: Manifest,
    *,
    weights: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Compare checksums; MAIA0404 lists every entry that changed, MAIA0410 every linked file."""
    names = [n for n in manifest.entries if weights or n not in (WEIGHTS, STATES)]
    faults: list[str] = []
    for i, name in enumerate(names):
        if progress:
            progress(f"checking {name}", i, len(names))
        if archive.sha256(name) != manifest.entries[name].sha256:
            faults.append(f"the contents of {name} changed after they were written")
    raise_all("MAIA0404", f"{archive.path} is damaged", faults)
    raise_all("MAIA0410", f"{archive.path}: linked weights", _link_faults(archive.path, manifest.links, sums=weights))


def linked_path(artifact: Path, link: Link) -> Path:
    """The file that a link names: relative ones begin at the artifact's folder."""
    return artifact.absolute().parent / link.path


def check_links(artifact: Path, links: tuple[Link, ...]) -> None:
    """MAIA0419 where a linked file lies outside the artifact's folder, by its path or through a link of the system."""
    folder = artifact.absolute().parent.resolve()
    faults = [
        f"{p} is outside {folder}"
        for p in (_resolved(artifact, link) for link in links)
        if not p.is_relative_to(folder)
    ]
    raise_all("MAIA0419", f"{artifact} takes weights from elsewhere", faults)


def _resolved(artifact: Path, link: Link) -> Path:
    try:
        return linked_path(artifact, link).resolve()
    except (OSError, ValueError, RuntimeError) as e:  # NUL in a name, links in a circle
        raise MaiaError("MAIA0410", f"{artifact}: the linked file {link.path!r} has no place: {e}") from None


def _link_faults(artifact: Path, links: tuple[Link, ...], *, sums: bool) -> list[str]:
    faults: list[str] = []
    for link in links:
        path = linked_path(artifact, link)
        if not path.is_file():
            faults.append(f"{path} is missing")
        elif path.stat().st_size != link.size:
            faults.append(f"{path} has {path.stat().st_size:,} bytes; it had {link.size:,}")
        elif sums and plain_file(path).sha256("") != link.sha256:
            faults.append(f"the contents of {path} changed since")
    return faults


# **** weights ****


def attach(module: Module, archive: Archive, manifest: Manifest) -> None:
    """Give every weight and state its contents; MAIA0409 lists all that do not fit."""
    finder = _Finder(archive, manifest)
    faults: list[str] = []
    for kind, table, stored in (
        ("weight", module.weights, manifest.weights),
        ("state", module.states, manifest.states),
    ):
        faults += [f"{kind} @{n} is in the manifest only" for n in sorted(stored.keys() - table.keys())]
        faults += finder.attach_all(kind, table, stored)
    raise_all("MAIA0409", f"{archive.path}: weights do not fit the program", faults)


class _Finder:
    """Looks tensors up in the contained and linked files, and checks them against the program's types."""

    def __init__(self, archive: Archive, manifest: Manifest) -> None:
        self.archive = archive
        self.manifest = manifest
        self.headers: dict[str, dict[str, Slot]] = {}

    def attach_all(self, kind: str, table: Mapping[str, Weight], stored: Mapping[str, Stored]) -> list[str]:
        """Attach a table; gives the faults."""
        faults: list[str] = []
        for name, weight in table.items():
            if name not in stored:
                faults.append(f"{kind} @{name} is missing in the manifest")
                continue
            try:
                weight.data = self.contents(weight, stored[name])
            except _Misfit as e:
                faults.append(f"{kind} @{name}: {weight.type}: {e}")
        return faults

    def contents(self, weight: Weight, stored: Stored) -> TensorData | None:
        """The contents of one weight, left in the file."""
        type = weight.type
        if stored.type != str(type) or not isinstance(type, TensorType):
            raise _Misfit(f"the manifest says {stored.type}")
        if any(not isinstance(d, int) for d in type.dims):
            raise _Misfit("its dims are not static")
        dims = tuple(evaluate(d, {}) for d in type.dims)
        if stored.data is None:
            return None if isinstance(weight, State) else MetaTensor(to_torch(type.element), dims)
        codes = self.tensor(stored.data, type.element, dims)
        if not isinstance(type.dtype, Quantized):
            return codes
        return self.quantized(type.dtype, dims, codes, stored)

    def quantized(self, dtype: Quantized, dims: tuple[int, ...], codes: MappedTensor, stored: Stored) -> DerivedTensor:
        """Codes with their scales: views of the file, put together when asked for."""
        if stored.scale is None or (stored.zero_point is None) == dtype.zero_point:
            raise _Misfit("its scale or zero point is missing")
        shape = tuple(evaluate(d, {}) for d in dtype.scale_shape(dims))
        scale = self.tensor(stored.scale, dtype.scale, shape)
        zero = self.tensor(stored.zero_point, None, shape) if stored.zero_point else None
        return DerivedTensor(lambda: QTensor(codes.load(), scale.load(), zero.load() if zero else None, dtype))

    def tensor(self, piece: Piece, dtype: DType | None, dims: tuple[int, ...]) -> MappedTensor:
        """One tensor's place in the file; without ``dtype`` it has the one that it was stored as."""
        if piece.link >= 0:
            return self.linked(piece, MappedTensor(Path(), piece.offset, to_torch(dtype or DType.U8), dims))
        slot = self.header(piece.file).get(piece.key)
        if slot is None:
            raise _Misfit(f"{piece.file} has no tensor {piece.key!r}")
        wanted = slot.dtype if dtype is None else to_torch(dtype)
        path = self.archive.entries[piece.file].path
        found = MappedTensor(path, slot.offset, wanted, dims, map_file(path))
        if slot.nbytes != _nbytes(found) or (slot.shape != dims and slot.dtype is not to_torch(DType.U8)):
            raise _Misfit(f"{piece.file} holds {piece.key!r} as {slot.dtype}{list(slot.shape)}")
        return found

    def linked(self, piece: Piece, found: MappedTensor) -> MappedTensor:
        """A tensor of a file outside the artifact."""
        if piece.link >= len(self.manifest.links):
            raise _Misfit(f"there is no linked file number {piece.link}")
        link = self.manifest.links[piece.link]
        if piece.offset + _nbytes(found) > link.size:
            raise _Misfit(f"it ends outside {link.path}")
        path = linked_path(self.archive.path, link)
        return MappedTensor(path, piece.offset, found.dtype, found.shape, map_file(path))

    def header(self, file: str) -> dict[str, Slot]:
        """The tensors of a contained safetensors file."""
        if file not in self.headers:
            entry = self.archive.entries.get(file)
            if entry is None:
                raise _Misfit(f"there is no entry {file!r}")
            self.headers[file] = read_header(entry.path, entry.offset, entry.size)
        return self.headers[file]


class _Misfit(Exception):
    """Stored contents do not fit the type in the program."""


def _nbytes(tensor: MappedTensor) -> int:
    count = tensor.dtype.itemsize
    for n in tensor.shape:
        count *= n
    return count
