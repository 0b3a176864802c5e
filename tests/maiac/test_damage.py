"""Artifacts that are cut, changed, foreign, hostile or from another time: each a clear numbered error."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import maiac
from maiac import MaiaError
from maiac.runtime.loading import load_artifact
from maiac.runtime.manifest import _digest
from maiac.runtime.safetensors import read_header
from tests.maiac.samples import artifact_of, every_dtype, linear_module, saved


def fails(path: Path, code: str, *, verify: bool | None = None) -> MaiaError:
    """Loading must fail with this number; gives the error."""
    with pytest.raises(MaiaError) as caught:
        maiac.load(path, verify=verify)
    assert caught.value.code == code, str(caught.value)
    assert str(path) in caught.value.message
    return caught.value


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return saved(linear_module(), tmp_path / "m.maia")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    artifact_of(linear_module()).save(f"{tmp_path}/m/")
    return tmp_path / "m"


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], None], *, seal: bool = True) -> None:
    """Change the manifest of a directory artifact, with a checksum that is right again."""
    path = folder / "manifest.json"
    table = json.loads(path.read_text())
    table.pop("digest")
    change(table)
    path.write_text(json.dumps({**table, "digest": _digest(table) if seal else "0"}))


def edit_entry(folder: Path, name: str, data: bytes) -> None:
    """Change an entry of a directory artifact, with a manifest that agrees."""
    (folder / name).write_bytes(data)
    sums = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit_manifest(folder, lambda t: t["entries"].__setitem__(name, sums))


# **** what is no artifact ****


def test_nothing_there_names_what_is(tmp_path: Path, file: Path):
    assert "m.maia" in fails(tmp_path / "n.maia", "MAIA0401").hint


def test_a_directory_that_is_no_artifact(tmp_path: Path):
    fails(tmp_path, "MAIA0401")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(file: Path):
    file.chmod(0)
    fails(file, "MAIA0401")


@pytest.mark.parametrize("data", [b"", b"hello", b"module @m {}\n" * 50, bytes(range(256)) * 40])
def test_not_a_zip(tmp_path: Path, data: bytes):
    path = tmp_path / "m.maia"
    path.write_bytes(data)
    fails(path, "MAIA0402")


def test_foreign_zips(tmp_path: Path):
    path = tmp_path / "m.maia"
    torch.save({"w": torch.zeros(3)}, path)
    fails(path, "MAIA0402")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", '{"format": "Chrome extension"}')
    fails(path, "MAIA0402")


# **** cut and changed ****


def test_every_cut_is_found(file: Path):
    data = file.read_bytes()
    for end in {1, 30, 64, len(data) // 2, len(data) - 60, len(data) - 22, len(data) - 1}:
        file.write_bytes(data[:end])
        with pytest.raises(MaiaError) as caught:
            maiac.load(file)
        assert caught.value.code in ("MAIA0402", "MAIA0403", "MAIA0404", "MAIA0406", "MAIA0407"), end


def test_a_half_file_is_called_incomplete(file: Path):
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    fails(file, "MAIA0403")


def test_a_flipped_byte_of_any_entry_is_found(file: Path):
    data = file.read_bytes()
    for name, entry in load_artifact(file).archive.entries.items():
        for at in (0, entry.size // 2, entry.size - 1):
            changed = bytearray(data)
            changed[entry.offset + at] ^= 0x10
            file.write_bytes(changed)
            error = fails(file, "MAIA0404")
            assert name in str(error)


def test_large_weights_are_checked_on_demand(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("maiac.runtime.loading.CHECKED_WEIGHTS", 10)
    data = bytearray(file.read_bytes())
    entry = load_artifact(file).archive.entries["weights.safetensors"]
    data[entry.offset + entry.size - 1] ^= 1
    file.write_bytes(data)
    loaded = maiac.load(file)
    fails(file, "MAIA0404", verify=True)
    with pytest.raises(MaiaError, match="MAIA0404"):
        loaded.self_test()


def test_an_entry_more_or_less_is_found(folder: Path):
    (folder / "extra.txt").write_text("hello")
    assert "extra.txt is not in the manifest" in str(fails(folder, "MAIA0404"))
    (folder / "extra.txt").unlink()
    (folder / "report.json").unlink()
    assert "report.json is missing" in str(fails(folder, "MAIA0404"))


def test_an_entry_of_another_size_is_found(folder: Path):
    with (folder / "report.json").open("ab") as stream:
        stream.write(b" ")
    assert "bytes" in str(fails(folder, "MAIA0404"))


def test_a_changed_header_of_safetensors_is_found(folder: Path):
    path = folder / "weights.safetensors"
    good = path.read_bytes()
    length = int.from_bytes(good[:8], "little")
    table = json.loads(good[8 : 8 + length])

    def with_table(changed: Any) -> bytes:
        text = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
        return len(text).to_bytes(8, "little") + text + good[8 + length :]

    bad = [
        b"",
        b"\xff" * 8 + good[8:],
        with_table(b"no json"),
        with_table([1]),
        with_table({"w": {}}),
        with_table({"w": {**table["w"], "data_offsets": [0, 10**9]}}),
        with_table({"w": {**table["w"], "data_offsets": [8, 0]}}),
        with_table({"w": {**table["w"], "data_offsets": [-60, 0]}}),
        with_table({"w": {**table["w"], "shape": [True, 15]}}),
        with_table({"w": {**table["w"], "dtype": "F31"}}),
    ]
    for data in bad:
        edit_entry(folder, "weights.safetensors", data)
        fails(folder, "MAIA0404")


# **** versions ****


@pytest.mark.parametrize(("version", "word"), [(2, "newer"), (0, "older"), (10**30, "newer")])
def test_another_format_version(folder: Path, version: int, word: str):
    edit_manifest(folder, lambda t: t.update(format_version=version), seal=False)
    error = fails(folder, "MAIA0405")
    assert word in error.message and "maiac 0." in error.message


def test_a_version_that_is_none(folder: Path):
    edit_manifest(folder, lambda t: t.update(format_version="1"))
    fails(folder, "MAIA0408")


# **** hostile ****


def rewritten(file: Path, change: Callable[[zipfile.ZipFile, str, bytes], None]) -> None:
    """Write the archive again, entry by entry, with a change."""
    with zipfile.ZipFile(file) as old:
        entries = [(i.filename, old.read(i)) for i in old.infolist()]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as new:
        for name, data in entries:
            change(new, name, data)
    file.write_bytes(buffer.getvalue())


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../b", "C:evil", "a\\b", "", "a//b", ".hidden", "ä"])
def test_a_path_that_leaves_the_archive(file: Path, name: str):
    def change(new: zipfile.ZipFile, old: str, data: bytes) -> None:
        new.writestr(zipfile.ZipInfo(name if old == "report.json" else old), data)

    rewritten(file, change)
    fails(file, "MAIA0406")


def test_a_name_that_stands_twice(file: Path):
    def change(new: zipfile.ZipFile, name: str, data: bytes) -> None:
        new.writestr(name, data)
        if name == "report.json":
            with pytest.warns(UserWarning, match="Duplicate"):
                new.writestr(name, b"other")

    rewritten(file, change)
    fails(file, "MAIA0406")


def test_a_zip_bomb(file: Path):
    def change(new: zipfile.ZipFile, name: str, data: bytes) -> None:
        bomb = name == "report.json"
        new.writestr(name, bytes(10**7) if bomb else data, zipfile.ZIP_DEFLATED if bomb else zipfile.ZIP_STORED)

    rewritten(file, change)
    assert file.stat().st_size < 10**5
    fails(file, "MAIA0407")


def test_entries_over_each_other(file: Path):
    data = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        first, second = archive.infolist()[:2]
    # The second directory record claims the first one's place and name length.
    at = data.index(b"PK\x01\x02") + 46 + len(first.filename) + len(first.extra)
    data[at + 42 : at + 46] = first.header_offset.to_bytes(4, "little")
    file.write_bytes(data)
    assert second.filename in str(fails(file, "MAIA0404"))


def test_one_entry_inside_another(tmp_path: Path):
    """Two names for the same bytes, the second's own header hidden in the first one's data."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("b", b"x" * 50)
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("manifest.json", inner.getvalue())
        archive.writestr("b", b"x" * 50)
    data = bytearray(whole.getvalue())
    hidden = data.index(inner.getvalue()[:10], 1)
    at = data.rindex(b"PK\x01\x02")
    data[at + 42 : at + 46] = hidden.to_bytes(4, "little")
    path = tmp_path / "m.maia"
    path.write_bytes(data)
    assert "over each other" in fails(path, "MAIA0406").message


def test_too_many_entries(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("maiac.runtime.archive.MAX_ENTRIES", 3)
    fails(file, "MAIA0406")


def test_a_link_in_a_directory_artifact(folder: Path, tmp_path: Path):
    (folder / "report.json").rename(tmp_path / "outside.json")
    (folder / "report.json").symlink_to(tmp_path / "outside.json")
    fails(folder, "MAIA0406")


def test_a_manifest_without_its_checksum(folder: Path):
    edit_manifest(folder, lambda t: t.update(pipeline="evil"), seal=False)
    fails(folder, "MAIA0404")


def test_a_manifest_that_is_no_json(folder: Path):
    for text in ("", "[", "\x00", "[" * 100_000, '{"a": NaN}', "1" * 5000):
        (folder / "manifest.json").write_text(text)
        fails(folder, "MAIA0404")
    (folder / "manifest.json").write_text("[]")
    fails(folder, "MAIA0402")


def test_a_manifest_nested_too_deep(folder: Path):
    deep: Any = {"t": "leaf"}
    for _ in range(100):
        deep = {"t": "tuple", "c": [deep]}
    edit_manifest(folder, lambda t: t.update(in_tree=deep))
    fails(folder, "MAIA0408")


def test_a_manifest_that_is_too_large(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("maiac.runtime.loading.MAX_MANIFEST", 100)
    fails(folder, "MAIA0408")


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("weights"),
        lambda t: t.update(weights=[]),
        lambda t: t.update(pipeline=3),
        lambda t: t.update(inputs={}),
        lambda t: t["inputs"].append({"name": 1, "type": "f32[]"}),
        lambda t: t["inputs"].append({"name": "z", "type": "f32[]"}),
        lambda t: t.update(outputs=[]),
        lambda t: t.update(convention="carrier pigeon"),
        lambda t: t.update(convention="torch"),
        lambda t: t.update(in_tree={"t": "door"}),
        lambda t: t.update(in_tree={"t": "const", "v": []}),
        lambda t: t.update(in_tree={"t": "tuple"}),
        lambda t: t.update(in_tree={"t": "dict", "c": [{"t": "leaf"}], "k": []}),
        lambda t: t.update(in_tree={"t": "named", "c": [{"t": "leaf"}], "k": [1], "type": "os.system"}),
        lambda t: t.update(links=[{"path": 1, "size": 0, "sha256": ""}]),
        lambda t: t["entries"]["report.json"].update(size=-1),
        lambda t: t["weights"]["w"].update(data={"file": 3}),
        lambda t: t["weights"]["w"]["data"].update(link="x"),
        lambda t: t["mesh"].update(tp="many"),
    ],
)
def test_a_malformed_manifest(folder: Path, change: Callable[[dict[str, Any]], None]):
    edit_manifest(folder, change)
    fails(folder, "MAIA0408")


def test_weights_that_do_not_fit_the_program(tmp_path: Path):
    artifact_of(every_dtype()).save(f"{tmp_path}/m/")
    folder = tmp_path / "m"
    original = (folder / "manifest.json").read_text()
    changes: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
        (lambda t: t["weights"].pop("w"), "@w is missing"),
        (lambda t: t["weights"].update(zz=t["weights"]["w"]), "@zz is in the manifest only"),
        (lambda t: t["weights"]["w"].update(type="f64[3, 5]"), "the manifest says f64[3, 5]"),
        (lambda t: t["weights"]["w"]["data"].update(key="nobody"), "no tensor 'nobody'"),
        (lambda t: t["weights"]["w"]["data"].update(key="brain"), "holds 'brain'"),
        (lambda t: t["weights"]["w"]["data"].update(file="nowhere"), "no entry 'nowhere'"),
        (lambda t: t["weights"]["w"].update(data={"link": 4}), "no linked file number 4"),
        (lambda t: t["weights"]["q"].pop("scale"), "scale or zero point is missing"),
        (lambda t: t["weights"]["asym"].pop("zero_point"), "scale or zero point is missing"),
    ]
    for change, message in changes:
        (folder / "manifest.json").write_text(original)
        edit_manifest(folder, change)
        assert message in str(fails(folder, "MAIA0409"))


def test_a_linked_weight_that_lies_outside_its_file(tmp_path: Path):
    artifact_of(linear_module()).save(f"{tmp_path}/store/")
    maiac.load(tmp_path / "store").save(f"{tmp_path}/m/", link_weights=True)
    edit_manifest(tmp_path / "m", lambda t: t["weights"]["w"]["data"].update(offset=10**6))
    assert "ends outside" in str(fails(tmp_path / "m", "MAIA0409"))


def test_a_program_that_is_none(folder: Path):
    edit_entry(folder, "program.maia", b"\xff\xfe")
    fails(folder, "MAIA0408")
    edit_entry(folder, "program.maia", b"module @m {}\n")
    fails(folder, "MAIA0408")


def test_a_program_that_breaks_the_rules_of_the_ir(folder: Path):
    text = (folder / "program.maia").read_text().replace("= linear %x, @w", "= linear @w, %x")
    edit_entry(folder, "program.maia", text.encode())
    with pytest.raises(MaiaError, match="MAIA0106"):
        maiac.load(folder)


@pytest.mark.parametrize("data", [b"[1]", b"{", b"\xff"])
def test_a_report_that_is_none(folder: Path, data: bytes):
    edit_entry(folder, "report.json", data)
    fails(folder, "MAIA0408")


@pytest.mark.parametrize("rows", [{}, ["x"], [{"tensor": "in.7"}], [{"value": [1]}], [{"list": 3}]])
def test_golden_tables_that_fit_nothing(folder: Path, rows: Any):
    edit_manifest(folder, lambda t: t["golden"].update(outputs=rows))
    with pytest.raises(MaiaError, match="MAIA0408"):
        maiac.load(folder).self_test()


def test_golden_outputs_of_another_number(folder: Path):
    edit_manifest(folder, lambda t: t["golden"].update(outputs=[]))
    with pytest.raises(MaiaError, match="MAIA0413"):
        maiac.load(folder).self_test()


def test_a_file_replaced_while_it_is_read(file: Path, monkeypatch: pytest.MonkeyPatch):
    from maiac.runtime import loading

    real = loading.attach

    def slow(*args: Any) -> None:
        os.utime(file, ns=(1, 1))
        real(*args)

    monkeypatch.setattr(loading, "attach", slow)
    fails(file, "MAIA0418")


def test_headers_of_plain_files_are_checked_too(tmp_path: Path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"\x01")
    with pytest.raises(MaiaError, match="MAIA0404"):
        read_header(path)
