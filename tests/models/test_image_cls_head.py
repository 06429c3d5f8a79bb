"""The image-level head: logits, losses, labels and localization maps."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from mmgwap.registry import MODELS
from mmgwap.structures import PartialDataSample, batch_multi_hot

from .test_global_pool import POOLS


def make(pool='ClassSpecificGWAP', **kwargs):
    torch.manual_seed(0)
    cfg = dict(
        type='mmgwap.ImageClsHead', num_classes=5, in_channels=6, pool=dict(type=f'mmgwap.{pool}')
    )
    head = MODELS.build({**cfg, **kwargs})
    torch.nn.init.normal_(head.classifier.bias)
    return head


def samples(*labels, ignored=()):
    made = []
    for image_labels in labels:
        sample = PartialDataSample(metainfo=dict(img_path=f'{image_labels}.jpg'))
        sample.gt_image_labels = torch.tensor(image_labels, dtype=torch.int64)
        sample.ignored_image_labels = torch.tensor(ignored, dtype=torch.int64)
        made.append(sample)
    return made


@pytest.fixture
def feats():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 6, size, size, generator=generator) for size in (8, 4)]


@pytest.mark.parametrize('pool', POOLS)
def test_logits_scores_and_maps(pool, feats):
    head = make(pool)
    logits = head(feats)
    assert logits.shape == (2, 5)
    scores, maps = head.predict(feats, with_maps=True)
    assert (scores - logits.sigmoid()).abs().max() < 1e-6
    assert maps.shape == (2, 5, 4, 4)
    assert head.predict(feats)[1] is None
    if pool == 'GlobalAvgPool':
        expected = logits - head.classifier.bias
        assert (maps.mean(dim=(2, 3)) - expected).abs().max() < 1e-5


def test_default_is_the_last_map_of_the_backbone():
    head = make()
    assert (head.source, head.in_index) == ('backbone', -1)


@pytest.mark.parametrize('index, size', [(0, 8), (-1, 4)])
def test_in_index(index, size, feats):
    assert make(in_index=index).predict(feats, True)[1].shape[-1] == size


@pytest.mark.parametrize('index', [2, -3])
def test_in_index_out_of_range(index, feats):
    with pytest.raises(IndexError, match=f'in_index={index}.* 2 feature'):
        make(in_index=index)(feats)


def test_multi_label_loss(feats):
    head = make()
    loss = head.loss(feats, samples([0, 2], []))['loss_image']
    target = torch.tensor([[1.0, 0, 1, 0, 0], [0, 0, 0, 0, 0]])
    assert abs(loss - bce(head(feats), target, reduction='sum') / 2) < 1e-6


def test_single_label_loss(feats):
    head = make(multi_label=False)
    loss = head.loss(feats, samples([3], [1]))['loss_image']
    assert abs(loss - cross_entropy(head(feats), torch.tensor([3, 1]))) < 1e-6
    assert (head.predict(feats)[0].sum(dim=1) - 1).abs().max() < 1e-6


def test_unknown_labels_give_no_loss(feats):
    head = make()
    loss = head.loss(feats, samples([0], [0], ignored=[3, 4]))['loss_image']
    target = torch.tensor([[1.0, 0, 0]]).expand(2, 3)
    assert abs(loss - bce(head(feats)[:, :3], target, reduction='sum') / 2) < 1e-6
    partly_known = samples([0], [])
    partly_known[1].ignored_image_labels = torch.arange(5)
    loss = head.loss(feats, partly_known)['loss_image']
    target = torch.tensor([1.0, 0, 0, 0, 0])
    assert abs(loss - bce(head(feats)[0], target, reduction='sum')) < 1e-6


@pytest.mark.parametrize('multi_label', [True, False])
def test_batch_of_unknown_labels_reaches_every_parameter(multi_label, feats):
    head = make('ClassAgnosticGWAP', multi_label=multi_label)
    loss = head.loss(feats, samples([], [], ignored=range(5)))['loss_image']
    loss.backward()
    assert loss == 0
    assert all(p.grad is not None and p.grad.eq(0).all() for p in head.parameters())


@pytest.mark.parametrize('loss', ['CrossEntropyLoss', 'FocalLoss'])
def test_unknown_labels_give_no_gradient(loss, feats):
    # GlobalAvgPool, because the classes share a softmax in class-specific GWAP.
    head = make('GlobalAvgPool', loss=dict(type=f'mmdet.{loss}', use_sigmoid=True))
    head.loss(feats, samples([0], [1], ignored=[3]))['loss_image'].backward()
    grad = head.classifier.bias.grad
    assert grad[3] == 0 and (grad[[0, 1, 2, 4]] != 0).all()


def test_loss_weight(feats):
    head = make(loss=dict(type='mmdet.FocalLoss', loss_weight=2.0))
    plain = make(loss=dict(type='mmdet.FocalLoss'))
    double, single = (h.loss(feats, samples([0, 2], [1]))['loss_image'] for h in (head, plain))
    assert double > 0 and abs(double - 2 * single) < 1e-6


class Synchronisations(TorchDispatchMode):
    """Record the operators that wait for the GPU if their input is there."""

    WAITING = ('_local_scalar_dense', 'nonzero', '_unique2', 'masked_select', 'equal')

    def __init__(self):
        super().__init__()
        self.operators = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().split('::')[1].split('.')[0]
        tensors = [x for x in args if isinstance(x, torch.Tensor)]
        indices = args[1] if name in ('index', 'index_put', 'index_put_') else ()
        masked = any(x is not None and x.dtype is torch.bool for x in indices)
        if any(x.is_meta for x in tensors) and (name in self.WAITING or masked):
            self.operators.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('multi_label', [True, False])
def test_labels_are_copied_from_the_gpu_once_per_batch(multi_label, feats, monkeypatch):
    """Labels on the meta device stand for labels on a GPU."""
    head = make(multi_label=multi_label).to('meta')
    batch = samples([0], [2], ignored=[4])
    values = torch.cat([labels for s in batch for labels in (s.gt_image_labels, torch.tensor([4]))])
    copies = []

    def cpu(tensor):
        copies.append(tensor)
        return values if tensor.is_meta else tensor

    monkeypatch.setattr(torch.Tensor, 'cpu', cpu)
    with Synchronisations() as mode:
        head.loss([x.to('meta') for x in feats], [sample.to('meta') for sample in batch])
    assert [tensor.shape for tensor in copies] == [(4,)]
    assert mode.operators == []


def test_batch_multi_hot_accepts_empty_labels():
    targets = batch_multi_hot(samples([], [2], ignored=[2, 3]), 4)
    assert targets.tolist() == [[0, 0, -1, -1], [0, 0, 1, -1]]


def test_convolutions(feats):
    head = make(num_convs=2, feat_channels=7)
    assert head(feats).shape == (2, 5)
    assert [conv.conv.in_channels for conv in head.convs] == [6, 7]
    assert head.classifier.in_channels == 7


@pytest.mark.parametrize('labels', [[0, 2], []])
def test_single_label_needs_one_label(labels, feats):
    with pytest.raises(ValueError, match=r'\.jpg.*multi_label=False.* got \['):
        make(multi_label=False).loss(feats, samples([1], labels))


def test_label_outside_of_the_classes(feats):
    with pytest.raises(ValueError, match=r'\[5\].jpg: image label 5 .* 5 classes'):
        make().loss(feats, samples([5], [0]))


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(loss=dict(type='mmdet.CrossEntropyLoss')), 'use_sigmoid=True'),
        (dict(multi_label=False, loss=dict(type='mmdet.FocalLoss')), 'use_sigmoid=False'),
        (dict(source='head'), "source.*'head'"),
    ],
)
def test_wrong_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**kwargs)
