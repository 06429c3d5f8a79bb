"""Cases of whole models with random weights: backbones, detectors and RoI heads.

Detectors share the ResNet's depth, the image and the number of proposals, all of which are
trained on.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Callable, Optional

import numpy as np
import torch
from case import Call, Case, Contender, Point, Target
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from operators import DTYPES, LAYOUTS, STRIDE, random_rois
from torch import nn

from mmgwap.engine.hooks import MeanTeacherHook
from mmgwap.structures import PartialDataSample

CONFIG_FOLDER = Path(__file__).resolve().parents[2] / 'configs'
RFCN, BRANCH = 'R-FCN', 'R-FCN with GWAP branch'
C4, FPN = 'Faster R-CNN C4', 'Faster R-CNN FPN'
CONFIGS = {
    RFCN: 'rfcn/rfcn_r50_8xb1-120k_coco.py',
    BRANCH: 'gwap/rfcn_r50_gwap_8xb2-120k_coco-p10.py',
    C4: 'mmdet::faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco.py',
    FPN: 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
}
BACKBONES = {'ResNet-50': 'mmdet.ResNet', 'LIP-ResNet-50': 'mmgwap.LIPResNet'}
# Batch and side of the images.
BACKBONE_SIZES = dict(cuda=(32, 224), cpu=(2, 224), tiny=(1, 32))
# Depth of the ResNet, (H, W) of the image, number of proposals.
DETECTORS = dict(cuda=(101, (600, 1000), 300), cpu=(50, (320, 512), 100), tiny=(50, (64, 96), 4))
BOXES_PER_IMAGE = 8
# Images of a training step with a teacher, half of them with labels only.
TEACHER_BATCH = dict(cuda=4, cpu=2, tiny=2)
# Channels and stride of the feature maps that the RoI heads begin with.
FEATURES = {RFCN: [(1024, 16)], C4: [(1024, 16)], FPN: [(256, 2**i) for i in range(2, 6)]}
# Short side of the image; numbers of RoIs and of classes where they do not grow.
HEAD_BASE = dict(cuda=(600, 300, 80), cpu=(300, 100, 80), tiny=(64, 3, 4))
HEAD_POINTS = dict(
    cuda=dict(RoIs=[100, 300, 1000, 3000, 10_000], classes=[20, 80, 300, 1000]),
    cpu=dict(RoIs=[100, 300, 1000], classes=[20, 200, 1000]),
    tiny=dict(RoIs=[2, 4], classes=[]),
)


def cases(size: str, device: torch.device) -> Iterator[Case]:
    """Yield the cases of models; ``size`` is 'cuda', 'cpu' or 'tiny'."""
    for dtype, layout in product(DTYPES[size], LAYOUTS):
        yield backbone_case(*BACKBONE_SIZES[size], dtype, layout, device)
    for step in (training_step, inference):
        yield detector_case(step, *DETECTORS[size], device)
    yield teacher_case(TEACHER_BATCH[size], *DETECTORS[size], device)
    for axis, values in HEAD_POINTS[size].items():
        for value in values:
            yield head_case(axis, value, *HEAD_BASE[size], device)


def backbone_case(
    batch: int, side: int, dtype: torch.dtype, layout: str, device: torch.device
) -> Case:
    """Return a case of a backbone's inference; bfloat16 by autocast."""

    def build(kind: str) -> Contender:
        model = MODELS.build(dict(type=kind, depth=50)).to(device, memory_format=LAYOUTS[layout])
        model.eval()  # mmdet's ResNet.eval() returns None
        images = torch.randn(batch, 3, side, side, device=device)
        images = images.to(memory_format=LAYOUTS[layout])

        @torch.no_grad()
        def run() -> None:
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                model(images)

        return Contender(run)

    builders = {name: partial(build, kind) for name, kind in BACKBONES.items()}
    targets = [Target('LIP-ResNet-50', 'time', 1.15, 'ResNet-50')] if device.type == 'cuda' else []
    title = f'{batch} x 3 x {side} x {side}, {str(dtype).split(".")[1]}, {layout}, inference'
    return Case('backbones', title, builders, targets)


def detector_case(
    step: type, depth: int, image_size: Sequence[int], proposals: int, device: torch.device
) -> Case:
    """Return a case of all detectors; ``step`` is ``training_step`` or ``inference``."""

    def build(name: str) -> Contender:
        model = MODELS.build(detector_config(name, depth, proposals))
        model.init_weights()
        model.to(device)
        inputs = model.data_preprocessor(random_batch(1, image_size), training=True)
        return Contender(step(model, **inputs))

    targets = [Target(RFCN, 'memory', 1.0, C4)]
    if device.type == 'cuda':
        targets.append(Target(RFCN, 'time', 1 / 2.5, C4))
        targets.append(Target(BRANCH, 'time', 1.03, RFCN))
    height, width = image_size
    title = f'ResNet-{depth}, {height} x {width}, {proposals} proposals, {step.__name__}'
    return Case('detectors', title, {name: partial(build, name) for name in CONFIGS}, targets)


def detector_config(name: str, depth: int, proposals: int) -> ConfigDict:
    """Return a detector's config that trains on all proposals."""
    config = load_model(name, depth)
    model = config.get('detector', config)
    for settings in (model.train_cfg.rpn_proposal, model.test_cfg.rpn):
        settings.update(nms_pre=6000, max_per_img=proposals)
    # A quota of positives would leave some proposals out.
    model.train_cfg.rcnn.sampler.update(num=proposals, pos_fraction=1.0)
    model.train_cfg.rcnn.assigner.update(neg_iou_thr=0.5)
    # Random weights score all boxes alike, so that the last NMS would dominate the time.
    model.test_cfg.rcnn.score_thr = 0.5
    return config


def teacher_case(
    batch: int, depth: int, image_size: Sequence[int], proposals: int, device: torch.device
) -> Case:
    """Return a case of training steps: a detector with boxes on all images, and on half of them.

    The memory includes the weights, of which a teacher has its own.
    """

    def build(name: str, teacher: bool) -> Contender:
        half = teacher or name == BRANCH
        config = detector_config(name, depth, proposals)
        model = MODELS.build(teacher_config(config) if teacher else config)
        model.init_weights()
        model.to(device)
        data = random_batch(batch, image_size, num_boxed=batch // 2 if half else batch)
        update = partial(MeanTeacherHook().momentum_update, model, 0.001) if teacher else None
        step = training_step(model, **model.data_preprocessor(data, True), update=update)
        return Contender(step, held_bytes=sum(p.nbytes for p in model.parameters()))

    builders = {name: partial(build, name, False) for name in (RFCN, BRANCH)}
    builders.update({f'teacher of {name}': partial(build, name, True) for name in (RFCN, BRANCH)})
    targets = [
        Target(f'teacher of {name}', quantity, limit, RFCN)
        for name in (RFCN, BRANCH)
        for quantity, limit in (('time', 2.0), ('memory', 1.5))
    ]
    height, width = image_size
    title = f'ResNet-{depth}, {batch} images of {height} x {width}, {proposals} proposals'
    return Case('teacher', title, builders, targets)


def load_model(name: str, depth: int = 50) -> ConfigDict:
    """Return a detector's config without pretrained weights."""
    path = CONFIGS[name]
    is_ours = not path.startswith('mmdet::')
    config = (Config.fromfile(CONFIG_FOLDER / path) if is_ours else get_config(path)).model
    model = config.get('detector', config)
    for part in (model.backbone, model.roi_head.get('shared_head', {})):
        part.update(depth=depth, init_cfg=None)
    return config


def random_batch(batch: int, image_size: Sequence[int], num_boxed: Optional[int] = None) -> dict:
    """Return images of noise with random boxes, all of one class; the last have labels only."""
    shapes, num_items = [(3, *image_size)] * batch, [BOXES_PER_IMAGE] * batch
    data = demo_mm_inputs(batch, shapes, num_items=num_items, num_classes=2)
    samples = data['data_samples']
    for i in range(batch if num_boxed is None else num_boxed, batch):
        samples[i] = without_boxes(data['inputs'][i], samples[i])
    return data


def without_boxes(image: torch.Tensor, sample: DetDataSample) -> PartialDataSample:
    """Return the sample of an image with labels only, and with the image as the teacher's view."""
    meta = dict(sample.metainfo, has_boxes=False, homography_matrix=np.eye(3, dtype=np.float32))
    packed = PartialDataSample(metainfo=meta)
    packed.gt_image_labels = sample.gt_instances.labels.unique()
    packed.ignored_image_labels = packed.gt_image_labels[:0]
    packed.set_data(dict(teacher_view=dict(inputs=image, data_samples=packed.clone())))
    return packed


def teacher_config(detector: ConfigDict) -> ConfigDict:
    """Return the config of a teacher that finds as many pseudo boxes as there are boxes.

    Random weights score all boxes alike. So every box of a present class passes, and the best
    boxes of an image become the pseudo boxes.
    """
    detector.get('detector', detector).test_cfg.rcnn.update(
        score_thr=0.0, max_per_img=BOXES_PER_IMAGE
    )
    return ConfigDict(type='mmgwap.LabelGuidedTeacher', detector=detector, thresholds=(0.0, 0.0))


def training_step(
    model: nn.Module,
    inputs: torch.Tensor,
    data_samples: Sequence[DetDataSample],
    update: Optional[Callable] = None,
) -> Call:
    """Return forward pass, backward pass and an SGD step with learning rate 0, then ``update``."""
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.0)

    def run() -> None:
        losses = model.loss(inputs, [sample.clone() for sample in data_samples])
        model.parse_losses(losses)[0].backward()
        optimizer.step()
        if update is not None:
            update()
        optimizer.zero_grad()  # at the end, so that the peak memory contains the gradients

    return run


def inference(
    model: nn.Module, inputs: torch.Tensor, data_samples: Sequence[DetDataSample]
) -> Call:
    """Return the prediction of boxes."""
    model.eval()

    @torch.no_grad()
    def run() -> None:
        model.predict(inputs, [sample.clone() for sample in data_samples], rescale=False)

    return run


def head_case(
    axis: str, value: int, side: int, num_rois: int, num_classes: int, device: torch.device
) -> Case:
    """Return a growth point of the RoI heads, from the backbone's features to the scores.

    The C4 head runs res5 on each RoI, R-FCN runs res5 once on the image: both are measured
    with res5. The FPN's neck is not part of its head.
    """
    fixed = f'{num_rois} RoIs' if axis == 'classes' else f'{num_classes} classes'
    num_rois, num_classes = (value, num_classes) if axis == 'RoIs' else (num_rois, value)
    sizes = side, num_rois, num_classes, device
    builders = {name: partial(roi_head, name, *sizes) for name in (RFCN, C4, FPN)}
    series = f'RoI heads over {axis}, {fixed}, image of {side} x {side * 5 // 3}'
    title = f'RoI heads over {axis}, {value}'
    return Case('growth', title, builders, point=Point(series, axis, value))


def roi_head(
    name: str, side: int, num_rois: int, num_classes: int, device: torch.device
) -> Contender:
    """Build res5 and the RoI head, and return their inference on features of noise."""
    config = load_model(name)
    config.roi_head.bbox_head.num_classes = num_classes
    head = MODELS.build(dict(config.roi_head, train_cfg=None, test_cfg=config.test_cfg.rcnn))
    head.to(device).eval()
    features = [
        torch.randn(1, channels, -(-side // stride), -(-side * 5 // 3 // stride), device=device)
        for channels, stride in FEATURES[name]
    ]
    rois = random_rois(num_rois, 1, (side // STRIDE, side * 5 // 3 // STRIDE)).to(device)
    if name == RFCN:
        res5 = MODELS.build(config.backbone).layer4.to(device).eval()

    @torch.no_grad()
    def run() -> None:
        maps = head.bbox_head(res5(features[0])) if name == RFCN else features
        head._bbox_forward(maps, rois)

    return Contender(run)
