"""Report the unreadable images of all processes, and drop the predictions on them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.engine.hooks import DetVisualizationHook
from mmdet.structures import DetDataSample
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from mmengine.structures import BaseDataElement, InstanceData
from torch import nn

from mmgwap.datasets.unreadable_images import (
    UnreadableImageMixin,
    skipping_datasets,
    unreadable_paths,
)
from mmgwap.registry import HOOKS

SKIPPED = 'were skipped'
MISSED = 'count as images without detections'


@HOOKS.register_module()
class BadImagesHook(Hook):
    """Support data sets with ``on_bad_image='skip'``; other data sets are not affected.

    * After each epoch, before each validation and at the end of the training, the hook warns how
      many training images could not be read by any process. After a validation or test, it warns
      how many images of that data set could not be read.
    * ``bad_images.txt`` beside the log lists the paths, one path a line.
    * In validation and test, predictions on unreadable images are dropped before metrics are
      computed: no boxes, no maps, and image-level scores of 0. A forward hook of the model does
      this.

    Without this hook, validation and test stop at the first unreadable image.

    Raises:
        ValueError: if a data set that skips images is measured without ``test_mode=True``, since
            other images would replace the unreadable images.
        TypeError: if a prediction is neither instances nor image labels.
    """

    def __init__(self) -> None:
        self._train: list[UnreadableImageMixin] = []
        self._measured: list[UnreadableImageMixin] = []
        self._handle = None
        self._paths = {}  # unreadable images by name of the loop

    def before_train(self, runner: Runner) -> None:
        self._train = skipping_datasets(runner.train_loop.dataloader.dataset)

    def after_train_epoch(self, runner: Runner) -> None:
        self._report(runner, 'train', self._train, SKIPPED)

    def after_train(self, runner: Runner) -> None:
        self._report(runner, 'end of training', self._train, SKIPPED)

    def before_val(self, runner: Runner) -> None:
        self._report(runner, 'train', self._train, SKIPPED)
        self._start_measuring(runner, runner.val_loop)

    def after_val(self, runner: Runner) -> None:
        self._stop_measuring(runner, 'val')

    def before_test(self, runner: Runner) -> None:
        self._start_measuring(runner, runner.test_loop)

    def after_test(self, runner: Runner) -> None:
        self._stop_measuring(runner, 'test')

    def _start_measuring(self, runner: Runner, loop: BaseLoop) -> None:
        self._measured = skipping_datasets(loop.dataloader.dataset)
        for dataset in self._measured:
            if not dataset.test_mode:
                raise ValueError(
                    f"{dataset.ann_file}: on_bad_image='skip' without test_mode=True would measure "
                    'other images instead of unreadable images; set test_mode=True'
                )
            # Loader workers start later and copy this attribute.
            dataset.drops_predictions = True
        if self._measured:
            self._handle = _unwrap(runner.model).register_forward_hook(_drop_predictions)

    def _stop_measuring(self, runner: Runner, name: str) -> None:
        if self._measured:
            self._handle.remove()
            self._report(runner, name, self._measured, MISSED)

    def _report(
        self, runner: Runner, name: str, datasets: list[UnreadableImageMixin], fate: str
    ) -> None:
        """Log the unreadable images of all processes; all processes have to call this."""
        found = []
        for dataset in datasets:
            unreadable = dataset.unreadable.clone()
            all_reduce(unreadable, 'max')
            found += unreadable_paths(dataset, unreadable)
        if not found:
            return
        self._paths[name] = found
        # The logger drops repeated warnings.
        runner.logger.warning(
            f'{name}: {len(found)} of {sum(map(len, datasets))} images could '
            f'not be read and {fate}, such as {found[0]}'
        )
        if is_main_process():
            all_paths = dict.fromkeys(sum(self._paths.values(), []))
            Path(runner.log_dir, 'bad_images.txt').write_text(
                ''.join(f'{path}\n' for path in all_paths)
            )


def _unwrap(model: nn.Module) -> nn.Module:
    """Return the model whose ``forward`` predicts, inside of any wrappers."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def _drop_predictions(model: nn.Module, args: tuple, output: Any) -> None:
    """Drop the predictions on unreadable images; a forward hook."""
    if not isinstance(output, (list, tuple)):
        return
    for sample in output:
        if isinstance(sample, BaseDataElement) and sample.get('unreadable'):
            for name in [key for key in sample.keys() if key.startswith('pred_')]:
                _drop(sample, name)


def _drop(sample: BaseDataElement, name: str) -> None:
    value = sample.get(name)
    if isinstance(value, InstanceData):
        setattr(sample, name, value[:0])
    elif name == 'pred_image_scores':
        setattr(sample, name, torch.zeros_like(value))
    elif name == 'pred_image_maps':
        sample.pop(name)
    else:
        raise TypeError(
            f"{sample.get('img_path')}: on_bad_image='skip' cannot measure "
            f"{name}; set on_bad_image='error'"
        )


@HOOKS.register_module()
class ReadableVisualizationHook(DetVisualizationHook):
    """mmdet's ``DetVisualizationHook`` without unreadable images, which it cannot draw."""

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[DetDataSample]
    ) -> None:
        readable = _readable(outputs)
        if readable:
            super().after_val_iter(runner, batch_idx, data_batch, readable)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[DetDataSample]
    ) -> None:
        super().after_test_iter(runner, batch_idx, data_batch, _readable(outputs))


def _readable(samples: Sequence[DetDataSample]) -> list[DetDataSample]:
    return [sample for sample in samples if not sample.get('unreadable')]
