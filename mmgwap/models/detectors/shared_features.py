"""Running a detector on features that were computed before."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmdet.models.detectors import BaseDetector
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only


@contextmanager
def record_outputs(module: nn.Module) -> Iterator[list[Any]]:
    """Collect what a module returns, call by call."""
    outputs = []
    hook = module.register_forward_hook(lambda _, inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        hook.remove()


@contextmanager
def reuse_features(detector: BaseDetector, feats: Any) -> Iterator[None]:
    """Let a detector's methods take these features for those of their input.

    Every detector of mmdet calls ``extract_feat`` once, and goes on from what
    it returns.

    Raises:
        TypeError: if the detector never asked for them: it would have computed
            them anew, and from all images.
    """
    asked = []

    def extract_feat(_: Tensor) -> Any:
        asked.append(True)
        return feats

    detector.extract_feat = extract_feat
    try:
        yield
    finally:
        del detector.extract_feat
    if not asked:
        raise TypeError(
            f'{type(detector).__name__} does not call extract_feat'
            ' in this mode, so it cannot share its features'
        )


def select_images(batch: Any, chosen: list[int]) -> Any:
    """The chosen images of (nested) tensors whose first dimension they are."""
    return tree_map_only(Tensor, lambda x: x[chosen], batch)
