"""Exported operators, run by onnxruntime, equal ours."""

import numpy as np
import pytest
import torch

from mmgwap.ops import LIP2d, PSRoIAlign, PSRoIVote
from tests.ops.test_lip import maps as lip_maps
from tests.ops.test_ps_roi import ALL_ROIS, SCALE, make_map, random_rois

onnxruntime = pytest.importorskip('onnxruntime')


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('module', [PSRoIAlign(3, SCALE), PSRoIVote(3, SCALE, 'align')])
def test_align_and_vote_export_as_standard_operators(module, tmp_path):
    path = tmp_path / 'model.onnx'
    maps = make_map(bins=3)
    torch.onnx.export(
        module,
        (maps, random_rois(5)),
        path,
        opset_version=16,
        dynamo=False,
        input_names=['maps', 'rois'],
        output_names=['out'],
        dynamic_axes=dict(rois={0: 'K'}),
    )
    session = onnxruntime.InferenceSession(path)
    # Boxes far outside and inverted ones are where the standard leaves it to
    # the runtime; a detector clips its proposals to the image.
    rois = torch.cat([ALL_ROIS[:4], random_rois(20, seed=1)])
    rois[:, 1:] = rois[:, 1:].clamp(0, 140)
    (found,) = session.run(None, dict(maps=maps.numpy(), rois=rois.numpy()))
    np.testing.assert_allclose(found, module(maps, rois), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('options', [dict(), dict(ceil_mode=True, kernel_size=2), dict(gate=12.0)])
def test_lip_exports_with_dynamic_axes(options, tmp_path):
    path = tmp_path / 'model.onnx'
    x, logit = (lip_maps(1, 2, 8, 8, seed=seed, dtype=torch.float32) for seed in range(2))
    axes = {0: 'B', 2: 'H', 3: 'W'}
    torch.onnx.export(
        LIP2d(**options),
        (x, logit),
        path,
        opset_version=16,
        dynamo=False,
        input_names=['x', 'logit'],
        dynamic_axes=dict(x=axes, logit=axes),
    )
    x, logit = (lip_maps(2, 2, 9, 12, seed=seed, dtype=torch.float32) for seed in range(2))
    logit[:, :, 4:] -= 1000
    session = onnxruntime.InferenceSession(path)
    (found,) = session.run(None, dict(x=x.numpy(), logit=logit.numpy()))
    np.testing.assert_allclose(found, LIP2d(**options)(x, logit), rtol=1e-4, atol=1e-5)
