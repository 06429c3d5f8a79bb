"""What the data set tests share."""

import logging

import pytest
from mmengine.logging import MMLogger


@pytest.fixture
def warnings():
    """Messages of mmengine's current logger."""
    messages = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)
