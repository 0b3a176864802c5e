"""Hugging Face folders: mapped weights, example inputs, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from maiac.frontends.exported import capture
from maiac.frontends.huggingface import load_folder, mapped_tensors
from maiac.ir.errors import MaiaError
from maiac.runtime.executor import Executor
from tests.models.zoo import llama_config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    LlamaForCausalLM(llama_config(2)).save_pretrained(tmp_path)
    return tmp_path


def mappings(path: Path) -> list[tuple[int, int]]:
    """Where files of a folder are mapped into this process."""
    rows = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    found = [row[0].split("-") for row in rows if len(row) > 5 and row[5].startswith(str(path))]
    return [(int(low, 16), int(high, 16)) for low, high in found]


def fails(code: str, path: Path, **options: Any) -> MaiaError:
    with pytest.raises(MaiaError) as caught:
        load_folder(path, **options)
    assert caught.value.code == code
    return caught.value


def test_weights_stay_in_their_file_and_logits_equal_eager(folder: Path) -> None:
    from transformers import LlamaForCausalLM

    model, args, kwargs, shapes = load_folder(folder)
    module = capture(model, args, kwargs, dynamic_shapes=shapes)
    assert [s.name for s in module.symbols.values()] == ["T"]
    spans = mappings(folder)
    for weight in module.weights.values():
        assert weight.data is not None
        at = weight.data.load().data_ptr()
        if weight.name != "model.rotary_emb.inv_freq":  # computed, not stored
            assert any(low <= at < high for low, high in spans), weight.name
    want: Any = LlamaForCausalLM.from_pretrained(folder)
    ids = torch.randint(0, 128, (1, 9))
    torch.testing.assert_close(Executor(module).run([ids])[0], want(ids).logits.detach(), rtol=1e-4, atol=1e-5)


def test_reading_weights_draws_no_bar(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    load_folder(folder)
    assert "Loading weights" not in capfd.readouterr().err and logging.is_progress_bar_enabled()


def test_weights_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_: Path) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("maiac.frontends.huggingface.read_header", forbidden)
    assert "model.safetensors: Permission denied" in fails("MAIA0701", folder).message


def test_a_transformers_that_does_not_import(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoConfig

    def broken(*_: Any, **__: Any) -> Any:
        raise ModuleNotFoundError("Could not import module 'LlamaConfig'") from RuntimeError("operator nms is missing")

    monkeypatch.setattr(AutoConfig, "from_pretrained", broken)
    assert "operator nms is missing" in fails("MAIA0704", folder).message


def test_sharded_files_are_read_through_their_index(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {"a.safetensors": names[:5], "b.safetensors": names[5:]}
    for file, part in parts.items():
        save_file({n: tensors[n] for n in part}, folder / file)
    (folder / "model.safetensors").unlink()
    table = {n: file for file, part in parts.items() for n in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
    found = mapped_tensors(folder)
    assert sorted(found) == names
    assert torch.equal(found[names[7]].load(), tensors[names[7]])
    (folder / "b.safetensors").unlink()
    assert fails("MAIA0208", folder).details == ("b.safetensors",)


def test_an_encoder_takes_a_mask(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, vocab_size=64)
    BertModel(config).save_pretrained(tmp_path)
    _, args, kwargs, shapes = load_folder(tmp_path)
    assert args == ()
    assert list(kwargs) == list(shapes) == ["input_ids", "attention_mask"]


def test_random_weights_need_no_files(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "holds no *.safetensors" in str(fails("MAIA0208", folder))
    (folder / "pytorch_model.bin").write_bytes(b"")
    assert "pytorch_model.bin" in fails("MAIA0208", folder).hint
    model, *_ = load_folder(folder, random_weights=True)
    assert not any(p.is_meta for p in model.parameters())


def test_a_folder_without_config_is_reported(tmp_path: Path) -> None:
    fails("MAIA0208", tmp_path)


def test_a_damaged_index_is_reported(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text("{}")
    fails("MAIA0208", folder)


def test_missing_and_misshapen_tensors_are_reported(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    less = {n: t for n, t in tensors.items() if n != "model.norm.weight"}
    save_file(less, folder / "model.safetensors")
    assert fails("MAIA0210", folder).details == ("model.norm.weight",)
    save_file({**less, "model.norm.weight": torch.ones(3)}, folder / "model.safetensors")
    fails("MAIA0210", folder)


@pytest.mark.parametrize("change", [{"model_type": "nothing"}, {"architectures": ["NoSuchModel"]}])
def test_unknown_architectures_are_reported(folder: Path, change: dict[str, Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    fails("MAIA0212", folder)
