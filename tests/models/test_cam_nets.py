"""The nets of configs/wsol: maps and scores agree, and maps lie on the image."""

from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import Config
from torch import nn

from mmgwap.structures import maps_to_image

register_all_modules()
CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'wsol'
SLOW = pytest.mark.slow
# Stride of the maps.
NETS = {
    'alexnet': 16,
    'vgg16': 16,
    'googlenet': 16,
    'r50': 32,
    'r50-s16': 16,
    'r50-s8': 8,
    'lip-r50': 32,
}


def build(net, num_classes=5):
    cfg = Config.fromfile(CONFIGS / f'{net}_gap_ilsvrc.py').model
    cfg.backbone.init_cfg = None
    cfg.cls_head.num_classes = num_classes
    torch.manual_seed(0)
    return MODELS.build(cfg).eval()


def sample_of(shape, ori_shape):
    return DetDataSample(
        metainfo=dict(
            img_path='one.png',
            img_shape=shape,
            ori_shape=ori_shape,
            scale_factor=(shape[1] / ori_shape[1], shape[0] / ori_shape[0]),
        )
    )


@pytest.mark.parametrize('net', ['alexnet', 'r50'])  # with and without a convolution in the head
def test_scores_equal_the_means_of_the_maps_plus_the_bias(net):
    model = build(net).double()
    nn.init.normal_(model.cls_head.classifier.weight)
    nn.init.normal_(model.cls_head.classifier.bias)
    inputs = torch.randn(2, 3, 96, 128, dtype=torch.float64)
    with torch.no_grad():
        feats = model.extract_feat(inputs)
        logits = model._forward(inputs)
        _, maps = model.cls_head.predict(feats, with_maps=True)
    scores = logits - model.cls_head.classifier.bias
    assert scores.abs().max() > 0
    error = (maps.mean(dim=(2, 3)) - scores).abs().max() / scores.abs().max()
    assert error < 1e-9


def set_brightness_weights(model):
    """Set weights with which the maps show the brightness of the image."""
    for name, p in model.named_parameters():
        if p.dim() == 4:
            nn.init.constant_(p, 1 / p[0].numel())
        elif name.endswith('weight'):
            nn.init.ones_(p)
        else:
            nn.init.zeros_(p)
    model.data_preprocessor.mean.zero_()
    model.data_preprocessor.std.fill_(1)


@pytest.mark.parametrize(
    'net', [pytest.param(net, marks=SLOW if net in ('r50-s8', 'vgg16') else ()) for net in NETS]
)
def test_maps_line_up_with_the_image(net):
    """An odd-sized image, resized with its ratio kept and padded."""
    model = build(net)
    set_brightness_weights(model)
    height, width = 203, 331  # half of the original
    bright = (slice(110, 150), slice(70, 110))
    pixels = torch.zeros(3, height, width, dtype=torch.uint8)
    pixels[:, bright[0], bright[1]] = 255
    inputs = [pixels, torch.zeros(3, 256, 256, dtype=torch.uint8)]
    samples = [
        sample_of((height, width), (2 * height, 2 * width)),
        sample_of((256, 256), (256, 256)),
    ]
    with torch.no_grad():
        result, _ = model.test_step(dict(inputs=inputs, data_samples=samples))
    score_map = maps_to_image(result, result.pred_image_maps[:1])[0]
    assert score_map.shape == (2 * height, 2 * width)
    # Centre of the region above half of the maximum, in the resized image.
    rows, columns = (score_map > score_map.max() / 2).nonzero().float().t() / 2
    assert abs((rows.min() + rows.max()) / 2 - 130) <= NETS[net] / 2 + 1
    assert abs((columns.min() + columns.max()) / 2 - 90) <= NETS[net] / 2 + 1
