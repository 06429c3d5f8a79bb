"""Bad images: told over all processes, and never measured as right."""

from pathlib import Path
from typing import Any

import torch
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
MISSED = 'count as if nothing were found on them'


@HOOKS.register_module()
class BadImagesHook(Hook):
    """What data sets with ``on_bad_image='skip'`` need; else it does nothing.

    * After each epoch, before each validation and at the end of the training
      it warns of how many training images could not be read, on any process;
      after a validation or test, how many of those were.
    * ``bad_images.txt``, beside the log, lists the paths of all, a line each.
    * In validation and test it drops what the model predicts of such an
      image, before any metric sees it: there are no boxes, no maps, and all
      image-level scores are 0.

    A data set that is measured without the hook stops at its first bad image.

    Raises:
        ValueError: if a data set that skips is measured without
            ``test_mode=True``: other images would take the place of bad ones.
        TypeError: if a prediction is neither of instances nor of image labels.
    """

    def __init__(self) -> None:
        self._train: list[UnreadableImageMixin] = []
        self._measured: list[UnreadableImageMixin] = []
        self._handle = None
        self._paths = {}  # of each loop

    def before_train(self, runner: Runner) -> None:
        self._train = skipping_datasets(runner.train_loop.dataloader.dataset)

    def after_train_epoch(self, runner: Runner) -> None:
        self._tell(runner, 'train', self._train, SKIPPED)

    def after_train(self, runner: Runner) -> None:
        self._tell(runner, 'end of training', self._train, SKIPPED)

    def before_val(self, runner: Runner) -> None:
        self._tell(runner, 'train', self._train, SKIPPED)
        self._begin(runner, runner.val_loop)

    def after_val(self, runner: Runner) -> None:
        self._end(runner, 'val')

    def before_test(self, runner: Runner) -> None:
        self._begin(runner, runner.test_loop)

    def after_test(self, runner: Runner) -> None:
        self._end(runner, 'test')

    def _begin(self, runner: Runner, loop: BaseLoop) -> None:
        self._measured = skipping_datasets(loop.dataloader.dataset)
        for dataset in self._measured:
            if not dataset.test_mode:
                raise ValueError(
                    f"{dataset.ann_file}: on_bad_image='skip' would measure "
                    'other images instead of bad ones; set test_mode=True'
                )
            # The loader's workers, which start later, get a copy.
            dataset.drops_predictions = True
        if self._measured:
            self._handle = _predicting(runner.model).register_forward_hook(_drop_predictions)

    def _end(self, runner: Runner, name: str) -> None:
        if self._measured:
            self._handle.remove()
            self._tell(runner, name, self._measured, MISSED)

    def _tell(
        self, runner: Runner, name: str, datasets: list[UnreadableImageMixin], fate: str
    ) -> None:
        """Log bad images of all processes, which all have to call it."""
        found = []
        for dataset in datasets:
            unreadable = dataset.unreadable.clone()
            all_reduce(unreadable, 'max')
            found += unreadable_paths(dataset, unreadable)
        if not found:
            return
        self._paths[name] = found
        # The logger leaves a warning out that it gave before.
        runner.logger.warning(
            f'{name}: {len(found)} of {sum(map(len, datasets))} images could '
            f'not be read and {fate}, such as {found[0]}'
        )
        if is_main_process():
            every = dict.fromkeys(sum(self._paths.values(), []))
            Path(runner.log_dir, 'bad_images.txt').write_text(
                ''.join(f'{path}\n' for path in every)
            )


def _predicting(model: nn.Module) -> nn.Module:
    """The model whose ``forward`` predicts, in whatever wrappers."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def _drop_predictions(model: nn.Module, args: tuple, output: Any) -> None:
    """A forward hook: forget what is said of a blank image."""
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
