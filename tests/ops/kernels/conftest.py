"""Where kernels run: on a GPU, or on a CPU in Triton's interpreter."""
from contextlib import nullcontext

import pytest
import torch

from mmgwap.ops.kernels import kernels_interpreted


@pytest.fixture
def device():
    """The device to put tensors on; kernels are what its operators run."""
    pytest.importorskip('triton')
    has_gpu = torch.cuda.is_available()
    with nullcontext() if has_gpu else kernels_interpreted():
        yield 'cuda' if has_gpu else 'cpu'
