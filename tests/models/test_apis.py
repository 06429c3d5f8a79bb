"""mmdet's Python interfaces with RFCN and MultiTaskDetector."""

import cv2
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict

from tests.toy_data import tiny_rfcn, tiny_rfcn_run


@pytest.fixture(scope='module', params=['plain', 'with image-level head'])
def files(repo, tmp_path_factory, request):
    """Config, checkpoint and image."""
    folder = tmp_path_factory.mktemp('apis')
    cfg = tiny_rfcn_run(repo / 'configs', folder)
    if request.param != 'plain':
        cfg.model = dict(
            type='mmgwap.MultiTaskDetector',
            detector=cfg.model,
            cls_head=dict(type='mmgwap.ImageClsHead', num_classes=10, in_channels=64),
        )
    cfg.dump(folder / 'config.py')
    model = MODELS.build(cfg.model)
    model.init_weights()
    torch.save(
        dict(
            state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=tuple('0123456789')))
        ),
        folder / 'model.pth',
    )
    image = np.random.RandomState(0).randint(0, 255, (120, 100, 3))
    cv2.imwrite(str(folder / 'image.png'), image)
    return [str(folder / name) for name in ('config.py', 'model.pth', 'image.png')]


def test_inferencer_draws_and_equals_inference_detector(files, tmp_path):
    config, checkpoint, image = files
    inferencer = DetInferencer(config, checkpoint, device='cpu')
    found = inferencer(image, out_dir=str(tmp_path), no_save_vis=False)
    model = init_detector(config, checkpoint, device='cpu', cfg_options={})
    assert model.dataset_meta['classes'] == tuple('0123456789')
    wanted = inference_detector(model, image).pred_instances
    assert len(wanted) > 0 and wanted.bboxes.shape[1] == 4
    assert wanted.bboxes[:, 2].max() <= 100 and wanted.bboxes[:, 3].max() <= 120
    np.testing.assert_allclose(found['predictions'][0]['scores'], wanted.scores.numpy(), rtol=1e-4)
    assert cv2.imread(str(tmp_path / 'vis' / 'image.png')) is not None


def test_test_time_augmentation_merges(files):
    config = Config.fromfile(files[0])
    model = MODELS.build(ConfigDict(**config.tta_model, module=config.model))
    views = []
    for _ in range(2):
        data = dict(inputs=[torch.zeros(3, 128, 128, dtype=torch.uint8)], data_samples=[sample()])
        views.append(predict(model.module, model.module.data_preprocessor(data)))
    count = sum(len(view.pred_instances) for view in views)
    if 'pred_image_scores' in views[0]:
        scores = views[0].pred_image_scores
        views[1].pred_image_scores = scores / 2
    (merged,) = model.merge_preds([views])
    # Both views show the same image, so NMS keeps one of two boxes.
    assert 0 < len(merged.pred_instances) <= count // 2
    assert merged.pred_instances.bboxes.shape[1] == 4
    if 'pred_image_scores' in merged:
        assert (merged.pred_image_scores - scores * 0.75).abs().max() < 1e-6


def sample():
    return DetDataSample(
        metainfo=dict(
            img_shape=(128, 128),
            ori_shape=(128, 128),
            scale_factor=(1.0, 1.0),
            flip=False,
            flip_direction=None,
            img_id=0,
            img_path='',
        )
    )


@torch.no_grad()
def predict(model, data):
    return model.eval()(**data, mode='predict')[0]


@pytest.mark.slow
def test_compiled_model_gives_the_same_boxes():
    """torch.compile traces the model except RPN and NMS, as in mmdet."""
    torch.manual_seed(0)
    model = MODELS.build(tiny_rfcn()).eval()
    data = model.data_preprocessor(
        dict(
            inputs=[torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8)], data_samples=[sample()]
        )
    )
    wanted = predict(model, data).pred_instances
    found = predict(torch.compile(model, backend='eager'), data).pred_instances
    torch.testing.assert_close(found.bboxes, wanted.bboxes)
    torch.testing.assert_close(found.scores, wanted.scores)
