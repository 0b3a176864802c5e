"""Every command: what it does, its JSON, and what it says when something is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import maiac
from maiac.cli import run_command
from maiac.ir.catalogue import CATALOGUE
from tests.maiac.samples import linear_module, linear_text, onnx_mlp, saved
from tests.maiac.terminal import refused

SAMPLES = "tests.maiac.samples"

pytestmark = pytest.mark.usefixtures("terminal")


# **** compile ****


def test_compile_tells_what_it_made(say, mlp, tmp_path: Path):
    spoken = say("compile", mlp[0])
    assert spoken.code == 0
    assert (tmp_path / "mlp.maia").is_file(), "by default in the current folder, named after the source"
    for text in ("mlp.maia", "x:0: f32[N, 5]", "y:0: f32[N, 2]", " parameters, ", "FLOP", "results for random inputs"):
        assert text in spoken.out
    assert spoken.err == ""


def test_compile_json(say, mlp, tmp_path: Path):
    spoken = say("compile", mlp[0], "-o", "a.maia", "--json")
    assert spoken.json["path"] == "a.maia" and spoken.json["bytes"] == (tmp_path / "a.maia").stat().st_size
    assert 30 <= spoken.json["summary"]["parameters"] <= 50  # small weights may become constants of the program
    assert spoken.json["pipeline"]["passes"][0]["text"] == "canonicalize"


def test_compile_does_not_overwrite_its_source(say, tmp_path: Path):
    text = linear_text()
    (tmp_path / "m.maia").write_text(text)
    for output in ("m.maia", "./m.maia", tmp_path / "m.maia"):
        assert "-o m-compiled.maia" in refused(say("compile", "m.maia", "-o", output), "MAIA0411")
    assert (tmp_path / "m.maia").read_text() == text
    onnx_mlp(tmp_path / "m.onnx")
    refused(say("compile", "m.onnx", "-o", "m.onnx"), "MAIA0411")


def test_compile_says_what_is_wrong_with_a_file(say, tmp_path: Path):
    for name in ("e.onnx", "e.pt2", "e.maia"):
        (tmp_path / name).touch()
        assert f"{name} is empty" in refused(say("compile", name), "MAIA0702")
    (tmp_path / "link.onnx").symlink_to("nowhere.onnx")
    assert "a link to nowhere.onnx" in refused(say("compile", "link.onnx"), "MAIA0701")
    refused(say("compile", ""), "MAIA0701")
    (tmp_path / "model").write_text("?")
    assert "a file without a suffix" in refused(say("compile", "model"), "MAIA0702")


@pytest.mark.parametrize("name", ["m.onnx", "m.pt2", "m.maia"])
def test_a_file_that_may_not_be_read(say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    (tmp_path / name).write_text("?")

    def forbidden(self: Path, *_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)  # rights mean nothing to root, who may run this
    assert f"cannot read {name}: Permission denied" in refused(say("compile", name), "MAIA0701")


def test_a_damaged_exported_program_is_one_message(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    (tmp_path / "m.pt2").write_bytes(b"PK\x03\x04 nothing")
    assert run_command(["compile", "m.pt2"]) == 1
    said = capfd.readouterr().err
    assert said.startswith("MAIA0205: ") and "Traceback" not in said


def test_figures_in_words():
    from maiac.commands.compile_ import flops_text
    from maiac.console import bytes_text

    summary = {"flops": 6, "flops_at": {}, "data_dependent": False}
    assert flops_text(summary) == "6 FLOP" and flops_text({**summary, "flops": 6e3}) == "6 kFLOP"
    assert bytes_text(5 << 50) == "5.0 PiB" and bytes_text(1 << 62) == "4.0 EiB"


def test_compile_into_a_folder(say, mlp, tmp_path: Path):
    assert say("compile", mlp[0], "-o", "out/", "--no-golden").code == 0
    assert (tmp_path / "out" / "manifest.json").is_file()
    assert "golden" not in " ".join(f.name for f in (tmp_path / "out").iterdir())


def test_compile_with_its_options(say, mlp, tmp_path: Path):
    dumps = tmp_path / "ir"
    spoken = say("compile", mlp[0], "-o", "a.maia", "--quantize", "int8", "--dump-ir", dumps)
    assert spoken.code == 0 and "channel<i8" in spoken.out
    assert maiac.load("a.maia").manifest.options == {"target": "host", "quantize": "int8"}
    assert (dumps / "00-captured.maia").is_file()
    assert say("compile", mlp[0], "-o", "b.maia", "--passes", "fold,dce").code == 0
    assert maiac.load("b.maia").manifest.pipeline == "fold,dce"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--quantize", "int3"], "MAIA0706"),
        (["--kv-dtype", "i8"], "MAIA0706"),
        (["--target", "maia300"], "MAIA0707"),
        (["-o", "no/such/m.maia"], "MAIA0411"),
        (["--passes", "fold,cook"], "MAIA0304"),
    ],
)
def test_compile_refuses_bad_options(say, mlp, options: list[str], code: str, tmp_path: Path):
    refused(say("compile", mlp[0], *options), code)
    assert not list(tmp_path.iterdir())


def test_sources_that_are_none(say, mlp, tmp_path: Path):
    assert "mlp.onnx" in refused(say("compile", mlp[0].parent / "mpl.onnx"), "MAIA0701")
    (tmp_path / "weights.pth").write_bytes(b"x")
    assert "factory" in refused(say("compile", "weights.pth"), "MAIA0702")
    (tmp_path / "photos").mkdir()
    assert "config.json" in refused(say("compile", "photos"), "MAIA0702")
    assert "compiled already" in refused(say("compile", mlp[1]), "MAIA0702")
    (tmp_path / "latin.maia").write_bytes("# Größe".encode("latin-1"))
    (tmp_path / "text.maia").write_text(linear_text().replace("linear", "lineal"))
    refused(say("compile", "text.maia"), "MAIA0106")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_module:f", "cannot import"),
        (f"{SAMPLES}:nothing", "has no nothing"),
        (f"{SAMPLES}:broken", "no such checkpoint"),
        (f"{SAMPLES}:too_many", "gives 5 things"),
    ],
)
def test_factories_that_are_none(say, name: str, words: str):
    assert words in refused(say("compile", name), "MAIA0703")


def test_a_factory_that_gives_no_model(say):
    refused(say("compile", f"{SAMPLES}:number"), "MAIA0702")


def test_a_model_without_example_inputs(say):
    refused(say("compile", f"{SAMPLES}:Perceptron"), "MAIA0713")


# **** run ****


def test_run_on_random_inputs_is_repeatable(say, mlp):
    a, b = (say("run", mlp[1], "--random", "--dim", "N=3", "--json").json for _ in range(2))
    other = say("run", mlp[1], "--random", "--seed", 1, "--dim", "N=3", "--json").json
    assert a["outputs"] == b["outputs"] != other["outputs"]
    assert a["outputs"]["y:0"]["type"] == "f32[3, 2]"
    assert "y:0" in say("run", mlp[1], "--random").out


@pytest.mark.parametrize("suffix", ["npy", "npz", "safetensors"])
def test_run_reads_and_writes_files(say, mlp, tmp_path: Path, suffix: str):
    x = np.random.default_rng(3).standard_normal((2, 5), dtype=np.float32)
    expected = maiac.load(mlp[1])(x)[0]
    if suffix == "npy":
        np.save("x.npy", x)
    elif suffix == "npz":
        np.savez("x.npz", allow_pickle=False, **{"x:0": x})
    else:
        from safetensors.numpy import save_file

        save_file({"x:0": x}, "x.safetensors")
    spoken = say("run", mlp[1], "--input", f"x.{suffix}", "--output", f"y.{suffix}")
    assert spoken.code == 0 and f"written to y.{suffix}" in spoken.out
    from maiac.inputs import read_tensors

    (found,) = read_tensors(tmp_path / f"y.{suffix}").values()
    np.testing.assert_array_equal(found.numpy(), expected)


def test_run_takes_named_npy_files(say, mlp):
    np.save("a.npy", np.zeros((1, 5), np.float32))
    assert say("run", mlp[1], "-i", "x:0=a.npy").code == 0
    assert "one input more" in refused(say("run", mlp[1], "-i", "a.npy", "-i", "a.npy"), "MAIA0416")


def test_run_refuses_inputs_that_do_not_fit(say, mlp):
    assert "x:0: f32[N, 5]" in refused(say("run", mlp[1]), "MAIA0416")
    np.savez("x.npz", z=np.zeros(3))
    text = refused(say("run", mlp[1], "--input", "x.npz"), "MAIA0416")
    assert "'z' is not an input" in text and "'x:0' is missing: f32[N, 5]" in text
    np.save("x.npy", np.zeros((2, 6), np.float32))
    refused(say("run", mlp[1], "--input", "x.npy"), "MAIA0502")
    refused(say("run", mlp[1], "--input", "x.npy", "--random"), "MAIA0706")
    refused(say("run", mlp[1], "--input", "no.npy"), "MAIA0701")
    Path("x.txt").write_text("1 2 3")
    refused(say("run", mlp[1], "--input", "x.txt"), "MAIA0705")
    Path("bad.npz").write_bytes(b"PK\x03\x04 nothing")
    refused(say("run", mlp[1], "--input", "bad.npz"), "MAIA0705")
    for name in ("text.npz", "text.npy", "text.safetensors"):
        Path(name).write_text("hi")
        assert "pickle" not in refused(say("run", mlp[1], "--input", name), "MAIA0705")
    np.save("objects.npy", np.array([{}], object), allow_pickle=True)
    refused(say("run", mlp[1], "--input", "objects.npy"), "MAIA0705")


def test_run_refuses_outputs_that_no_file_holds(say, mlp):
    refused(say("run", mlp[1], "--random", "-o", "y.txt"), "MAIA0705")
    refused(say("run", mlp[1], "--random", "-o", "no/y.npz"), "MAIA0411")


@pytest.mark.parametrize("dim", ["N", "N=x", "=3", "N=-1"])
def test_dims_that_are_none(say, mlp, dim: str):
    refused(say("run", mlp[1], "--random", "--dim", dim), "MAIA0706")


def test_dims_that_the_model_does_not_have_or_allow(say, tmp_path: Path):
    path = saved(linear_module(), tmp_path / "m.maia")
    text = refused(say("run", path, "--random", "--dim", "Z=3", "--dim", "T=65"), "MAIA0709")
    assert "no symbolic dim Z; they have T" in text and "T = 65" in text


def test_run_wants_an_artifact(say, mlp):
    assert "maiac compile" in refused(say("run", mlp[0], "--random"), "MAIA0706")


def test_the_self_test_passes_and_fails(say, mlp, tmp_path: Path):
    assert "passed" in say("run", mlp[1], "--self-test").out
    assert say("run", mlp[1], "--self-test", "--json").json["passed"] is True
    refused(say("run", saved(linear_module(), tmp_path / "n.maia", golden=False), "--self-test"), "MAIA0414")


def test_integer_inputs_stay_inside_the_tables_that_they_index(say):
    assert say("compile", f"{SAMPLES}:tables").code == 0
    for seed in range(5):
        assert say("run", "tables.maia", "--random", "--seed", seed).code == 0


# **** compare ****


def test_compare_agrees_with_the_source(say, mlp):
    spoken = say("compare", mlp[1], mlp[0])
    assert spoken.code == 0 and "agree" in spoken.out and "ONNX Runtime" in spoken.out


def test_compare_layers_of_an_onnx_model(say, mlp):
    found = say("compare", mlp[1], mlp[0], "--layers", "--order", "program", "--json").json
    assert [layer["name"] for layer in found["layers"]] == ["dense1", "activation", "dense2"]
    assert all(layer["max_abs"] < 1e-5 for layer in found["layers"])
    assert "activation" in say("compare", mlp[1], mlp[0], "--layers").out


def test_compare_layers_of_a_torch_model(say):
    source = f"{SAMPLES}:perceptron"
    assert say("compile", source).code == 0
    found = say("compare", "perceptron.maia", source, "--layers", "--json").json
    assert {"first", "second"} <= {layer["name"] for layer in found["layers"]}
    assert found["fits"] and found["engine"] == "PyTorch eager"
    assert [d["name"] for d in found["outputs"]] == ["y", "hidden"]


def test_compare_measures_quantized_artifacts_and_judges_on_request(say, mlp):
    assert say("compile", mlp[0], "-o", "q.maia", "--quantize", "int8").code == 0
    spoken = say("compare", "q.maia", mlp[0])
    assert spoken.code == 0 and "not judged" in spoken.out
    assert say("compare", "q.maia", mlp[0], "--min-sqnr", 20).code == 0
    strict = say("compare", "q.maia", mlp[0], "--min-sqnr", 200)
    assert strict.code == 1 and "under 200 dB" in strict.out and "MAIA0710" in strict.out
    assert say("compare", "q.maia", mlp[0], "--rtol", 0, "--atol", 1e-9).code == 1


def test_compare_fails_where_the_model_is_another(say, mlp, tmp_path: Path):
    onnx_mlp(tmp_path / "other.onnx", "Sigmoid")
    spoken = say("compare", mlp[1], "other.onnx", "--layers", "--json")
    assert spoken.code == 1 and not spoken.json["fits"]
    worst = spoken.json["layers"][0]
    assert worst["name"] in ("activation", "dense2")
    refused(say("compare", mlp[1], f"{SAMPLES}:perceptron"), "MAIA0712")


# **** inspect, opt, bench ****


def test_inspect_a_source_and_an_artifact(say, mlp):
    source = say("inspect", mlp[0])
    assert source.code == 0 and "mlp.onnx: compiles" in source.out and "ai.onnx.Gemm" in source.out
    artifact = say("inspect", mlp[1], "--verify", "--weights")
    assert "all correct" in artifact.out and "onnx mlp.onnx" in artifact.out and "w1" in artifact.out
    found = say("inspect", mlp[1], "--json", "--dim", "N=2").json
    assert found["artifact"]["source"]["kind"] == "onnx"
    assert found["summary"]["flops_at"] == {"N": 2}
    assert found["summary"]["flops_by_op"]["linear"] > 0


def test_inspect_says_what_is_not_supported(say, tmp_path: Path):
    onnx_mlp(tmp_path / "odd.onnx", "Relu")
    import onnx

    model = onnx.load("odd.onnx")
    model.graph.node[1].op_type, model.graph.node[1].domain = "Frobnicate", "com.example"
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    onnx.save(model, "odd.onnx")
    spoken = say("inspect", "odd.onnx")
    assert spoken.code == 1 and "Frobnicate" in spoken.out and "Gemm" in spoken.out
    counts = {row["operator"]: row["count"] for row in say("inspect", "odd.onnx", "--json").json["operators"]}
    assert counts["ai.onnx.Gemm"] == 2


def test_bench_times_the_artifact(say, mlp):
    found = say("bench", mlp[1], "--rounds", 2, "--seconds", 0.02, "--threads", 1, "--json").json
    assert found["threads"] == 1 and found["engines"]["maiac"]["runs"] >= 6


@pytest.mark.slow
def test_bench_takes_turns_with_other_engines(say, mlp):
    spoken = say("bench", mlp[1], "--vs", "ort", "--source", mlp[0], "--rounds", 2, "--seconds", 0.02)
    assert spoken.code == 0 and ("as fast" in spoken.out or "even" in spoken.out)
    refused(say("bench", mlp[1], "--vs", "eager", "--source", mlp[0]), "MAIA0711")


def test_bench_refuses_what_it_does_not_know(say, mlp):
    refused(say("bench", mlp[1], "--vs", "tensorrt"), "MAIA0706")
    refused(say("bench", mlp[1], "--vs", "ort"), "MAIA0706")


# **** reference ****


def test_explain(say):
    for text in ("MAIA0404", "maia404", "404", "0404"):
        assert "artifact is damaged" in say("explain", text).out
    refused(say("explain", "9999"), "MAIA0708")
    refused(say("explain", "nonsense"), "MAIA0708")
    listed = say("explain").out
    assert all(code in listed for code in CATALOGUE)
    assert set(say("explain", "--json").json) == set(CATALOGUE)
    assert say("explain", "404", "--json").json["area"] == "artifacts"


def test_targets(say):
    for name in ("host", "maia100", "maia200", "h100", "h200"):
        assert name in say("targets").out
    assert "5,072 TFLOP/s" in say("targets", "maia200").out
    assert say("targets", "maia100", "--json").json["rates"]["bf16"] == 800e12
    assert "maia200" in refused(say("targets", "maia201"), "MAIA0707")


def test_ops(say):
    assert "linear" in say("ops").out
    described = say("ops", "softmax").out
    assert "softmax" in described and "sharding" in described
    assert say("ops", "linear", "--json").json["signature"].startswith("x")
    assert set(say("ops", "--json").json) == set(maiac.ir.op_names())
    refused(say("ops", "lineal"), "MAIA0102")


def test_version(say):
    assert say("version", "--json").json["torch"] == torch.__version__
    assert maiac.__version__ in say("version").out
