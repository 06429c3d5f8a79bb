import pytest

from .helpers import captured_log


@pytest.fixture
def warnings():
    """Warnings of mmengine's current logger."""
    with captured_log() as messages:
        yield messages
