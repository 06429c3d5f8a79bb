"""Pseudo boxes follow the pixels through every transform of a pipeline."""

import json
import random

import mmcv
import numpy as np
import pytest
import torch
from mmcv.transforms import TRANSFORMS as MMCV_TRANSFORMS
from mmcv.transforms import Compose
from mmdet.datasets.transforms import Albu
from mmdet.registry import DATASETS, TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes, bbox_project

from mmgwap.datasets.transforms import without_boxes

from .helpers import coco, partial

LOAD = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='LoadAnnotations', with_bbox=True),
]
PACK = dict(type='PackDetInputs')
VIEW = dict(type='mmgwap.PackTeacherView')
GEOMETRY = dict(prob=1.0, level=5, img_border_value=0)

# Transforms that move pixels, as they are used in training.
MOVING = dict(
    AutoAugment=dict(policies=[[dict(type='Rotate', **GEOMETRY)]]),
    CenterCrop=dict(crop_size=(140, 160)),
    Expand=dict(ratio_range=(1.5, 2), prob=1.0),
    FixScaleResize=dict(scale=(320, 200), keep_ratio=True),
    FixShapeResize=dict(width=320, height=200, keep_ratio=True),
    MinIoURandomCrop=dict(min_ious=(0.1,), min_crop_size=0.5),
    RandAugment=dict(aug_space=[[dict(type='ShearX', **GEOMETRY)]], aug_num=1),
    RandomAffine=dict(max_rotate_degree=1, scaling_ratio_range=(0.7, 0.8)),
    RandomApply=dict(transforms=[dict(type='Resize', scale_factor=1.5)], prob=1.0),
    RandomCenterCropPad=dict(
        crop_size=(220, 160), mean=[0] * 3, std=[1] * 3, to_rgb=False, test_pad_mode=None
    ),
    RandomChoice=dict(transforms=[[dict(type='Resize', scale_factor=1.5)]]),
    RandomChoiceResize=dict(scales=[(300, 300)]),
    RandomCrop=dict(crop_size=(140, 180)),
    RandomFlip=dict(prob=1.0, direction='horizontal'),
    RandomFlip_GLIP=dict(prob=1.0),
    RandomOrder=dict(transforms=[dict(type='RandomFlip', prob=1.0, direction='vertical')]),
    RandomResize=dict(scale=(160, 120), ratio_range=(1.5, 2)),
    RandomShift=dict(prob=1.0, max_shift_px=32),
    Resize=dict(scale=(210, 300)),
    ResizeShortestEdge=dict(scale=200, max_size=500),
    Rotate=dict(**GEOMETRY),
    ShearX=dict(**GEOMETRY),
    ShearY=dict(**GEOMETRY),
    TranslateX=dict(**GEOMETRY),
    TranslateY=dict(**GEOMETRY),
)
# Transforms that may change colours or the border, with the arguments that they require.
STILL = dict(
    AutoContrast={},
    Brightness={},
    Color={},
    Contrast={},
    CutOut=dict(n_holes=1, cutout_shape=(9, 9)),
    Equalize={},
    FilterAnnotations=dict(min_gt_bbox_wh=(1, 1)),
    Invert={},
    Normalize=dict(mean=[0] * 3, std=[1] * 3),
    Pad=dict(size_divisor=64),
    PhotoMetricDistortion={},
    Posterize={},
    RandomErasing=dict(n_patches=1, ratio=0.05, img_border_value=0),
    RandomGrayscale=dict(prob=0.0),
    SegRescale={},
    Sharpness={},
    Solarize={},
    SolarizeAdd={},
    YOLOXHSVRandomAug={},
)
# Loading, packing, wrappers and base classes; transforms of other tasks.
OTHERS = set(
    """
    BaseFrameSample ColorTransform Compose Corrupt GTBoxSubOne_GLIP GeomTransform ImageAug
    ImageToTensor InferencerLoader InstaBoost KeyMapper LineDetDataProcessor LinesToArray
    LoadAnnotations
    LoadEmptyAnnotations LoadImageFromFile LoadImageFromNDArray LoadLineAnnotations
    LoadMultiChannelImageFromFiles LoadOneDLSegmentation LoadPanopticAnnotations LoadProposals
    LoadTextAnnotations LoadTrackAnnotations MultiBranch MultiScaleFlipAug PackDetInputs
    PackLineDetectionInputs PackReIDInputs PackTrackInputs ProposalBroadcaster
    RandomSamplingNegPos TestTimeAug ToTensor TransformBroadcaster Transpose
    UniformRefFrameSample WrapFieldsToLists
    """.split()
)
MIXING = {'CachedMixUp', 'CachedMosaic', 'CopyPaste', 'MixUp', 'Mosaic'}
UNRECORDED = {
    *('CenterCrop', 'Expand', 'MinIoURandomCrop', 'RandomAffine', 'RandomCenterCropPad'),
    'RandomShift',
}


def test_every_registered_transform_is_known():
    names = {*TRANSFORMS.module_dict, *MMCV_TRANSFORMS.module_dict}
    assert names <= {'Albu', *MOVING, *STILL, *MIXING, *OTHERS}


def make_image(size=(180, 220)):
    """Return results of a light rectangle on a dark image, with its box."""
    x1, y1, x2, y2 = box = [50, 60, 110, 100]
    pixels = np.full((*size, 3), 40, np.uint8)
    pixels[y1:y2, x1:x2] = 120
    return dict(
        img=pixels,
        img_shape=size,
        ori_shape=size,
        img_path='a.jpg',
        img_id=1,
        gt_bboxes=HorizontalBoxes(np.float32([box])),
        gt_bboxes_labels=np.array([0]),
        gt_ignore_flags=np.array([False]),
    )


def is_at(box, pixels):
    """Return whether the pixels with the colour of the centre of a box span it, within 3 px."""
    pixels = pixels.astype(float).mean(axis=-1)
    column, row = ((box[:2] + box[2:]) / 2).astype(int)
    if not (0 <= row < pixels.shape[0] and 0 <= column < pixels.shape[1]):
        return False
    same = np.abs(pixels - pixels[row, column]) < 0.25 * (pixels.max() - pixels.min())
    rows, columns = np.nonzero(same)
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return np.abs(found - box).max() < 3


def refuses(transform, **options):
    pipeline = Compose([VIEW, transform, dict(type='mmgwap.PackPartialInputs')])
    try:
        without_boxes(pipeline, 'label_pipeline', **options)
    except ValueError as error:
        assert 'in label_pipeline moves pixels' in str(error) and '\n' not in str(error)
        return True
    return False


@pytest.mark.parametrize('name', [*MOVING, *STILL])
def test_boxes_follow_the_pixels_or_the_transform_is_refused(name):
    """The pixels are the oracle: a projected box still encloses the rectangle, or misses it."""
    config = dict({**MOVING, **STILL}[name], type=name)
    before = make_image()
    start = before['gt_bboxes'].tensor.numpy().copy()
    assert is_at(start[0], before['img'])
    if name == 'CenterCrop':  # knows boxes in arrays only
        del before['gt_bboxes']
    if name == 'RandomCenterCropPad':
        before['img'] = before['img'].astype(np.float32)
    np.random.seed(1), random.seed(1)
    after = TRANSFORMS.build(config)(before)
    homography = after.get('homography_matrix')
    homography = np.eye(3, dtype=np.float32) if homography is None else homography
    box = bbox_project(start, homography.astype(np.float32))[0]
    follows = is_at(box, after['img'])
    assert follows == (name not in UNRECORDED)
    assert refuses(config) == (not follows)
    assert (name in MOVING) == (not is_at(start[0], after['img']))


@pytest.mark.parametrize(
    'config',
    [
        dict(type=mmcv.transforms.Resize, scale=(9, 9)),
        dict(type=mmcv.transforms.RandomFlip, prob=0.5),
        dict(type='RandomResize', scale=(9, 9), resize_type=mmcv.transforms.Resize),
        dict(type='RandomApply', transforms=[dict(type='RandomShift')]),
        dict(type='RandomChoice', transforms=[[PACK], [dict(type='RandomAffine')]]),
    ],
)
def test_refuse_other_forms(config):
    assert refuses(config)


def test_refuse_albumentations():
    # The package is optional.
    assert refuses(object.__new__(Albu))


def test_refuse_at_initialization(tmp_path):
    affine = dict(type='RandomAffine')
    results = tmp_path / 'results.json'
    results.write_text('[]')
    cfg = coco(tmp_path, pipeline=[*LOAD, affine, PACK])
    partial(cfg, percent=50)  # no box has to follow
    partial(cfg, percent=100, pseudo_boxes=str(results))  # nor here
    with pytest.raises(ValueError, match='RandomAffine of mmdet in the pipeline of the wrapped'):
        partial(cfg, percent=50, pseudo_boxes=str(results))
    for pipeline in ([affine, VIEW], [VIEW, affine]):
        with pytest.raises(ValueError, match='RandomAffine of mmdet in label_pipeline'):
            partial(cfg, percent=50, label_pipeline=[*LOAD, *pipeline, PACK])
    labels = dict(cfg, type='mmgwap.ImageLabelDataset', format='coco', unlabelled='negative')
    DATASETS.build(labels)
    with pytest.raises(ValueError, match='RandomAffine of mmdet in the pipeline of ImageLabel'):
        DATASETS.build(dict(labels, pseudo_boxes=str(results)))


WEAK = [dict(type='Resize', scale=(96, 90)), dict(type='RandomFlip', prob=0.5)]
STRONG = [
    dict(type='RandomResize', scale=(120, 120), ratio_range=(0.7, 1.4), keep_ratio=True),
    dict(type='RandomFlip', prob=1.0, direction=['horizontal', 'vertical', 'diagonal']),
]
CROP = dict(type='RandomCrop', crop_size=(0.6, 0.6), crop_type='relative')
ROTATE = dict(type='Rotate', prob=1.0, level=3)


@pytest.mark.parametrize(
    'boxes, strong',
    [
        # A crop that cuts the box.
        ([[0, 0, 64, 48], [2, 3, 40, 30]], [*STRONG, CROP]),
        # mmdet rotates what a crop has left of a box, so that this box has to stay inside.
        ([[28, 20, 37, 26]], [*STRONG, CROP, ROTATE]),
        ([[28, 20, 37, 26]], [ROTATE, *STRONG, CROP]),
    ],
)
def test_boxes_of_a_file_line_up_with_the_boxes_of_the_annotations(tmp_path, boxes, strong):
    """Oracle: mmdet's own boxes under the same random transforms."""
    cfg = coco(tmp_path, [[(box, 'dog') for box in boxes]] * 2)
    entries = json.loads((tmp_path / 'coco.json').read_text())['annotations']
    results = tmp_path / 'results.json'
    results.write_text(json.dumps([dict(entry, score=0.5) for entry in entries]))
    dataset = partial(
        cfg,
        percent=0,
        pseudo_boxes=str(results),
        label_pipeline=[*LOAD, *WEAK, VIEW, *strong, PACK],
    )
    weak, whole = (
        DATASETS.build(dict(cfg, pipeline=[*LOAD, *steps, PACK]))
        for steps in (WEAK, [*WEAK, *strong])
    )
    shapes = set()
    for seed in range(12):
        samples = []
        for each in (dataset, weak, whole):
            np.random.seed(seed), random.seed(seed)
            samples.append(each[seed % 2])
        found, at_view, at_end = samples
        assert torch.equal(found['inputs'], at_end['inputs'])
        sample = found['data_samples']
        view = sample.teacher_view
        assert torch.equal(view['inputs'], at_view['inputs'])
        for of, expected in ((sample, at_end), (view['data_samples'], at_view)):
            expected = expected['data_samples'].gt_instances
            boxes = bbox_project(sample.file_instances.bboxes, of.homography_matrix, of.img_shape)
            kept = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
            assert torch.allclose(boxes[kept], expected.bboxes.tensor, atol=1e-3)
            assert torch.equal(sample.file_instances.labels[kept], expected.labels)
        shapes.add(sample.img_shape)
    assert len(shapes) > 3
