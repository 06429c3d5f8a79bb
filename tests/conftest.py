"""Marks and places that tests share."""
import os
from pathlib import Path

import pytest
import torch


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if 'gpu' in item.keywords:
            item.add_marker(pytest.mark.skip(reason='needs a CUDA device'))


@pytest.fixture(scope='session')
def repo() -> Path:
    return Path(__file__).resolve().parents[1]


@pytest.fixture
def cards() -> Path:
    """Real photographs in VOC layout, for trials; not part of the product."""
    root = Path(os.environ.get('MMGWAP_TRIAL_DATA', '')) / 'cards'
    if not os.environ.get('MMGWAP_TRIAL_DATA') or not root.is_dir():
        pytest.skip('set MMGWAP_TRIAL_DATA to a folder that holds cards/')
    return root
