"""Operators exported to ONNX and run by onnxruntime."""

import numpy as np
import pytest
import torch

from mmgwap.ops import LIP2d, PSRoIAlign, PSRoIVote
from tests.ops.test_lip import maps as lip_maps
from tests.ops.test_ps_roi import ALL_ROIS, SCALE, make_map, random_rois

onnxruntime = pytest.importorskip('onnxruntime')


pytestmark = pytest.mark.filterwarnings('ignore')


def export(module, inputs, path, **axes):
    """Export a module to ONNX; return an onnxruntime session of the file."""
    torch.onnx.export(
        module,
        tuple(inputs.values()),
        path,
        opset_version=16,
        dynamo=False,
        input_names=list(inputs),
        dynamic_axes=axes,
    )
    return onnxruntime.InferenceSession(path)


@pytest.mark.parametrize('module', [PSRoIAlign(3, SCALE), PSRoIVote(3, SCALE, 'align')])
def test_align_and_vote_export_as_standard_operators(module, tmp_path):
    maps = make_map(bins=3)
    inputs = dict(maps=maps, rois=random_rois(5))
    session = export(module, inputs, tmp_path / 'model.onnx', rois={0: 'K'})
    # ONNX does not define the values of inverted boxes and boxes far outside. A detector
    # clips its proposals to the image.
    rois = torch.cat([ALL_ROIS[:4], random_rois(20, seed=1)])
    rois[:, 1:] = rois[:, 1:].clamp(0, 140)
    (found,) = session.run(None, dict(maps=maps.numpy(), rois=rois.numpy()))
    np.testing.assert_allclose(found, module(maps, rois), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('options', [dict(), dict(ceil_mode=True, kernel_size=2), dict(gate=12.0)])
def test_lip_exports_with_dynamic_axes(options, tmp_path):
    module, axes = LIP2d(**options), {0: 'B', 2: 'H', 3: 'W'}
    x, logit = (lip_maps(1, 2, 8, 8, seed=seed, dtype=torch.float32) for seed in range(2))
    inputs = dict(x=x, logit=logit)
    session = export(module, inputs, tmp_path / 'model.onnx', x=axes, logit=axes)
    x, logit = (lip_maps(2, 2, 9, 12, seed=seed, dtype=torch.float32) for seed in range(2))
    logit[:, :, 4:] -= 1000
    (found,) = session.run(None, dict(x=x.numpy(), logit=logit.numpy()))
    np.testing.assert_allclose(found, module(x, logit), rtol=1e-4, atol=1e-5)
