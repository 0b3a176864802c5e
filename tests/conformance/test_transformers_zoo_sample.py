"""A fixed sample of transformers' architectures; the whole zoo, counted; and how its check finds what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.models.zoo import Case as Model

from .closeness import FACTOR
from .suite import RefusedError, run_case, summary
from .transformers_zoo import ENTRIES, cases
from .zoo_check import check_export, check_onnx, compare, difference, shaken, takes, to_onnx

# Two of a kind: text, experts and scans, images, sound and two towers.
SAMPLE = ["Qwen2", "Bloom", "Mamba", "MPNet", "ResNet", "Segformer", "Wav2Vec2", "CLIP"]
FILES = ["OPT", "ViT"]
LEAST = 60


@pytest.mark.parametrize(
    ("group", "name"), [*(("export", name) for name in SAMPLE), *(("onnx", name) for name in FILES)]
)
def test_an_architecture_of_the_sample_passes(group: str, name: str):
    case = next(c for c in cases() if (c.group, c.name) == (group, name))
    outcome = run_case(case, limit=600)
    assert outcome.status == "pass", outcome.reason


@pytest.mark.slow
@pytest.mark.parametrize("group", ["export", "onnx"])
def test_the_zoo_passes(group: str):
    outcomes = [run_case(case, limit=180) for case in cases() if case.group == group]
    failed = [f"{o.name}: {o.reason}" for o in outcomes if o.status == "fail"]
    assert not failed, "\n".join(failed)
    assert sum(o.status == "pass" for o in outcomes) >= LEAST, summary(outcomes)


def test_each_architecture_has_both_cases():
    assert [c.name for c in cases()] == [*ENTRIES, *ENTRIES]


# **** the check ****


def linear(dims: int = 4) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Model(torch.nn.Linear(dims, 3), (torch.randn(2, dims),))


def test_a_wrong_result_is_found():
    case = linear()
    compare(case, lambda call: case.model(*call[0]))
    with pytest.raises(AssertionError, match="output 0: off by 1"):
        compare(case, lambda call: case.model(*call[0]) + 1)
    with pytest.raises(AssertionError, match="2 outputs, eager gives 1"):
        compare(case, lambda call: [case.model(*call[0])] * 2)


def test_where_eager_is_off_we_may_be_off_too_by_a_factor():
    truth = torch.ones(4, dtype=torch.float64)
    want = torch.full((4,), 1 + 1e-2)
    assert not difference(want - 0.02, want, truth)
    assert "off by" in difference(1 + (want - 1) * (FACTOR + 1), want, truth)
    assert difference(want - 0.02, want, None)


def test_where_float64_chooses_others_the_largest_sets_the_scale():
    want, truth = torch.tensor([640.0, 1.0]), torch.ones(3, dtype=torch.float64)
    off = torch.tensor([0.0, 1e-3])
    assert not difference(want + off, want, truth)
    assert difference(want + 10 * off, want, truth)
    assert difference(want + off, want, want.double())


def test_weights_that_begin_alike_do_not_stay_so():
    state = shaken(torch.nn.BatchNorm1d(8)).state_dict()
    assert all(len(set(v.tolist())) == 8 for v in state.values() if v.is_floating_point())


class _Branch(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x


def test_what_export_cannot_express_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)  # a fault leaves a reproducer
    with pytest.raises(RefusedError, match=r"torch\.export: .*data-dependent"):
        check_export(Model(_Branch(), (torch.ones(3),)))


class _Pairs(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, 2) if x.shape[0] == 4 else x[:0]


def test_a_size_that_cannot_be_dynamic_is_the_example_s():
    dims = ({0: torch.export.Dim("N", min=2, max=8)},)
    check_export(Model(_Pairs(), (torch.ones(4),), {}, dims, lambda n: ((torch.ones(n),), {}), (5,)))


class _Ones(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.squeeze(0)


def test_a_size_of_one_is_not_asked_of_what_leaves_it_out():
    dims = ({0: torch.export.Dim("N", min=1, max=8)},)
    check_export(Model(_Ones(), (torch.ones(4),), {}, dims, lambda n: ((torch.ones(n),), {}), (1, 5)))


def test_a_file_is_asked_for_sizes_that_it_says_it_takes(tmp_path: Path):
    dims = ({0: torch.export.Dim("N", min=1, max=8)},)
    case, path = Model(torch.nn.Linear(4, 3), (torch.randn(2, 4),), {}, dims), tmp_path / "model.onnx"
    to_onnx(case, path)
    assert takes(path, ((torch.ones(5, 4),), {}))
    assert not takes(path, ((torch.ones(2, 5),), {}))


class _Tiny(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / (x + 1e-15)  # the exporter leaves the sum out


class _NoSqueeze(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.squeeze(1)  # the exporter squeezes a dim that is not 1


@pytest.mark.parametrize(
    ("model", "reason"), [(_Tiny(), "not eager's under ONNX Runtime"), (_NoSqueeze(), "ONNX Runtime, too, refuses")]
)
def test_a_file_that_is_wrong_is_the_exporter_s_fault(
    model: torch.nn.Module, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RefusedError, match=reason):
        check_onnx(Model(model, (torch.zeros(2, 3),)))


class _Less(torch.nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x - y


def test_keywords_in_any_order_reach_the_inputs_of_torchscript_s_file():
    check_onnx(Model(_Less(), (), {"y": torch.ones(2), "x": torch.zeros(2)}), dynamo=False)
