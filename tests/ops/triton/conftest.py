"""Where kernels run: on a GPU, or on a CPU in Triton's interpreter."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from mmgwap.ops.triton import triton_interpreted


@pytest.fixture
def device():
    """The device to put tensors on; kernels are what its operators run."""
    pytest.importorskip('triton')
    has_gpu = torch.cuda.is_available()
    with nullcontext() if has_gpu else triton_interpreted():
        yield 'cuda' if has_gpu else 'cpu'


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items):
    """Where there is a GPU, tests that run a kernel are tests of it."""
    if torch.cuda.is_available():
        for item in items:
            if Path(__file__).parent in item.path.parents and 'device' in item.fixturenames:
                item.add_marker('gpu')
