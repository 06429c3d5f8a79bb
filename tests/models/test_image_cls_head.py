import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import cross_entropy

from mmgwap.registry import MODELS
from mmgwap.structures import PartialDataSample

POOLS = (
    'GlobalAvgPool',
    'GlobalMaxPool',
    'LogSumExpPool',
    'ClassAgnosticGWAP',
    'ClassSpecificGWAP',
)


def make(pool='ClassSpecificGWAP', seed=0, **kwargs):
    torch.manual_seed(seed)
    head = MODELS.build(
        dict(
            dict(
                type='mmgwap.ImageClsHead',
                num_classes=5,
                in_channels=6,
                pool=dict(type=f'mmgwap.{pool}'),
            ),
            **kwargs,
        )
    )
    torch.nn.init.normal_(head.classifier.bias)
    return head


def samples(*labels, ignored=()):
    made = []
    for one in labels:
        sample = PartialDataSample(metainfo=dict(img_path=f'{one}.jpg'))
        sample.gt_image_labels = torch.tensor(one, dtype=torch.int64)
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


def test_under_average_pooling_the_map_averages_to_the_logit(feats):
    head = make('GlobalAvgPool')
    maps = head.predict(feats, with_maps=True)[1]
    wanted = head(feats) - head.classifier.bias
    assert (maps.mean(dim=(2, 3)) - wanted).abs().max() < 1e-5


@pytest.mark.parametrize('index, size', [(0, 8), (1, 4), (-1, 4), (-2, 8)])
def test_in_index(index, size, feats):
    head = make(in_index=index)
    assert head.predict(feats, True)[1].shape[-1] == size


@pytest.mark.parametrize('index', [2, -3])
def test_wrong_index(index, feats):
    with pytest.raises(IndexError, match=f'in_index={index}.* 2 feature'):
        make(in_index=index)(feats)


def test_multi_label_loss(feats):
    head = make()
    loss = head.loss(feats, samples([0, 2], []))['loss_image']
    target = torch.tensor([[1.0, 0, 1, 0, 0], [0, 0, 0, 0, 0]])
    wanted = bce(head(feats), target, reduction='sum') / 2
    assert abs(loss - wanted) < 1e-6


def test_unknown_labels_give_no_loss(feats):
    head = make()
    loss = head.loss(feats, samples([0], [0], ignored=[3, 4]))['loss_image']
    target = torch.tensor([[1.0, 0, 0]]).expand(2, 3)
    wanted = bce(head(feats)[:, :3], target, reduction='sum') / 2
    assert abs(loss - wanted) < 1e-6
    nothing = samples([0], [])
    nothing[1].ignored_image_labels = torch.arange(5)
    one = head.loss(feats, nothing)['loss_image']
    target = torch.tensor([1.0, 0, 0, 0, 0])
    assert abs(one - bce(head(feats)[0], target, reduction='sum')) < 1e-6


def test_a_batch_of_unknown_labels_still_reaches_every_parameter(feats):
    for multi_label in (True, False):
        head = make('ClassAgnosticGWAP', multi_label=multi_label)
        loss = head.loss(feats, samples([], [], ignored=range(5)))
        loss['loss_image'].backward()
        assert loss['loss_image'] == 0
        assert all(p.grad is not None and p.grad.eq(0).all() for p in head.parameters())


def test_single_label_loss(feats):
    head = make(multi_label=False)
    loss = head.loss(feats, samples([3], [1]))['loss_image']
    wanted = cross_entropy(head(feats), torch.tensor([3, 1]))
    assert abs(loss - wanted) < 1e-6
    scores = head.predict(feats)[0]
    assert (scores.sum(dim=1) - 1).abs().max() < 1e-6


@pytest.mark.parametrize('labels', [[0, 2], []])
def test_a_single_label_is_one_label(labels, feats):
    with pytest.raises(ValueError, match=r'\.jpg.*one label an image, got'):
        make(multi_label=False).loss(feats, samples([1], labels))


@pytest.mark.parametrize('loss', ['CrossEntropyLoss', 'FocalLoss'])
def test_unknown_labels_give_no_gradient(loss, feats):
    # Under class-specific GWAP the classes compete, and all have a part.
    head = make('GlobalAvgPool', loss=dict(type=f'mmdet.{loss}', use_sigmoid=True))
    head.loss(feats, samples([0], [1], ignored=[3]))['loss_image'].backward()
    grad = head.classifier.bias.grad
    assert grad[3] == 0 and (grad[[0, 1, 2, 4]] != 0).all()


def test_another_loss(feats):
    head = make(loss=dict(type='mmdet.FocalLoss', loss_weight=2.0))
    plain = make(loss=dict(type='mmdet.FocalLoss'))
    plain.load_state_dict(head.state_dict())
    one, two = (h.loss(feats, samples([0, 2], [1]))['loss_image'] for h in (head, plain))
    assert one > 0 and abs(one - 2 * two) < 1e-6


def test_convolutions_before_it(feats):
    head = make(num_convs=2, feat_channels=7)
    assert head(feats).shape == (2, 5)
    assert [conv.conv.in_channels for conv in head.convs] == [6, 7]
    assert head.classifier.in_channels == 7


def test_labels_outside_of_the_classes(feats):
    with pytest.raises(ValueError, match='outside of the 5 classes'):
        make().loss(feats, samples([5], [0]))


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(loss=dict(type='mmdet.CrossEntropyLoss')), 'use_sigmoid=True'),
        (dict(multi_label=False, loss=dict(type='mmdet.FocalLoss')), 'use_sigmoid=False'),
        (dict(source='head'), "'head'"),
        (dict(num_classes=0), 'num_classes must be .* from 1 .*got 0'),
        (dict(in_channels=0), 'in_channels must be .* from 1 .*got 0'),
    ],
)
def test_wrong_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**kwargs)
