"""A fixed sample of the vision models, of every library and both ways; and the whole zoo, counted."""

from __future__ import annotations

import pytest

from .suite import run_case, summary
from .vision_zoo import cases, libraries

SAMPLE = [
    ("torchvision export", "mobilenet_v3_small"),
    ("torchvision export", "vit"),
    ("torchvision onnx", "squeezenet1_1"),
    ("diffusers export", "SD3Transformer2DModel"),
    ("diffusers export", "AutoencoderTiny"),
    ("diffusers onnx", "DiTTransformer2DModel"),
    ("ultralytics export", "yolov8n nms"),
    ("ultralytics onnx", "yolov3-tiny"),
]
GROUPS = [f"{library} {way}" for library in ("torchvision", "diffusers", "ultralytics") for way in ("export", "onnx")]


@pytest.mark.parametrize(("group", "name"), SAMPLE)
def test_a_model_of_the_sample_passes(group: str, name: str):
    case = next(c for c in cases() if (c.group, c.name) == (group, name))
    outcome = run_case(case, limit=300)
    assert outcome.status == "pass", outcome.reason


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_no_model_fails(group: str):
    outcomes = [run_case(case, limit=300) for case in cases() if case.group == group]
    failed = [f"{o.name}: {o.reason}" for o in outcomes if o.status == "fail"]
    assert not failed, "\n".join(failed)
    assert any(o.status == "pass" for o in outcomes), summary(outcomes)


def test_each_model_has_both_cases():
    for library, module in libraries().items():
        for way in ("export", "onnx"):
            assert [c.name for c in cases() if c.group == f"{library} {way}"] == list(module.MODELS)
