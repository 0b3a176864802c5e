"""What is fuzzed: each target takes any bytes, and only numbered errors (MaiaError) may come out.

``text``: Maia text through parser, printer and verifier. ``onnx``: a model's bytes through import and compilation,
of which no handler may trip over a node.
``artifact``: an archive, or what one is made of (see ``unpack``), through ``maiac.load``, and a run of what loads.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
import re
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

import maiac
from maiac import MaiaError
from maiac.frontends.journal import INTERNAL
from maiac.frontends.onnx.importer import UNREADABLE, survey_onnx
from maiac.inputs import choose_sizes, random_inputs
from maiac.ir import Module, parse, print_module, verify
from maiac.ir.dims import evaluate
from maiac.ir.opdef import bytes_of, get_op
from maiac.runtime import run_module
from maiac.runtime.manifest import _digest

from .watch import TookLong, at_most, fresh_folder, only_files_in

PATIENCE = 20.0  # seconds for one input, on a busy machine
AFFORDABLE = 10**7  # flops and bytes of a program that is run


def attempt(text: str) -> None:
    """Parse; what parses also prints, reads back, and verifies or says why not."""
    try:
        module = parse(text)
    except MaiaError as error:
        assert re.search(r"<text>:\d+:\d+: ", error.message), error.message
        assert "^" in error.excerpt
        return
    printed = print_module(module)
    assert print_module(parse(printed)) == printed
    try:
        verify(module)
    except MaiaError as error:
        assert error.code == "MAIA0106" and error.details


def fuzz_text(data: bytes) -> None:
    """Bytes as Maia text."""
    with fresh_folder() as folder, only_files_in(folder), at_most(PATIENCE):
        attempt(data.decode("utf-8", "replace"))


importlib.import_module("onnxruntime")  # import asks it for schemas; its first use reads files of the system


def fuzz_onnx(data: bytes) -> None:
    """Bytes as an ONNX file, beside a file of 256 bytes that it may take weights from."""
    with fresh_folder() as folder:
        path = folder / "m.onnx"
        path.write_bytes(data)
        (folder / "weights.bin").write_bytes(bytes(256))
        (folder / "link.bin").symlink_to("../outside.bin")
        # What shows a fault alone is written where one stands.
        with contextlib.chdir(folder), only_files_in(folder), at_most(PATIENCE):
            try:
                maiac.compile(path)
            except MaiaError:
                look_for_slips(path)


def look_for_slips(source: Path | onnx.ModelProto) -> None:
    """Raise the error of a handler that tripped over a node, where a check should have told what is wrong with it."""
    try:
        faults = [fault.error for fault in survey_onnx(source).journal.faults]
    except MaiaError as error:
        faults = [error]
    for fault in faults:
        cause = fault.__cause__
        if fault.code in (UNREADABLE, INTERNAL) and cause is not None and is_slip(cause):
            raise cause


def is_slip(error: BaseException) -> bool:
    """Whether it comes from a handler, or from a library that one called."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        f.filename.replace("\\", "/") for f in frames if Path(f.filename).is_relative_to(Path(maiac.__file__).parent)
    ]
    return bool(own) and "/frontends/onnx/handlers/" in own[-1]


# **** artifacts ****


def pack(sections: dict[str, bytes], kind: str) -> bytes:
    """An input for ``fuzz_artifact``: entries by name, made an archive (``zip``) or a folder (``dir``)."""
    return f"{kind}\n".encode() + b"".join(b"%% " + n.encode() + b"\n" + d + b"\n" for n, d in sections.items())


def unpack(data: bytes) -> tuple[str, dict[str, bytes]]:
    """The kind of an input, and its entries; a name ``a -> b`` is a link in a folder.

    The kind is ``raw`` where the bytes are those of a file.
    """
    kind, _, rest = data.partition(b"\n")
    if kind not in (b"zip", b"dir"):
        return "raw", {"": data}
    parts = re.split(rb"(?:^|\n)%% ([^\n]{1,200})\n", rest)
    names = [n.decode("utf-8", "replace") for n in parts[1::2]]
    return kind.decode(), {n: d.removesuffix(b"\n") for n, d in zip(names, parts[2::2], strict=True)}


def sealed(sections: dict[str, bytes]) -> dict[str, bytes]:
    """Entries whose manifest lists them with their checksums, so that a change of one gets past those."""
    try:
        table: Any = json.loads(sections["manifest.json"])
        table.pop("digest", None)
    except (KeyError, ValueError, AttributeError, RecursionError, TypeError):
        return sections
    files = {n: d for n, d in sections.items() if n != "manifest.json" and " -> " not in n}
    table["entries"] = {n: {"size": len(d), "sha256": hashlib.sha256(d).hexdigest()} for n, d in files.items()}
    return {**sections, "manifest.json": json.dumps({**table, "digest": _digest(table)}).encode()}


def fuzz_artifact(data: bytes) -> None:
    """Bytes as an artifact: load it, and run what loads where that is cheap."""
    kind, sections = unpack(data)
    with fresh_folder() as folder:
        path = folder / "m.maia"
        if kind == "raw":
            path.write_bytes(data)
        elif not build(path, kind, sealed(sections)):
            return
        with only_files_in(folder), contextlib.suppress(MaiaError):
            with at_most(PATIENCE):
                loaded = maiac.load(path)
            run_briefly(loaded.module)


def build(path: Path, kind: str, sections: dict[str, bytes]) -> bool:
    """Write an artifact of these entries; False for names that no file can have."""
    if kind == "zip":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in sections.items():
                archive.writestr(zipfile.ZipInfo(name), content)
        path.write_bytes(buffer.getvalue())
        return True
    try:
        for name, content in sections.items():
            name, _, target = name.partition(" -> ")
            file = path / name
            if not file.resolve().is_relative_to(path):
                return False
            file.parent.mkdir(parents=True, exist_ok=True)
            file.symlink_to(target) if target else file.write_bytes(content)
    except (OSError, ValueError):
        return False
    return True


def run_briefly(module: Module) -> None:
    """Run main on random inputs, where that costs little and no loop says how long it takes."""
    sizes = choose_sizes(module)
    if is_affordable(module, sizes):
        with contextlib.suppress(TookLong), at_most(PATIENCE):
            run_module(module, random_inputs(module, sizes))


def is_affordable(module: Module, sizes: dict[str, int]) -> bool:
    """Whether a run takes little time and memory, as far as the types tell."""
    total = sum(bytes_of(a.type, sizes) for a in module.main.args)
    for op in module.walk():
        if op.name in ("loop", "while", "call"):
            return False
        if op.name in ("return", "yield"):
            continue
        types = [None if v is None else v.type for v in op.operands]
        results = [r.type for r in op.results]
        try:
            total += evaluate(get_op(op.name).count_flops(types, op.attrs, results), sizes)
            total += sum(bytes_of(t, sizes) for t in results)
        except KeyError:  # a size that only the run tells
            return False
        if total > AFFORDABLE:
            return False
    return total <= AFFORDABLE


TARGETS: dict[str, Callable[[bytes], None]] = {"text": fuzz_text, "onnx": fuzz_onnx, "artifact": fuzz_artifact}
