"""ImageClassifier: class scores, and boxes from the maps of the classes."""

import pytest
import torch
from mmdet.models.test_time_augs import DetTTAModel  # noqa: F401
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import ConfigDict
from torch import nn

from mmgwap.registry import MODELS as OWN
from mmgwap.structures import PartialDataSample, maps_to_image

register_all_modules()


@OWN.register_module(force=True)
class Shrink(nn.Module):
    """Backbone without weights that averages 8 x 8 pixels."""

    def forward(self, x):
        return (nn.functional.avg_pool2d(x, 8),)


def config(num_classes=3, multi_label=False, pool='GlobalAvgPool', **test_cfg):
    return ConfigDict(
        type='mmgwap.ImageClassifier',
        data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=8),
        backbone=dict(type='mmgwap.Shrink'),
        cls_head=dict(
            type='mmgwap.ImageClsHead',
            source='backbone',
            num_classes=num_classes,
            in_channels=3,
            pool=dict(type=f'mmgwap.{pool}'),
            multi_label=multi_label,
        ),
        test_cfg=test_cfg,
    )


def colours(**options):
    """Build a classifier whose classes are the three colour channels."""
    model = MODELS.build(config(**options)).eval()
    with torch.no_grad():
        model.cls_head.classifier.weight.copy_(torch.eye(3)[..., None, None] / 255)
        model.cls_head.classifier.bias.zero_()
    return model


def image(height=64, width=96, **meta):
    sample = DetDataSample(
        metainfo=dict(
            img_path='one.png',
            ori_shape=(height, width),
            img_shape=(height, width),
            scale_factor=(1.0, 1.0),
            **meta,
        )
    )
    return torch.zeros(3, height, width, dtype=torch.uint8), sample


def rectangle():
    """Return an image with class 1 in the box (24, 16, 72, 40)."""
    pixels, sample = image()
    pixels[1, 16:40, 24:72] = 255
    return pixels, sample


def predict(model, *pairs):
    inputs, samples = zip(*pairs)
    with torch.no_grad():
        return model.test_step(dict(inputs=list(inputs), data_samples=list(samples)))


def test_boxes_of_the_likeliest_classes():
    pixels, sample = rectangle()
    pixels[2, 48:56, 80:96] = 200
    (one,) = predict(colours(), (pixels, sample))
    found = one.pred_instances
    assert found.labels.tolist() == [1, 2]  # class 0 is nowhere: no box
    # Bilinear upsampling by 8 widens what is above 20 % by a part of a cell.
    wanted = torch.tensor([[24.0, 16, 72, 40], [80, 48, 96, 56]])
    assert (found.bboxes - wanted).abs().max() <= 3
    logits = pixels.float().mean(dim=(1, 2)) / 255
    torch.testing.assert_close(one.pred_image_scores, logits.softmax(0))
    assert torch.equal(found.scores, one.pred_image_scores[found.labels])
    assert 'pred_image_maps' not in one
    (first,) = predict(colours(topk=1), (pixels, sample))
    assert first.pred_instances.labels.tolist() == [1]


def test_several_boxes_of_a_class_and_thresholds():
    pixels, sample = image()
    pixels[0, :16, :16] = 255
    pixels[0, 40:64, 64:96] = 255
    pixels[0, 40:48, :8] = 60
    model = colours(boxes='all', topk=1)
    (one,) = predict(model, (pixels, sample))
    assert one.pred_instances.labels.tolist() == [0, 0, 0]
    areas = [(box[2:] - box[:2]).prod() for box in one.pred_instances.bboxes]
    assert areas == sorted(areas, reverse=True)
    model = colours(boxes='all', topk=1, box_threshold=0.5)
    (one,) = predict(model, (pixels, sample))
    assert len(one.pred_instances) == 2
    (one,) = predict(colours(score_thr=0.34), (pixels, sample))
    assert one.pred_instances.labels.tolist() == [0]
    (one,) = predict(colours(score_thr=1.0), (pixels, sample))
    assert one.pred_instances.bboxes.shape == (0, 4)


def test_an_empty_image_has_classes_but_no_boxes():
    (one,) = predict(colours(), image())
    assert len(one.pred_instances) == 0
    torch.testing.assert_close(one.pred_image_scores, torch.full((3,), 1 / 3))


@pytest.mark.parametrize('direction', [None, 'horizontal', 'vertical', 'diagonal'])
def test_maps_and_boxes_line_up_with_the_image(direction):
    """An odd-sized image, resized, flipped, and padded in a batch."""
    pixels, sample = image(52, 70)  # an image of 104 x 140, halved
    sample.set_metainfo(dict(ori_shape=(104, 140), scale_factor=(0.5, 0.5)))
    original = torch.zeros(104, 140)
    original[32:64, 80:112] = 1
    pixels[1] = 255 * original[::2, ::2]
    if direction:
        axes = dict(horizontal=[2], vertical=[1], diagonal=[1, 2])[direction]
        pixels = pixels.flip(axes)
        sample.set_metainfo(dict(flip=True, flip_direction=direction))
    one, _ = predict(colours(with_maps=True), (pixels, sample), image(96, 80))
    assert one.batch_input_shape == (96, 80)
    on_image = maps_to_image(one, one.pred_image_maps)[1]
    peak = (on_image == on_image.max()).nonzero().float().mean(dim=0)
    assert on_image.shape == original.shape
    assert (peak - torch.tensor([47.5, 95.5])).abs().max() <= 8  # half a cell
    # Boxes stay as they are in the view, which the merger of views undoes.
    box = one.pred_instances.bboxes[0]
    x, y = (box[:2] + box[2:]) / 2
    if direction in ('horizontal', 'diagonal'):
        x = 140 - x
    if direction in ('vertical', 'diagonal'):
        y = 104 - y
    assert abs(x - 96) <= 8 and abs(y - 48) <= 8


def test_boxes_ignore_the_padding():
    pixels, sample = image(64, 64)
    one, _ = predict(colours(), (pixels + 255, sample), image(64, 128))
    # The map is constant over the image itself; only the padding is black.
    assert one.pred_instances.bboxes.max() <= 64 if len(one.pred_instances) else True


def test_rescale():
    pixels, sample = rectangle()
    sample.set_metainfo(dict(ori_shape=(128, 192)))
    model = colours()
    data = model.data_preprocessor(dict(inputs=[pixels], data_samples=[sample]), False)
    with torch.no_grad():
        resized = model.predict(**_named(data), rescale=False)[0]
        small = resized.pred_instances.bboxes[0]
        large = model.predict(**_named(data))[0].pred_instances.bboxes[0]
    assert (large - 2 * small).abs().max() <= 2


def _named(data):
    return dict(batch_inputs=data['inputs'], batch_data_samples=data['data_samples'])


def labelled(label, height=64, width=96):
    pixels, sample = image(height, width)
    sample = PartialDataSample(metainfo=dict(sample.metainfo, has_boxes=False))
    sample.gt_image_labels = torch.tensor([label])
    return pixels.random_(256), sample


@pytest.mark.parametrize('pool', ['GlobalMaxPool', 'ClassSpecificGWAP'])
@pytest.mark.parametrize('multi_label', [False, True])
def test_every_parameter_learns(pool, multi_label):
    torch.manual_seed(0)
    model = MODELS.build(config(pool=pool, multi_label=multi_label))
    model.init_weights()
    model.train()
    inputs, samples = zip(labelled(0), labelled(2))
    data = model.data_preprocessor(dict(inputs=list(inputs), data_samples=list(samples)), True)
    losses = model(**data, mode='loss')
    assert set(losses) == {'loss_image'}
    losses['loss_image'].backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())
    assert model(**data, mode='tensor').shape == (2, 3)


def test_neck():
    cfg = config()
    cfg.backbone = dict(type='ResNet', depth=18, base_channels=8, init_cfg=None)
    cfg.neck = dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=8, num_outs=4)
    with pytest.raises(ValueError, match="source='backbone'.*neck"):
        MODELS.build(cfg)
    cfg.cls_head.update(source='neck', in_channels=8, in_index=0)
    model = MODELS.build(cfg).eval()
    (one,) = predict(model, image())
    assert one.pred_image_scores.shape == (3,)


def test_score_equal_to_the_threshold_is_kept():
    model = colours(multi_label=True)
    with torch.no_grad():
        model.cls_head.classifier.bias.fill_(-300)
    (one,) = predict(model, rectangle())
    assert one.pred_instances.labels.tolist() == [1]
    assert one.pred_instances.scores.tolist() == [0.0]


def test_checkpoint_of_a_plain_network():
    """Its layer fc becomes the classifier, and everything else the backbone."""
    cfg = config()
    cfg.backbone = dict(type='mmdet.ResNet', depth=18, base_channels=8)
    cfg.cls_head.in_channels = 64
    model = MODELS.build(cfg)
    plain = {key: value + 1 for key, value in model.backbone.state_dict().items()}
    plain |= {'fc.weight': torch.rand(3, 64), 'fc.bias': torch.rand(3)}
    for prefix in ('', 'student.'):
        target = nn.ModuleDict(dict(student=MODELS.build(cfg)))
        given = {prefix + key: value for key, value in plain.items()}
        (target if prefix else target.student).load_state_dict(given)
        state = target.student.state_dict()
        assert torch.equal(state['cls_head.classifier.weight'].flatten(1), plain['fc.weight'])
        assert torch.equal(state['cls_head.classifier.bias'], plain['fc.bias'])
        assert torch.equal(state['backbone.conv1.weight'], plain['conv1.weight'])
        again = MODELS.build(cfg)  # own checkpoints stay as they are
        again.load_state_dict(state)
        assert torch.equal(again.backbone.conv1.weight, plain['conv1.weight'])


def test_convolutions_in_the_head_do_not_take_the_classifier():
    """Its input would not be the features of the network, even with the same shape."""
    cfg = config()
    cfg.cls_head.update(num_convs=1, feat_channels=3)
    found = MODELS.build(cfg).load_state_dict({'fc.weight': torch.rand(3, 3)}, strict=False)
    assert found.unexpected_keys == ['backbone.fc.weight']
    assert 'cls_head.classifier.weight' in found.missing_keys


def test_unknown_option_is_named():
    with pytest.raises(ValueError, match=r"\['top_k'\].*topk"):
        MODELS.build(config(top_k=3))


def test_error_for_nonfinite_maps_names_the_image():
    model = colours()
    model.cls_head.localize = lambda features: torch.full((1, 3, 8, 12), float('inf'))
    with pytest.raises(ValueError, match='one.png: .*finite'):
        predict(model, image())


def test_boxes_are_float32_under_autocast():
    pixels, sample = rectangle()
    model = colours(multi_label=True)
    wanted = predict(model, (pixels, sample))[0].pred_instances.bboxes
    sample.set_metainfo(dict(ori_shape=(64 * 51, 96 * 51)))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = predict(model, (pixels, sample))[0].pred_instances
    assert found.bboxes.dtype == torch.float32
    assert (found.bboxes[0] / 51 - wanted[0]).abs().max() < 1
    assert (found.bboxes == found.bboxes.round()).all()


@pytest.mark.parametrize(
    'option, value', [('topk', 0), ('score_thr', 2.0), ('box_threshold', 1.0), ('boxes', 'biggest')]
)
def test_options_out_of_range(option, value):
    with pytest.raises(ValueError, match=f'test_cfg.{option}.*got {value!r}'):
        MODELS.build(config(**{option: value}))


@pytest.mark.gpu
def test_cuda_equals_cpu():
    pixels, sample = rectangle()
    (wanted,) = predict(colours(with_maps=True), (pixels, sample.clone()))
    (found,) = predict(colours(with_maps=True).cuda(), (pixels, sample))
    assert found.pred_instances.bboxes.is_cuda
    for name in ('bboxes', 'labels', 'scores'):
        torch.testing.assert_close(found.pred_instances[name].cpu(), wanted.pred_instances[name])
    torch.testing.assert_close(found.pred_image_maps.cpu(), wanted.pred_image_maps)


def test_config_of_the_wsol_page_builds(repo):
    variables = {}
    exec((repo / 'docs/wsol.md').read_text().split('```python\n')[1].split('```')[0], variables)
    cfg = ConfigDict(variables['model'])
    cfg.backbone.init_cfg = None
    assert MODELS.build(cfg).test_cfg['box_threshold'] == 0.2
