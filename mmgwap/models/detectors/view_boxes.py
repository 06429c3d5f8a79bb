"""Boxes in pixels of the image file and in pixels of a view."""

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_project
from mmengine.structures import InstanceData
from torch import Tensor, nn


def keep_shapes(_: nn.Module, args: tuple, kwargs: dict) -> None:
    """Keep the shapes of the packed images, which batch augmentations change."""
    data = args[0] if args else kwargs['data']
    for sample in data.get('data_samples') or ():
        sample.set_metainfo(dict(packed_shape=sample.img_shape))


def to_file(boxes: InstanceData, sample: DetDataSample) -> InstanceData:
    """Project detections from a view to the image file.

    Args:
        boxes (InstanceData): bboxes (N, 4) in pixels of the view, labels and scores.
        sample: data sample of the view, with ``homography_matrix``.
    """
    bboxes = _project(boxes.bboxes, torch.linalg.inv(_homography(sample)), sample.ori_shape)
    return InstanceData(bboxes=bboxes, labels=boxes.labels, scores=boxes.scores.float())


def to_view(boxes: InstanceData, sample: DetDataSample) -> InstanceData:
    """Project boxes from the image file to a view; boxes outside of the view are dropped."""
    bboxes = _project(boxes.bboxes, _homography(sample), sample.img_shape)
    width, height = (bboxes[:, 2:] - bboxes[:, :2]).unbind(dim=1)
    inside = (width > 1) & (height > 1)
    return InstanceData(bboxes=bboxes[inside], labels=boxes.labels[inside])


def _homography(sample: DetDataSample) -> Tensor:
    """Return the matrix (3, 3) from pixels of the image file to pixels of the view."""
    height, width = sample.img_shape[:2]
    packed_height, packed_width = sample.get('packed_shape', sample.img_shape)[:2]
    resize = torch.tensor([[width / packed_width], [height / packed_height], [1.0]])
    return torch.as_tensor(sample.homography_matrix) * resize


def _project(bboxes: Tensor, homography: Tensor, shape: tuple) -> Tensor:
    # Autocast would round the coordinates to half precision.
    with torch.autocast(bboxes.device.type, enabled=False):
        bboxes = bboxes.float()
        return bbox_project(bboxes, homography.to(bboxes), shape)
