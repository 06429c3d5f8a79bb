"""Pictures of what a model finds, of the images that can be read."""

from collections.abc import Sequence

from mmdet.engine.hooks import DetVisualizationHook
from mmdet.structures import DetDataSample
from mmengine.runner import Runner

from mmgwap.registry import HOOKS


@HOOKS.register_module()
class ReadableVisualizationHook(DetVisualizationHook):
    """mmdet's ``DetVisualizationHook``, which reads each image once more.

    Images that ``on_bad_image='skip'`` left out can't be, and are not drawn.
    """

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[DetDataSample]
    ) -> None:
        readable = [one for one in outputs if not one.get('unreadable')]
        if readable:
            super().after_val_iter(runner, batch_idx, data_batch, readable)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[DetDataSample]
    ) -> None:
        readable = [one for one in outputs if not one.get('unreadable')]
        super().after_test_iter(runner, batch_idx, data_batch, readable)
