"""torchvision's families, each by its smallest model, on small images: name -> builder of a Case.

Weights are random. Where a family takes its sizes as arguments, they are small, so that a model compiles in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from .zoo import Case, calibrate


def _image(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def _model(name: str, size: int, options: dict[str, Any]) -> Case:
    from torchvision import models

    return Case(models.get_model(name, **options), (_image(1, 3, size, size),))


def _video(name: str, frames: int, size: int) -> Case:
    from torchvision import models

    return Case(models.get_model(name), (_image(1, 3, frames, size, size),))


def _maxvit() -> Case:
    from torchvision.models import MaxVit

    model = MaxVit(
        input_size=(64, 64), stem_channels=16, partition_size=2, block_channels=[16, 32], block_layers=[1, 1],
        head_dim=8, stochastic_depth_prob=0.0,
    )  # fmt: skip
    return Case(model, (_image(1, 3, 64, 64),))


def _vit() -> Case:
    from torchvision.models import VisionTransformer

    model = VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=10
    )
    torch.nn.init.normal_(model.get_parameter("heads.head.weight"))  # untrained it is zero, and so would be all outputs
    return Case(model, (_image(1, 3, 32, 32),))


def _mvit(v2: bool) -> Case:
    """Three blocks: torchvision's builders fix 16 frames of 224 x 224, and the model takes no other sizes."""
    from torchvision.models.video.mvit import MSBlockConfig, MViT

    near, kernel = [1, 1, 1], [3, 3, 3]
    blocks = [
        MSBlockConfig(1, 16, 16, kernel_q=[], kernel_kv=kernel, stride_q=[], stride_kv=[1, 4, 4]),
        MSBlockConfig(2, 16, 32, kernel_q=kernel, kernel_kv=kernel, stride_q=[1, 2, 2], stride_kv=[1, 2, 2]),
        MSBlockConfig(2, 32, 32, kernel_q=kernel, kernel_kv=kernel, stride_q=near, stride_kv=near),
    ]
    model = MViT(
        (32, 32), 4, blocks, residual_pool=v2, residual_with_cls_embed=False, rel_pos_embed=v2, proj_after_attn=v2,
        num_classes=10,
    )  # fmt: skip
    return Case(model, (_image(1, 3, 4, 32, 32),))


def _flow(name: str, size: int, options: dict[str, Any]) -> Case:
    from torchvision import models

    images = (_image(1, 3, size, size), _image(1, 3, size, size).flip(-1))
    return Case(models.get_model(name, **options), images, {"num_flow_updates": 2})


def _detector(name: str, size: int, options: dict[str, Any]) -> Case:
    """A detector on a list of one image. Scores of untrained heads lie too close together to be put in order."""
    from torchvision import models

    model = models.get_model(name, weights=None, weights_backbone=None, num_classes=5, **options)
    calibrate(model, lambda: model.get_submodule("backbone")(_image(4, 3, size, size)))
    _spread(model, _SPREAD.get(name, 0.3))
    return Case(model, ([_image(3, size, size)],))


# With 0.3 its scores are all 1, and any of those may be the best 50; with this the closest are 4e-5 apart, 20 times
# what eager itself is off.
_SPREAD = {"ssdlite320_mobilenet_v3_large": 0.08}


def _spread(model: torch.nn.Module, std: float) -> None:
    """Make the last layers that score boxes large enough for scores that differ."""
    for name, weight in model.named_parameters():
        if name.endswith("weight") and any(part in name for part in ("classification_head", "cls_score", "cls_logits")):
            torch.nn.init.normal_(weight, std=std)


CLASSIFICATION = {
    "alexnet": 64,
    "convnext_tiny": 64,
    "densenet121": 64,
    "efficientnet_b0": 64,
    "efficientnet_v2_s": 64,
    "googlenet": 64,
    "inception_v3": 96,
    "mnasnet0_5": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "regnet_x_400mf": 64,
    "regnet_y_400mf": 64,
    "resnet18": 64,
    "resnet50": 64,
    "resnext50_32x4d": 64,
    "shufflenet_v2_x0_5": 64,
    "squeezenet1_0": 64,
    "squeezenet1_1": 64,
    "swin_t": 64,
    "swin_v2_t": 64,
    "vgg11": 64,
    "vgg11_bn": 64,
    "wide_resnet50_2": 64,
}
_UNINITIALIZED: dict[str, Any] = {
    "googlenet": {"init_weights": False},
    "inception_v3": {"init_weights": False},
}  # theirs takes seconds
SEGMENTATION = (
    "deeplabv3_mobilenet_v3_large",
    "deeplabv3_resnet50",
    "fcn_resnet50",
    "lraspp_mobilenet_v3_large",
)
_FEW: dict[str, Any] = {"rpn_pre_nms_top_n_test": 60, "rpn_post_nms_top_n_test": 30, "box_detections_per_img": 10}
_SMALL: dict[str, Any] = {"min_size": 64, "max_size": 96}
DETECTION: dict[str, tuple[int, dict[str, Any]]] = {
    "fasterrcnn_resnet50_fpn": (64, {**_FEW, **_SMALL}),
    "fasterrcnn_resnet50_fpn_v2": (64, {**_FEW, **_SMALL}),
    "fasterrcnn_mobilenet_v3_large_fpn": (64, {**_FEW, **_SMALL}),
    "fasterrcnn_mobilenet_v3_large_320_fpn": (64, {**_FEW, **_SMALL}),
    "maskrcnn_resnet50_fpn": (64, {**_FEW, **_SMALL}),
    "maskrcnn_resnet50_fpn_v2": (64, {**_FEW, **_SMALL}),
    "keypointrcnn_resnet50_fpn": (64, {**_FEW, **_SMALL}),
    "retinanet_resnet50_fpn": (64, {**_SMALL, "topk_candidates": 50}),
    "retinanet_resnet50_fpn_v2": (64, {**_SMALL, "topk_candidates": 50}),
    "fcos_resnet50_fpn": (64, {**_SMALL, "topk_candidates": 50}),
    "ssd300_vgg16": (300, {"topk_candidates": 50}),
    "ssdlite320_mobilenet_v3_large": (320, {"topk_candidates": 50}),
}
VIDEO = {"mc3_18": (4, 32), "r2plus1d_18": (4, 32), "r3d_18": (4, 32), "s3d": (16, 224), "swin3d_t": (4, 64)}
MODELS: dict[str, Callable[[], Case]] = {
    **{name: partial(_model, name, size, _UNINITIALIZED.get(name, {})) for name, size in CLASSIFICATION.items()},
    "maxvit": _maxvit,
    "vit": _vit,
    **{name: partial(_model, name, 64, {"weights_backbone": None}) for name in SEGMENTATION},
    **{name: partial(_detector, name, *options) for name, options in DETECTION.items()},
    **{name: partial(_video, name, *sizes) for name, sizes in VIDEO.items()},
    "mvit_v1": partial(_mvit, False),
    "mvit_v2": partial(_mvit, True),
    "raft_small": partial(_flow, "raft_small", 128, {}),
    "raft_large": partial(_flow, "raft_large", 128, {}),
}
