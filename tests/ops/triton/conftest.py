"""The device that kernels run on: a GPU, or a CPU in Triton's interpreter."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from mmgwap.ops.triton import dispatch, triton_interpreted


@pytest.fixture
def device(monkeypatch):
    """Run kernels on tensors of this device, without the comparison at their first use.

    A wrong kernel has to fail a test rather than be replaced by the PyTorch form.
    """
    pytest.importorskip('triton')
    monkeypatch.setattr(dispatch, '_compare_first_use', False)
    has_gpu = torch.cuda.is_available()
    with nullcontext() if has_gpu else triton_interpreted():
        yield 'cuda' if has_gpu else 'cpu'


@pytest.hookimpl(tryfirst=True)  # before tests are selected by their marks
def pytest_collection_modifyitems(items):
    """Mark tests that run a kernel with `gpu` where there is a GPU."""
    if torch.cuda.is_available():
        for item in items:
            if Path(__file__).parent in item.path.parents and 'device' in item.fixturenames:
                item.add_marker('gpu')
