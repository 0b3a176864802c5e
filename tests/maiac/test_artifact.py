"""Saving and loading: every dtype, tied and linked weights, calling conventions, self-test, atomic writes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch

import maiac
from maiac import MaiaError
from maiac.ir import DType, parse, print_module, tensor
from maiac.ir.dims import sym
from maiac.ir.ops.values import QTensor
from maiac.runtime.loading import load_artifact
from maiac.runtime.manifest import Piece
from maiac.runtime.weights import HeldTensor, MappedTensor, MetaTensor
from tests.maiac.samples import (
    Counter,
    artifact_of,
    contents,
    every_dtype,
    linear_module,
    linear_text,
    onnx_mlp,
    perceptron,
    saved,
)


def bits(tensor: torch.Tensor) -> list[int]:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).tolist()


def refused(code: str, action) -> MaiaError:
    with pytest.raises(MaiaError) as caught:
        action()
    assert caught.value.code == code, str(caught.value)
    return caught.value


# **** contents ****


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_every_dtype_comes_back_bit_by_bit(tmp_path: Path, kind: str):
    module = every_dtype()
    path = tmp_path / "m.maia"
    artifact_of(module).save(f"{path}/" if kind == "folder" else path)
    assert path.is_dir() == (kind == "folder")
    loaded = maiac.load(path)
    assert print_module(loaded.module) == print_module(module)
    for name, weight in {**module.weights, **module.states}.items():
        found, expected = contents({**loaded.module.weights, **loaded.module.states}[name]), contents(weight)
        pairs = [(found, expected)]
        if isinstance(expected, QTensor):
            pairs = [(found.codes, expected.codes), (found.scale, expected.scale)]
            assert found.type == expected.type
            assert (found.zero_point is None) == (expected.zero_point is None)
            if expected.zero_point is not None:
                pairs.append((found.zero_point, expected.zero_point))
        for a, b in pairs:
            assert a.dtype == b.dtype and a.shape == b.shape and bits(a) == bits(b), name


def test_the_weights_are_standard_safetensors(tmp_path: Path):
    path = tmp_path / "m"
    artifact_of(every_dtype()).save(f"{path}/")
    with safetensors.safe_open(path / "weights.safetensors", "pt") as file:
        names = set(file.keys())
        assert torch.equal(file.get_tensor("brain"), contents(every_dtype().weights["brain"]))
    assert "tied" not in names, "tied weights are stored once"
    # A quantized weight's scales find a key that no weight has.
    assert {"q", "q.scale", "q.scale_1", "asym", "asym.scale", "asym.zero_point"} <= names


def test_entries_are_aligned_and_stored(tmp_path: Path):
    import zipfile

    path = saved(every_dtype(), tmp_path / "m.maia")
    archive = load_artifact(path).archive
    assert archive.entries["weights.safetensors"].offset % 4096 == 0
    assert all(entry.offset % 64 == 0 for entry in archive.entries.values())
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        assert {i.compress_type for i in file.infolist()} == {zipfile.ZIP_STORED}


def test_tensors_inside_are_aligned(tmp_path: Path):
    loaded = maiac.load(saved(every_dtype(), tmp_path / "m.maia"))
    for weight in loaded.module.weights.values():
        if isinstance(weight.data, MappedTensor) and weight.data.shape:
            size = weight.data.load().numel() * weight.data.dtype.itemsize
            assert weight.data.offset % min(64, size & -size or 64) == 0


def test_the_same_model_gives_the_same_bytes(tmp_path: Path):
    a = saved(linear_module(), tmp_path / "a.maia").read_bytes()
    time.sleep(0.01)
    assert a == saved(linear_module(), tmp_path / "b.maia").read_bytes()


def test_loading_maps_and_copies_nothing(tmp_path: Path):
    loaded = maiac.load(saved(linear_module(), tmp_path / "m.maia"))
    data = loaded.module.weights["w"].data
    assert isinstance(data, MappedTensor)
    assert data.load().data_ptr() == data.load().data_ptr()


def test_meta_weights_are_stored_without_contents(tmp_path: Path):
    module = parse(linear_text())
    module.weights["w"].data = MetaTensor(torch.float32, (3, 5))
    loaded = maiac.load(saved(module, tmp_path / "m.maia"))
    assert isinstance(loaded.module.weights["w"].data, MetaTensor)
    error = refused("MAIA0414", loaded.self_test)
    assert "no contents" in error.message


def test_a_weight_of_no_static_shape_cannot_be_stored(tmp_path: Path):
    artifact = artifact_of(linear_module())
    artifact.module.add_weight("u", tensor(DType.F32, sym("T")))
    error = refused("MAIA0412", lambda: artifact.save(tmp_path / "m.maia"))
    assert "@u is f32[T]" in error.details[0]
    assert not list(tmp_path.iterdir())


def test_contents_of_another_type_cannot_be_stored(tmp_path: Path):
    artifact = artifact_of(linear_module())
    artifact.module.weights["w"].data = HeldTensor(torch.zeros(3, 4))
    refused("MAIA0412", lambda: artifact.save(tmp_path / "m.maia", golden=False))
    assert not list(tmp_path.iterdir())


# **** linked weights ****


def linked(tmp_path: Path) -> tuple[Path, Path]:
    """An artifact whose weight lies in another artifact's folder."""
    store = tmp_path / "store"
    artifact_of(linear_module()).save(f"{store}/")
    path = tmp_path / "linked.maia"
    loaded = maiac.load(store)
    loaded.save(path, link_weights=True)
    return path, store / "weights.safetensors"


def test_linked_weights_stay_where_they_are(tmp_path: Path):
    path, store = linked(tmp_path)
    loaded = maiac.load(path)
    assert loaded.manifest.links[0].path == os.path.join("store", "weights.safetensors")
    assert loaded.manifest.links[0].sha256 == hashlib.sha256(store.read_bytes()).hexdigest()
    assert isinstance(loaded.manifest.weights["w"].data, Piece) and loaded.manifest.weights["w"].data.link == 0
    assert torch.equal(contents(loaded.module.weights["w"]), contents(linear_module().weights["w"]))
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "store").rename(moved / "store")
    path = path.rename(moved / "linked.maia")
    assert len(maiac.load(path).self_test()) == 1, "links are relative to the artifact"


def test_views_of_mapped_files_are_linked_until_they_are_written_to(tmp_path: Path):
    _, store = linked(tmp_path)
    module = linear_module()
    view = contents(maiac.load(tmp_path / "store").module.weights["w"])
    module.weights["w"].data = HeldTensor(view)  # as a model holds it that was built over the file
    saved(module, tmp_path / "a.maia", link_weights=True)
    assert maiac.load(tmp_path / "a.maia").manifest.links[0].size == store.stat().st_size
    view += 1
    saved(module, tmp_path / "b.maia", link_weights=True)
    loaded = maiac.load(tmp_path / "b.maia")
    assert not loaded.manifest.links and torch.equal(contents(loaded.module.weights["w"]), view)


def test_weights_of_another_folder_take_trust(tmp_path: Path):
    _, store = linked(tmp_path)
    (tmp_path / "inner").mkdir()
    path = tmp_path / "inner" / "m.maia"
    maiac.load(tmp_path / "store").save(path, link_weights=True)
    error = refused("MAIA0419", lambda: maiac.load(path))
    assert str(store) in str(error) and "--trust" in str(error)
    assert len(maiac.load(path, trust=True).self_test()) == 1


def test_a_link_of_the_system_does_not_hide_another_folder(tmp_path: Path):
    path, _ = linked(tmp_path)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "store").symlink_to(tmp_path / "store")
    moved = path.rename(tmp_path / "inner" / "m.maia")
    refused("MAIA0419", lambda: maiac.load(moved))
    assert len(maiac.load(moved, trust=True).self_test()) == 1


def test_linked_weights_that_changed_are_refused(tmp_path: Path):
    path, store = linked(tmp_path)
    data = bytearray(store.read_bytes())
    data[-1] ^= 1
    store.write_bytes(data)
    assert "changed" in refused("MAIA0410", lambda: maiac.load(path)).details[0]
    store.write_bytes(data[:-1])
    assert "bytes" in refused("MAIA0410", lambda: maiac.load(path)).details[0]
    store.unlink()
    assert "missing" in refused("MAIA0410", lambda: maiac.load(path)).details[0]


# **** calling ****


def test_a_torch_model_keeps_its_calling_convention(tmp_path: Path):
    model, (x,) = perceptron()
    compiled = maiac.compile(model, (x,))
    compiled.save(tmp_path / "m.maia")
    loaded = maiac.load(tmp_path / "m.maia")
    expected = model(x)
    for artifact in (compiled, loaded):
        found = artifact(x)
        assert list(found) == ["y", "hidden"]
        for key in expected:
            torch.testing.assert_close(found[key], expected[key], rtol=1e-6, atol=1e-6)
    assert [p.name for p in loaded.outputs] == ["y", "hidden"]
    refused("MAIA0505", lambda: loaded(x, x, x))


def test_an_onnx_model_takes_arrays_by_position_or_name(tmp_path: Path):
    path = tmp_path / "m.maia"
    maiac.compile(onnx_mlp()).save(path)
    loaded = maiac.load(path)
    assert [p.name for p in loaded.inputs] == ["x:0"], "names are the source's, not those of the text"
    assert [p.name for p in loaded.outputs] == ["y:0"]
    x = np.random.default_rng(1).standard_normal((4, 5), dtype=np.float32)
    by_position, by_name = loaded(x), loaded(**{"x:0": x})
    assert isinstance(by_position[0], np.ndarray)
    np.testing.assert_array_equal(by_position[0], by_name[0])
    assert isinstance(loaded(torch.from_numpy(x))[0], torch.Tensor), "tensors in, tensors out"


def test_inputs_that_do_not_fit_are_all_listed():
    artifact = artifact_of(linear_module())
    error = refused("MAIA0416", lambda: artifact(y=1, z=2))
    assert len(error.details) == 3 and "the inputs are: x" in error.message
    x = torch.zeros(2, 5)
    assert "by position and by name" in refused("MAIA0416", lambda: artifact(x, x=x)).details[0]
    assert "there are 1" in refused("MAIA0416", lambda: artifact(x, x)).details[0]


def test_states_live_in_the_artifact_and_can_be_reset(tmp_path: Path):
    x = torch.zeros(2)
    artifact = maiac.compile(Counter(), (x,))
    artifact.save(tmp_path / "m.maia")
    loaded = maiac.load(tmp_path / "m.maia")
    assert [float(loaded(x)[0]) for _ in range(3)] == [1, 2, 3]
    assert len(loaded.self_test()) == 1, "the self-test has states of its own"
    assert float(loaded(x)[0]) == 4
    loaded.reset()
    assert float(loaded(x)[0]) == 1


def test_only_the_cpu_is_a_device(tmp_path: Path):
    path = saved(linear_module(), tmp_path / "m.maia")
    refused("MAIA0417", lambda: maiac.load(path, device="cuda"))


def test_a_mesh_that_does_not_fit_is_refused_while_loading(tmp_path: Path):
    path = saved(linear_module(), tmp_path / "m.maia")
    refused("MAIA0506", lambda: maiac.load(path, mesh={"tp": 2}))


# **** self-test ****


def test_the_self_test_uses_the_example_inputs(tmp_path: Path):
    model, args = perceptron()
    maiac.compile(model, args).save(tmp_path / "m.maia")
    loaded = maiac.load(tmp_path / "m.maia")
    assert loaded.manifest.golden["origin"] == "example"
    inputs, _ = loaded.golden()
    assert torch.equal(inputs[0], args[0])
    assert all(d.max_abs == 0 for d in loaded.self_test())


def test_the_self_test_tells_which_output_differs(tmp_path: Path):
    path = saved(linear_module(), tmp_path / "m.maia")
    loaded = maiac.load(path)
    loaded.module.weights["w"].data = HeldTensor(torch.zeros(3, 5))
    assert refused("MAIA0413", loaded.self_test).details[0].startswith("y: differs by")


def test_no_golden_results_where_they_are_not_wanted(tmp_path: Path):
    loaded = maiac.load(saved(linear_module(), tmp_path / "m.maia", golden=False))
    assert "not wanted" in refused("MAIA0414", loaded.self_test).message


def test_golden_results_travel_when_an_artifact_is_saved_again(tmp_path: Path):
    first = maiac.load(saved(linear_module(), tmp_path / "a.maia"))
    first.save(tmp_path / "b.maia")
    assert (tmp_path / "a.maia").read_bytes() == (tmp_path / "b.maia").read_bytes()


def test_an_artifact_can_be_saved_over_itself(tmp_path: Path):
    path = saved(linear_module(), tmp_path / "m.maia")
    loaded = maiac.load(path)
    x = torch.ones(2, 5)
    before = loaded(x)[0]
    loaded.save(path)
    assert torch.equal(loaded(x)[0], before) and torch.equal(maiac.load(path)(x)[0], before)


def test_replacing_a_file_does_not_disturb_who_has_it_open(tmp_path: Path):
    path = saved(linear_module(), tmp_path / "m.maia")
    loaded = maiac.load(path)
    other = linear_module()
    other.weights["w"].data = HeldTensor(torch.zeros(3, 5))
    saved(other, path)
    assert float(loaded(torch.ones(1, 5))[0].abs().sum()) > 0
    assert float(maiac.load(path)(torch.ones(1, 5))[0].abs().sum()) == 0


def test_a_file_that_was_cut_while_in_use_is_noticed(tmp_path: Path):
    path = tmp_path / "w.bin"
    path.write_bytes(bytes(64))
    data = MappedTensor(path, 0, torch.float32, (16,))
    assert data.load().shape == (16,)
    path.write_bytes(bytes(8))
    refused("MAIA0418", data.load)
    path.unlink()
    refused("MAIA0418", data.load)


# **** writing ****


def test_a_missing_folder_and_a_foreign_one_are_refused(tmp_path: Path):
    artifact = artifact_of(linear_module())
    assert "no folder" in refused("MAIA0411", lambda: artifact.save(tmp_path / "no" / "m.maia")).message
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "cat.jpg").write_bytes(b"meow")
    refused("MAIA0411", lambda: artifact.save(f"{foreign}/"))
    assert [f.name for f in foreign.iterdir()] == ["cat.jpg"]


def test_a_directory_artifact_replaces_an_older_one(tmp_path: Path):
    path = tmp_path / "m"
    artifact_of(every_dtype()).save(f"{path}/")
    artifact_of(linear_module()).save(f"{path}/")
    assert maiac.load(path).module.name == "tiny"
    assert [f.name for f in tmp_path.iterdir()] == ["m"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = saved(linear_module(), tmp_path / "m.maia")
    before = path.read_bytes()
    module = linear_module()

    class Interrupted:
        def load(self) -> Any:
            raise KeyboardInterrupt

        def load_slice(self, slices: tuple[slice, ...]) -> Any:
            raise KeyboardInterrupt

    module.weights["w"].data = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        saved(module, path, golden=False)
    assert path.read_bytes() == before and [f.name for f in tmp_path.iterdir()] == ["m.maia"]


SLOW_WRITE = """
import sys, time
import maiac.artifact, maiac.cli
from maiac.runtime.weights import HeldTensor
sys.path.insert(0, {root!r})
from tests.maiac.samples import artifact_of, linear_module
module = linear_module()
class Slow:
    def load(self):
        print("writing", flush=True)
        time.sleep(60)
module.weights["w"].data = Slow()
import signal
signal.signal(signal.SIGTERM, maiac.cli._terminated)
artifact_of(module).save({path!r}, golden=False)
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_behind(tmp_path: Path, sent: signal.Signals):
    root = str(Path(__file__).parents[2])
    code = SLOW_WRITE.format(root=root, path=str(tmp_path / "m.maia"))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None and process.stdout.readline() == b"writing\n"
        process.send_signal(sent)
        process.wait(30)
    assert process.returncode != 0
    assert not list(tmp_path.iterdir())


def test_memory_of_a_write_is_one_weight_at_a_time(tmp_path: Path):
    from maiac.runtime.weights import DerivedTensor

    weights = "\n".join(f"  weight @w{i} : f32[1024, 256]" for i in range(8))
    module = parse(linear_text().replace("  weight @w :", f"{weights}\n  weight @w :"))
    module.weights["w"].data = linear_module().weights["w"].data
    alive: list[int] = []
    import weakref

    def make(i: int) -> torch.Tensor:
        made = torch.full((1024, 256), float(i))
        alive.append(i)
        weakref.finalize(made, alive.remove, i)
        assert len(alive) <= 2, "weights written before are still in memory"
        return made

    for i in range(8):
        module.weights[f"w{i}"].data = DerivedTensor(lambda i=i: make(i))
    path = saved(module, tmp_path / "m.maia", golden=False)
    assert float(contents(maiac.load(path).module.weights["w5"])[3, 3]) == 5


def test_the_report_says_what_the_passes_did(tmp_path: Path):
    model, args = perceptron()
    maiac.compile(model, args).save(tmp_path / "m.maia")
    loaded = maiac.load(tmp_path / "m.maia")
    assert loaded.report["summary"]["parameters"] == 8 * 16 + 16 + 16 * 4 + 4
    assert next(p["text"] for p in loaded.report["pipeline"]["passes"]) == "canonicalize"
    assert "seconds" not in json.dumps(loaded.report), "no clock in the file"
    assert loaded.manifest.source["kind"] == "module"


def test_golden_results_that_would_be_too_large_are_not_computed(tmp_path: Path):
    wide, body = "f32[1099511627776, 4]", "%y = expand %x {shape = [1099511627776, 4]}"
    text = f"module @m {{\n  func @main(%x: f32[1]) -> {wide} {{\n    {body} : {wide}\n    return %y\n  }}\n}}\n"
    manifest = maiac.compile(maiac.ir.parse(text)).save(tmp_path / "m.maia")
    assert "would take 17,592,186,044,420 bytes" in manifest.golden["skipped"]
