"""Bytes of an artifact changed at random: it loads the same, or fails with a numbered error; nothing else."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import maiac
from maiac import MaiaError
from maiac.ir import print_module
from maiac.ir.ops.values import QTensor
from maiac.runtime.manifest import _digest
from tests.maiac.samples import artifact_of, every_dtype

QUICK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@cache
def home() -> Path:
    """A folder for the whole run."""
    holder = tempfile.TemporaryDirectory(prefix="maiac-fuzz-")
    home.holder = holder  # type: ignore[attr-defined]  # removed when the process ends
    return Path(holder.name)


@cache
def good_file() -> bytes:
    path = home() / "good.maia"
    artifact_of(every_dtype()).save(path)
    return path.read_bytes()


@cache
def good_folder() -> dict[str, bytes]:
    path = home() / "good"
    artifact_of(every_dtype()).save(f"{path}/")
    return {f.name: f.read_bytes() for f in path.iterdir()}


@cache
def good_text() -> str:
    good_file()
    return contents(maiac.load(home() / "good.maia"))


def contents(artifact: maiac.Artifact) -> str:
    """All of an artifact: its program and every weight's bytes."""
    parts = [print_module(artifact.module)]
    for name, weight in artifact.module.weights.items():
        assert weight.data is not None
        value = weight.data.load()
        tensors = [value.codes, value.scale] if isinstance(value, QTensor) else [value]
        parts += [f"{name} {t.dtype} {t.double().tolist() if not t.is_complex() else t.tolist()}" for t in tensors]
    return "\n".join(parts)


def same_or_refused(path: Path) -> None:
    try:
        loaded = maiac.load(path)
        loaded.self_test()
    except MaiaError:
        return
    assert contents(loaded) == good_text()


@QUICK
@given(st.data())
def test_changed_bytes(data: st.DataObject):
    changed = bytearray(good_file())
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    path = home() / "bytes.maia"
    path.write_bytes(changed)
    same_or_refused(path)


@QUICK
@given(st.data())
def test_bytes_cut_out_put_in_or_moved(data: st.DataObject):
    good = good_file()
    a, b, c = sorted(data.draw(st.integers(0, len(good))) for _ in range(3))
    inserted = data.draw(st.binary(max_size=64))
    changed = data.draw(
        st.sampled_from(
            [good[:a] + good[b:], good[:a] + inserted + good[a:], good[:a] + good[b:c] + good[a:b] + good[c:]]
        )
    )
    path = home() / "moved.maia"
    path.write_bytes(changed)
    same_or_refused(path)


@QUICK
@given(st.data())
def test_changed_directory_records(data: st.DataObject):
    """Most of an archive is data; this aims at the records that say where data lies."""
    changed = bytearray(good_file())
    start = changed.index(b"PK\x01\x02")
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(start, len(changed) - 1))] = data.draw(
            st.sampled_from([0, 1, 8, 0x7F, 0x80, 0xFF])
        )
    path = home() / "records.maia"
    path.write_bytes(changed)
    same_or_refused(path)


ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.text(max_size=8),
    st.just([]),
    st.just({}),
    st.just({"t": "leaf"}),
    st.just({"file": "weights.safetensors", "key": "w"}),
    st.just("../../etc/passwd"),
)


@QUICK
@given(st.data())
def test_a_manifest_that_lies_with_a_right_checksum(data: st.DataObject):
    folder = home() / "lies"
    folder.mkdir(exist_ok=True)
    for name, content in good_folder().items():
        (folder / name).write_bytes(content)
    table = json.loads(good_folder()["manifest.json"])
    table.pop("digest")
    place: Any = table
    while True:  # walk to a random place
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        assume(keys)
        key = data.draw(st.sampled_from(list(keys)))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    if data.draw(st.booleans()):
        del place[key]
    else:
        place[key] = data.draw(ODD)
    (folder / "manifest.json").write_text(json.dumps({**table, "digest": _digest(table)}))
    try:
        loaded = maiac.load(folder)
        loaded.self_test()
        loaded.reset()
    except MaiaError:
        return
