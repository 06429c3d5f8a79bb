"""Choices of the detector configs. test_every_config.py trains them."""

import re
from pathlib import Path

import pytest
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules
from mmengine.config import Config

register_all_modules()
FOLDER = Path(__file__).resolve().parents[1] / 'configs'
# test_wsol_configs.py has the configs of classifiers.
CONFIGS = [
    path
    for path in sorted(FOLDER.glob('[!_]*/*.py'))
    if path.parent.name != 'wsol' and 'imagenet' not in path.stem
]
RFCN, GWAP, LIP, TEACHER = (
    [path for path in CONFIGS if path.parent.name == family]
    for family in ('rfcn', 'gwap', 'lip', 'teacher')
)


def each(name, paths):
    return pytest.mark.parametrize(name, paths, ids=lambda path: path.stem)


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def cfg(request):
    return Config.fromfile(request.param)


def detector_of(cfg):
    """Return the config of the detector, without teacher and image-level branch."""
    detector = cfg.model
    while 'detector' in detector:
        detector = detector.detector
    return detector


def num_classes_of(cfg):
    detector = detector_of(cfg)
    return detector.get('roi_head', detector).bbox_head.num_classes


def test_families_are_complete():
    names = {path.stem for path in CONFIGS}
    for net in ('r50', 'r50_ohem', 'r101', 'r101_ohem'):
        assert {f'rfcn_{net}_1xb2-110k_voc0712', f'rfcn_{net}_8xb1-120k_coco'} <= names
    for percent in ('01', '05', '10', '20', '50'):
        assert f'rfcn_r50_gwap_1xb4-110k_voc0712-p{percent}' in names
        assert f'rfcn_r50_1xb2-110k_voc0712-p{percent}-boxes-only' in names
    for percent in ('01', '05', '10', '30'):
        assert f'rfcn_r50_gwap_8xb2-120k_coco-p{percent}' in names
        assert f'rfcn_r50_8xb1-120k_coco-p{percent}-boxes-only' in names
    for net in ('r50', 'r101', 'r101-md'):
        for length in ('1x', '2x'):
            assert f'faster-rcnn_lip-{net}_fpn_{length}_coco' in names
    for percent in ('01', '05', '10'):
        assert f'rfcn_r50_teacher_8xb2-120k_coco-p{percent}' in names


def leaves_of(dataset):
    """List the configs of the data sets inside all wrappers."""
    if 'datasets' in dataset:
        return sum(map(leaves_of, dataset.datasets), [])
    return leaves_of(dataset.dataset) if 'dataset' in dataset else [dataset]


def test_data_sets_have_the_classes_of_the_head(cfg):
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        for leaf in leaves_of(loader.dataset):
            dataset = DATASETS.build(dict(leaf, lazy_init=True))
            assert len(dataset.metainfo['classes']) == num_classes_of(cfg)


def test_schedule_ends_with_training(cfg):
    end = cfg.train_cfg.get('max_iters') or cfg.train_cfg.max_epochs
    assert cfg.param_scheduler[-1].end == end


@each('path', GWAP)
def test_share_of_boxes_is_in_the_name(path):
    cfg = Config.fromfile(path)
    percent = re.search(r'-p(\d+)', path.stem)
    dataset = cfg.train_dataloader.dataset
    if percent:
        assert dataset.type == 'mmgwap.PartialBoxDataset'
        assert dataset.percent == int(percent[1])
        assert dataset.get('seed', 0) == 0
    boxes_only = percent is not None and path.stem.endswith('boxes-only')
    assert dataset.get('boxes_only', False) == boxes_only
    if 'gwap' not in path.stem and 'gap' not in path.stem:
        assert 'cls_head' not in cfg.model
        return
    assert cfg.model.cls_head.num_classes == num_classes_of(cfg)
    sampler = cfg.train_dataloader.batch_sampler
    assert sampler.type == 'mmgwap.PartialBoxBatchSampler'
    assert 0 < sampler.num_boxed < cfg.train_dataloader.batch_size
    assert 'mmgwap.MultiLabelMetric' in {metric.type for metric in cfg.val_evaluator}


@each('path', [path for path in GWAP if path.stem.endswith('boxes-only')])
def test_boxes_only_baselines(path):
    """A baseline has the detector, schedule and boxes of the config with labels."""
    labels = path.stem.replace('-boxes-only', '')
    for old, new in (
        ('r50_1xb2', 'r50_gwap_1xb4'),
        ('r50_8xb1', 'r50_gwap_8xb2'),
        ('r18_', 'r18_gwap_'),
        ('voc07', 'voc07-boxes_voc12-labels' if labels.endswith('voc07') else 'voc07'),
    ):
        labels = labels.replace(old, new)
    baseline, cfg = (Config.fromfile(path.with_name(f'{stem}.py')) for stem in (path.stem, labels))
    assert baseline.model == cfg.model.detector
    # Only the branch may have another learning rate.
    options = cfg.optim_wrapper.pop('paramwise_cfg', {})
    assert set(options.get('custom_keys', {})) <= {'cls_head'}
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'val_dataloader'):
        assert baseline[key] == cfg[key]
    assert baseline.train_dataloader.batch_size == cfg.train_dataloader.batch_sampler.num_boxed


@each('path', [path for path in TEACHER if 'blind' in path.stem])
def test_label_blind_twins(path):
    """A twin differs in the use of labels only."""
    blind, cfg = (
        Config.fromfile(path.with_name(f'{stem}.py'))
        for stem in (path.stem, path.stem.replace('blind-', ''))
    )
    assert blind.model.pop('guided') is False and 'guided' not in cfg.model
    assert blind.to_dict() == cfg.to_dict()


def test_each_teacher_has_a_twin():
    names = {path.stem for path in TEACHER}
    twins = {name for name in names if 'blind-teacher' in name}
    assert names - twins - {'rfcn_r18_gwap-teacher_digits-p10'} == {
        name.replace('blind-', '') for name in twins
    }


@each('path', [path for path in TEACHER if 'blind' not in path.stem])
def test_teachers(path):
    cfg = Config.fromfile(path)
    loader, hooks = cfg.train_dataloader, [hook.type for hook in cfg.custom_hooks]
    assert loader.dataset.percent == int(re.search(r'-p(\d+)', path.stem)[1])
    assert loader.batch_size == 2 * loader.batch_sampler.num_boxed
    # The teacher is the moving average. Another would average it again.
    assert hooks.count('mmgwap.MeanTeacherHook') == 1 and 'EMAHook' not in hooks
    transforms = [transform.type for transform in loader.dataset.label_pipeline]
    weak, strong = (
        transforms[: transforms.index('mmgwap.PackTeacherView')],
        transforms[transforms.index('mmgwap.PackTeacherView') + 1 :],
    )
    assert not {'RandomCrop', 'RandomResize', 'RandomErasing'} & set(weak) and len(strong) > 1
    # The losses need the scale of the images with boxes, unless both see the image file.
    assert any('Resize' in name for name in weak) or 'RandomResize' in strong
    # RTMDet's neck requires sides that are multiples of 32.
    assert 'rtmdet' not in path.stem or 'Pad' in weak
    evaluators = cfg.val_evaluator if isinstance(cfg.val_evaluator, list) else [cfg.val_evaluator]
    has_branch = 'cls_head' in cfg.model.detector
    assert ('mmgwap.MultiLabelMetric' in [entry.type for entry in evaluators]) == has_branch
    assert cfg.test_evaluator == cfg.val_evaluator


@each('path', [path for path in TEACHER if 'blind' not in path.stem])
def test_teachers_train_as_the_configs_with_labels(path):
    """Detector, optimizer, schedule and boxes are those of the config without a teacher."""
    without = path.stem.replace('gwap-teacher', 'teacher').replace('teacher', 'gwap')
    cfg, gwap = Config.fromfile(path), Config.fromfile(FOLDER / 'gwap' / f'{without}.py')
    if 'digits' in path.stem:  # the teacher needs boxes of low scores
        assert detector_of(cfg).test_cfg.rcnn.score_thr <= cfg.model.best_score
        gwap.model.detector.test_cfg.rcnn.score_thr = detector_of(cfg).test_cfg.rcnn.score_thr
        # The second stage with a teacher is longer.
        gwap.train_cfg.max_iters = gwap.param_scheduler[1].end = 1500
    assert detector_of(cfg) == gwap.model.detector
    for key in ('param_scheduler', 'train_cfg', 'val_dataloader'):
        assert cfg[key] == gwap[key]
    assert cfg.optim_wrapper.optimizer == gwap.optim_wrapper.optimizer
    assert cfg.get('load_from') == gwap.get('load_from')
    for options in (cfg.train_dataloader, gwap.train_dataloader):
        del options.dataset.dataset['pipeline']
    assert cfg.train_dataloader.dataset.dataset == gwap.train_dataloader.dataset.dataset
    assert cfg.train_dataloader.batch_sampler == gwap.train_dataloader.batch_sampler


@each('path', [path for path in RFCN if 'voc' in path.stem or 'coco' in path.stem])
def test_rfcn_follows_the_paper(path):
    cfg = Config.fromfile(path)
    backbone, head = cfg.model.backbone, cfg.model.roi_head.bbox_head
    assert backbone.dilations[-1] == 2 and backbone.strides[-1] == 1
    assert backbone.frozen_stages == 1 and backbone.norm_eval
    assert head.output_size == 7 and head.reg_class_agnostic
    assert cfg.model.roi_head.bbox_roi_extractor.mode == 'pool'
    sampler = cfg.model.train_cfg.rcnn.sampler
    background = cfg.model.train_cfg.rcnn.assigner.neg_iou_thr
    assert sampler.num == 128
    if 'ohem' in path.stem:
        assert sampler == dict(type='mmgwap.RFCNOHEMSampler', num=128)
        assert background == 0.5
    else:
        assert sampler.pos_fraction == 0.25 and background == (0.1, 0.5)
    scales = cfg.model.rpn_head.anchor_generator.scales
    (rate,) = cfg.param_scheduler
    if 'voc' in path.stem:
        assert scales == [8, 16, 32] and head.num_classes == 20
        assert (rate.milestones, cfg.train_cfg.max_iters) == ([80000], 110000)
    else:
        assert scales == [4, 8, 16, 32] and head.num_classes == 80
        assert (rate.milestones, cfg.train_cfg.max_iters) == ([90000], 120000)


@each('path', LIP)
def test_lip_backbone_is_in_the_name(path):
    depth = re.search(r'lip-[rd](\d+)', path.stem)[1]
    backbone = detector_of(Config.fromfile(path)).backbone
    assert backbone.type == ('mmgwap.LIPDenseNet' if '-d1' in path.stem else 'mmgwap.LIPResNet')
    assert backbone.depth == int(depth)
    if 'digits' not in path.stem:
        net = 'densenet' if '-d1' in path.stem else 'resnet'
        assert backbone.init_cfg.checkpoint == f'checkpoints/lip_{net}-{depth}.pth'
    assert ('dcn' in backbone) == ('-md' in path.stem)


@pytest.mark.parametrize(
    'name, plain',
    [
        ('rfcn_lip-r18_digits', 'rfcn/rfcn_r18_digits'),
        ('rfcn_lip-r101_8xb1-120k_coco', 'rfcn/rfcn_r101_8xb1-120k_coco'),
        ('rfcn_lip-r50_gwap_8xb2-120k_coco-p10', 'gwap/rfcn_r50_gwap_8xb2-120k_coco-p10'),
    ],
)
def test_lip_changes_only_the_backbone(name, plain):
    cfg, plain = (Config.fromfile(FOLDER / f'{path}.py') for path in (f'lip/{name}', plain))
    for config in (cfg, plain):
        backbone = detector_of(config).backbone
        del backbone['init_cfg'], backbone['type']
    assert cfg.to_dict() == plain.to_dict()


def test_base_batch_size_is_in_the_name(cfg):
    """``--auto-scale-lr`` on the number of GPUs in the name changes nothing."""
    per_gpu = cfg.train_dataloader.batch_size
    named = re.search(r'_(\d+)xb(\d+)-', str(cfg.filename))
    if named:
        assert per_gpu == int(named[2])
        gpus = int(named[1])
    else:
        # mmdet's names leave out 8xb2. Our configs without it are for one process.
        gpus = 8 if '_fpn_' in str(cfg.filename) and 'photographs' not in str(cfg.filename) else 1
    assert cfg.auto_scale_lr.base_batch_size == gpus * per_gpu


def test_hooks(cfg):
    assert cfg.default_hooks.checkpoint.type == 'mmgwap.AtomicCheckpointHook'
    assert {hook.type for hook in cfg.custom_hooks} >= {
        'NumClassCheckHook',
        'mmgwap.ExactResumeHook',
        'mmgwap.StopAtInvalidLossHook',
        'mmgwap.BadImagesHook',
    }
