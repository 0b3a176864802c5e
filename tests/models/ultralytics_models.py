"""ultralytics' YOLOs from the smallest scale of each yaml, and YOLO with NMS in its graph: name -> builder.

Weights are random, and nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from .zoo import Case, calibrate

DETECT = (
    "yolov3-tiny", "yolov5n", "yolov5n-p6", "yolov6n", "yolov8n", "yolov8n-p2", "yolov8n-ghost", "yolov9t", "yolov9c",
    "yolov10n", "yolo11n", "yolo12n", "yolo26n", "yolo26n-p2",
)  # fmt: skip
TASKS = {
    "SegmentationModel": ("yolov8n-seg", "yolov9c-seg", "yolo11n-seg", "yolo12n-seg", "yolo26n-seg"),
    "PoseModel": ("yolov8n-pose", "yolo11n-pose", "yolo12n-pose", "yolo26n-pose"),
    "OBBModel": ("yolov8n-obb", "yolo11n-obb", "yolo12n-obb", "yolo26n-obb"),
    "ClassificationModel": ("yolov8n-cls", "yolo11n-cls", "yolo12n-cls", "yolo26n-cls"),
    "SemanticSegmentationModel": ("yolo26n-sem",),
    "DepthModel": ("yolo26n-depth",),
    "WorldModel": ("yolov8s-world", "yolov8s-worldv2"),
    "YOLOEModel": ("yoloe-v8s", "yoloe-11s", "yoloe-26n"),
    "YOLOESegModel": ("yoloe-v8s-seg", "yoloe-11s-seg", "yoloe-26n-seg"),
    "RTDETRDetectionModel": ("rtdetr-l", "rtdetr-resnet50", "yolov8n-rtdetr"),
}
SUPPRESSED = ("yolov8n", "yolo11n", "yolo12n")


class Suppressed(torch.nn.Module):
    """A detector with its suppression of overlapping boxes: image[1 3 h w] -> boxes[n 4], scores[n], classes[n]."""

    def __init__(self, model: torch.nn.Module, score: float, iou: float) -> None:
        super().__init__()
        self.model = model
        self.score = score
        self.iou = iou

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Boxes as two corners, the best first; boxes of two classes never overlap."""
        from torchvision.ops import nms

        found = self.model(image)[0][0].T
        middle, size, scores = found[:, :2], found[:, 2:4], found[:, 4:]
        best, classes = scores.max(1)
        likely = best > self.score
        boxes = torch.cat((middle - size / 2, middle + size / 2), 1)[likely]
        best, classes = best[likely], classes[likely]
        apart = classes[:, None] * 1000.0
        kept = nms(boxes + apart, best, self.iou)
        return boxes[kept], best[kept], classes[kept]


def _image(size: int) -> torch.Tensor:
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1))


def _model(name: str, task: str, size: int = 64) -> Case:
    from ultralytics.nn import tasks

    image = _image(size)
    model = getattr(tasks, task)(f"{name}.yaml", verbose=False).eval()
    with torch.no_grad():
        model(image)  # it keeps its anchors from the first call, which an exporter must not see
    return Case(model, (image,))


def _suppressed(name: str) -> Case:
    case = _model(name, "DetectionModel")
    return Case(Suppressed(_confident(case.model), 0.3, 0.5), case.args)


def _confident(model: torch.nn.Module) -> torch.nn.Module:
    """Let an untrained detector find something: features of order 1, and scores far enough apart to be put in order."""
    calibrate(model, lambda: model(torch.rand(8, 3, 128, 128)))
    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d) and layer.out_channels == 80 and layer.bias is not None:
            torch.nn.init.normal_(layer.weight, std=0.3)
            torch.nn.init.constant_(layer.bias, -4.0)
    return model


MODELS: dict[str, Callable[[], Case]] = {
    **{name: partial(_model, name, "DetectionModel") for name in DETECT},
    **{
        name: partial(_model, name, task, 128 if task.startswith("RT") else 64)
        for task, names in TASKS.items()
        for name in names
    },
    **{f"{name} nms": partial(_suppressed, name) for name in SUPPRESSED},
}
