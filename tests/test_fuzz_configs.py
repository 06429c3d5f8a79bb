"""Wrong values of each argument in a config: refused by name, or used.

Every class that mmgwap registers is built from a config that is right, in
which one argument after the other gets each of ``VALUES``; then it is used.  What is
not among the values that ``LEGAL`` allows has to be refused, in one line that
names the class or the argument.  Arguments of mmdet and mmengine are theirs.
"""

import inspect
import json
import math

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.dataset import DefaultSampler
from mmengine.structures import InstanceData

from mmgwap.registry import DATA_SAMPLERS, DATASETS, METRICS, MODELS, TASK_UTILS, TRANSFORMS
from tests.toy_data import tiny_rfcn

from .datasets.test_annotation_files import coco, load_voc
from .datasets.test_checked import CLASSES, PIPELINE, write_images
from .datasets.test_wsol_metadata import FILES

register_all_modules()
VALUES = [
    None,
    True,
    False,
    'junk',
    '',
    '2',
    '0.5',
    'False',
    -1,
    0,
    1,
    2,
    7,
    0.5,
    1.0,
    2.0,
    math.nan,
    math.inf,
    10**30,
    [],
    [1],
    [0, 1],
    [True],
    [0.5, 0.5],
    ['junk'],
    {},
    dict(type='Junk'),
    dict(junk=1),
]
# Errors that say what is wrong, as does one with a path that was given.
NAMED = ('Junk', 'channels', 'of the 1 classes', '%')
# What the host does with these is its own.
HOST = {
    'self',
    'init_cfg',
    'train_cfg',
    'data_preprocessor',
    'collect_device',
    'prefix',
    'context',
    'sampler',
    'args',
    'kwargs',
    'windows',
}
# They have no arguments of their own, or tests/tools tries them out.
NO_ARGUMENTS = {
    'RFCN',
    'RFCNRoIHead',
    'MultiTaskTTAModel',
    'DropDegenerateBoxes',
    'PackPartialInputs',
    'CheckedVOCDataset',
    'UnannotatedVOCDataset',
    'CocoSubmissionMetric',
    'VOCSubmissionMetric',
}


def whole(least, most=10**6):
    return lambda value: type(value) is int and least <= value <= most


def number(least, most):
    return lambda value: type(value) in (int, float) and least <= value <= most


def flag(value):
    return type(value) is bool


def none(value):
    return value is None


def never(value):
    return False


LEGAL = {
    'ImageClsHead.num_classes': whole(2),
    'ImageClsHead.in_index': whole(-1, 0),
    'num_convs': whole(0),
    'ImageClsHead.feat_channels': whole(1),
    'norm_cfg': none,
    'multi_label': flag,
    'loss': none,
    'in_channels': lambda value: value is None or whole(1)(value),
    'ClassAgnosticGWAP.in_channels': whole(8, 8),
    'ImageClsHead.in_channels': whole(8, 8),
    'RFCNBBoxHead.in_channels': whole(8, 8),
    'LIPDenseNet.in_channels': whole(3, 3),
    'LIPDenseNet.norm_cfg': never,
    'GoogLeNet.norm_cfg': never,
    'r': number(1e-6, 10**6),
    'frozen_stages': whole(-1, 2),
    'out_indices': lambda value: (
        value in ([1], [0, 1]) and True not in [type(place) is bool for place in value]
    ),
    'norm_eval': flag,
    'with_bn': flag,
    'with_cp': flag,
    'output_size': whole(1, 100),
    'PSRoIExtractor.output_size': whole(1, 1),
    'featmap_stride': number(1, 10**6),
    'sampling_ratio': whole(1, 100),
    'RFCNBBoxHead.feat_channels': whole(0),
    'reg_class_agnostic': flag,
    'num': whole(1),
    'add_gt_as_proposals': flag,
    'test_cfg': lambda value: value in (None, {}),
    'neck': none,
    'rescore': number(0, 1),
    'with_maps': flag,
    'topk': whole(1),
    'score_thr': number(0, 1),
    'box_threshold': number(0, 0.999),
    'CheckedCocoDataset.max_boxes_per_image': whole(2, 10**31),
    'max_boxes_per_image': whole(1, 10**31),
    'names': lambda value: value in (None, {}),
    'complete': flag,
    'check_files': flag,
    'seed': whole(0),
    'boxes_only': flag,
    'lazy_init': flag,
    'label_pipeline': none,
    # One of them alone; and of two images 1 % are none.
    'percent': none,
    'PartialBoxDataset, percent.percent': number(0, 0),
    'split_file': none,
    'PartialBoxDataset, split.split_file': never,
    'flag': none,
    'PartialBoxDataset, flag.flag': never,
    'boxed': whole(1, 2),
    'batch_size': whole(2, 2),
    'mask_root': lambda value: type(value) is str,
    'size': lambda value: value is None,
    'interval': number(0.00001, 0.999),
    'iou_thresholds': lambda value: value in ([1], [0.5, 0.5]) and type(value[0]) is not bool,
    'classwise': flag,
}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """Annotations of two images of 64 x 48, in all layouts."""
    folder = tmp_path_factory.mktemp('configs')
    load_voc(folder)
    write_images(folder / 'img', 9)
    content = coco()
    for image in content['images']:
        image['has_boxes'] = 1
    (folder / 'coco.json').write_text(json.dumps(content))
    (folder / 'labels.csv').write_text('image,label\n7.jpg,cat\n8.jpg,dog\n')
    (folder / 'split.txt').write_text('7\n')
    (folder / 'meta').mkdir()
    for name, text in FILES.items():
        (folder / 'meta' / name).write_text(text)
    (folder / 'meta' / 'masks.txt').unlink()
    for name in ('a/1.jpg', 'b/2.jpg'):
        (folder / 'img' / name).parent.mkdir()
        (folder / 'img' / name).write_bytes((folder / 'img' / '0.jpg').read_bytes())
    return folder


def sample():
    one = DetDataSample(
        metainfo=dict(
            img_shape=(64, 64),
            ori_shape=(64, 64),
            scale_factor=(1.0, 1.0),
            batch_input_shape=(64, 64),
            pad_shape=(64, 64),
            img_path='x.jpg',
        )
    )
    one.gt_instances = InstanceData(
        bboxes=torch.tensor([[4.0, 4, 30, 40]]), labels=torch.tensor([1])
    )
    one.ignored_instances = InstanceData(
        bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)
    )
    return one


def use_head(head):
    feats = [torch.rand(2, 8, 4, 4)]
    head.loss(feats, [sample(), sample()])
    head.predict(feats, True)


def use_pool(pool):
    assert torch.isfinite(pool(torch.rand(2, 8, 4, 4))[0]).all()


def use_net(net):
    with torch.no_grad():
        net.train()
        net(torch.rand(2, 3, 64, 64))


def use_extractor(extractor):
    extractor(torch.rand(1, 2 * 9, 8, 8), torch.tensor([[0, 0, 0, 40.0, 40]]))


def use_detector(detector):
    detector.loss(torch.rand(1, 3, 64, 64), [sample()])
    with torch.no_grad():
        detector.eval().predict(torch.rand(1, 3, 64, 64), [sample()])


def use_data(dataset):
    dataset.full_init()
    for i in range(len(dataset)):
        dataset[i]


HEAD = dict(num_classes=4, in_channels=8)
LAST = dict(HEAD, type='mmgwap.ImageClsHead', in_channels=64)
TINY = tiny_rfcn()
MODEL_CASES = dict(
    ImageClsHead=(HEAD, use_head),
    GlobalAvgPool=({}, use_pool),
    GlobalMaxPool=({}, use_pool),
    LogSumExpPool=({}, use_pool),
    ClassSpecificGWAP=({}, use_pool),
    ClassAgnosticGWAP=(dict(in_channels=8), use_pool),
    AlexNet=({}, use_net),
    GoogLeNet=({}, use_net),
    VGG=(dict(depth=11), use_net),
    LIPResNet=(dict(depth=18, base_channels=8), use_net),
    LIPDenseNet=(dict(depth=121), use_net),
    PSRoIExtractor=(dict(output_size=3), use_extractor),
    RFCNBBoxHead=(
        dict(HEAD, feat_channels=4, output_size=3),
        lambda head: head(torch.rand(1, 8, 4, 4)),
    ),
    MultiTaskDetector=(
        dict(detector=TINY, cls_head=LAST, test_cfg=dict(rescore=0.3, with_maps=True)),
        use_detector,
    ),
    ImageClassifier=(
        dict(
            backbone=TINY.backbone,
            cls_head=dict(LAST, multi_label=False),
            data_preprocessor=TINY.data_preprocessor,
            test_cfg=dict(
                topk=2, score_thr=0.0, box_threshold=0.2, with_maps=True, boxes='largest'
            ),
        ),
        use_detector,
    ),
)


def other_cases(root):
    common = dict(
        data_root=str(root),
        metainfo=CLASSES,
        pipeline=PIPELINE,
        serialize_data=False,
        max_refetch=3,
    )
    images = dict(common, data_prefix=dict(img='img/'))
    boxes = dict(images, ann_file='coco.json')
    part = dict(dataset=dict(boxes, type='mmgwap.CheckedCocoDataset'))
    return {
        'CheckedCocoDataset': (DATASETS, boxes, use_data),
        'CheckedXMLDataset': (
            DATASETS,
            dict(common, ann_file='voc.txt', data_prefix=dict(sub_data_root='')),
            use_data,
        ),
        'ImageLabelDataset': (
            DATASETS,
            dict(images, ann_file='labels.csv', format='csv'),
            use_data,
        ),
        'WSOLDataset': (
            DATASETS,
            dict(
                data_root=str(root),
                data_prefix=dict(img='img/'),
                metadata_root='meta',
                pipeline=PIPELINE,
            ),
            use_data,
        ),
        'PartialBoxDataset, percent': (DATASETS, dict(part, percent=100), use_data),
        'PartialBoxDataset, split': (
            DATASETS,
            dict(part, split_file=str(root / 'split.txt')),
            use_data,
        ),
        'PartialBoxDataset, flag': (DATASETS, dict(part, flag='has_boxes'), use_data),
        'PartialBoxBatchSampler': (
            DATA_SAMPLERS,
            dict(sampler=DefaultSampler(_Part()), batch_size=3, boxed=1),
            list,
        ),
        'WSOLMetric': (METRICS, dict(metadata_root=str(root / 'meta')), None),
        'MultiLabelMetric': (METRICS, {}, None),
        'RFCNOHEMSampler': (TASK_UTILS, dict(num=16, context=None), None),
    }


class _Part:
    boxed = np.arange(8) < 4

    def __len__(self):
        return 8


OTHERS = [
    'CheckedCocoDataset',
    'CheckedXMLDataset',
    'ImageLabelDataset',
    'WSOLDataset',
    'PartialBoxDataset, percent',
    'PartialBoxDataset, split',
    'PartialBoxDataset, flag',
    'PartialBoxBatchSampler',
    'WSOLMetric',
    'MultiLabelMetric',
    'RFCNOHEMSampler',
]


def arguments_of(kind):
    """Names of those that classes of this package have."""
    return {
        name
        for one in kind.__mro__
        if '__init__' in vars(one) and one.__module__.startswith('mmgwap')
        for name in inspect.signature(one.__init__).parameters
    } - HOST


def same(left, right):
    return type(left) is type(right) and repr(left) == repr(right)


def try_values(registry, name, cfg, use, nested=None):
    """Give each argument each value; what should not be is collected."""
    kind = name.split(',')[0]
    wrong = []

    def build(arg, value):
        changed = {**cfg[nested], arg: value} if nested else {**cfg, arg: value}
        full = {**cfg, nested: changed} if nested else changed
        built = registry.build(dict(full, type=f'mmgwap.{kind}'))
        if use:
            use(built)

    names = cfg[nested] if nested else arguments_of(registry.get(f'mmgwap.{kind}'))
    inner = cfg[nested] if nested else cfg
    for arg in sorted(names):
        if arg in inner:  # the config is right as it is
            build(arg, inner[arg])
        legal = next(
            (LEGAL[key] for key in (f'{name}.{arg}', f'{kind}.{arg}', arg) if key in LEGAL), never
        )
        for value in VALUES:
            allowed = legal(value) or arg in inner and same(value, inner[arg])
            try:
                build(arg, value)
            except Exception as error:
                message = str(error)
                words = [kind, arg, *NAMED, *[value] * isinstance(value, str)]
                if (
                    allowed
                    or '\n' in message
                    or not any(word and word in message for word in words)
                ):
                    wrong.append((arg, value, repr(error)))
            else:
                if not allowed:
                    wrong.append((arg, value, 'is taken'))
    with pytest.raises((TypeError, ValueError), match='junk_key'):
        build('junk_key', 1)
    assert wrong == []


@pytest.mark.parametrize('name', MODEL_CASES)
def test_arguments_of_models(name):
    torch.manual_seed(0)
    cfg, use = MODEL_CASES[name]
    try_values(MODELS, name, cfg, use)


@pytest.mark.parametrize('name', ['MultiTaskDetector', 'ImageClassifier'])
def test_test_cfg(name):
    torch.manual_seed(0)
    cfg, use = MODEL_CASES[name]
    try_values(MODELS, name, cfg, use, nested='test_cfg')


@pytest.mark.parametrize('name', OTHERS)
def test_arguments(name, root):
    cases = other_cases(root)
    assert list(cases) == OTHERS
    registry, cfg, use = cases[name]
    try_values(registry, name, cfg, use)


def test_nothing_is_forgotten():
    names = {
        name
        for registry in (MODELS, DATASETS, TRANSFORMS, METRICS, DATA_SAMPLERS, TASK_UTILS)
        for name, kind in registry.module_dict.items()
        if kind.__module__.startswith('mmgwap')
    }
    tried = {name.split(',')[0] for name in (*MODEL_CASES, *OTHERS)}
    assert names == tried | NO_ARGUMENTS
