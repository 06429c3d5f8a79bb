"""Load samples, and skip or report image files that cannot be read.

One truncated file should not end a long training, and should not improve a measurement.
"""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Callable, Optional

import numpy as np
import torch
from mmcv.transforms import Compose, LoadImageFromFile
from mmengine.dataset import BaseDataset
from mmengine.fileio import get
from mmengine.logging import print_log
from PIL import Image, UnidentifiedImageError
from torch import Tensor

ON_BAD_IMAGE = ('error', 'skip')
UNKNOWN_SIDE = 32  # px; side of a blank image whose size the annotations do not give


class UnreadableImageMixin:
    """Mixin for a ``BaseDetDataset`` that handles unreadable image files.

    An image is unreadable if its file exists but Pillow cannot decode it completely: it is empty,
    truncated, not an image, or above Pillow's limit of pixels. A missing or protected file is
    always an error, because usually ``data_root`` is wrong.

    With ``on_bad_image='skip'`` each unreadable image is reported once in a warning, and

    * in training a random other image takes its place;
    * with ``test_mode`` a blank image takes its place, and its data sample has ``unreadable=True``
      in the metainfo. ``BadImagesHook`` is required: it drops the predictions for that image, so
      that all its objects count as missed.

    An unreadable image is only noticed if it makes the pipeline fail. Some versions of OpenCV, the
    default backend of ``LoadImageFromFile``, decode a truncated file to a half grey image. Set
    ``imdecode_backend='pillow'`` to avoid this.

    Args:
        on_bad_image (str): 'error' or 'skip'.

    Attributes:
        unreadable (Tensor): (len(self), ) uint8, 1 for each unreadable image found so far, in
            memory shared with loader workers. Only with ``on_bad_image='skip'``.

    Raises:
        ValueError: if ``on_bad_image`` has another value.
        RuntimeError: if a sample cannot be loaded; the message has the path of the image.
    """

    drops_predictions = False  # set by BadImagesHook

    def __init__(self, *args, on_bad_image: str = 'error', **kwargs) -> None:
        if on_bad_image not in ON_BAD_IMAGE:
            raise ValueError(f'on_bad_image must be one of {ON_BAD_IMAGE}, got {on_bad_image!r}')
        self.on_bad_image = on_bad_image
        super().__init__(*args, **kwargs)

    def full_init(self) -> None:
        if self._fully_initialized:
            return
        super().full_init()
        if self.on_bad_image == 'skip':
            self.unreadable = torch.zeros(len(self), dtype=torch.uint8).share_memory_()

    @property
    def bad_images(self) -> list[str]:
        """Paths of the unreadable images that this process and its workers found."""
        return unreadable_paths(self, self.unreadable) if self.on_bad_image == 'skip' else []

    def __getitem__(self, idx: int) -> dict:
        self.full_init()
        return load_sample(self, idx, 1 if self.test_mode else self.max_refetch + 1)

    def source_of(self, idx: int) -> tuple[BaseDataset, int, Callable]:
        """Return the data set of an image, its index there, and its pipeline."""
        return self, idx, self.pipeline

    def random_index_of_same_kind(self, idx: int) -> int:
        """Return the index of a random image that replaces image ``idx``."""
        return self._rand_another()


def load_sample(dataset, idx: int, max_tries: int) -> dict:
    """Load a sample; if an image has none, try random other images of the same kind.

    An image has no sample if its pipeline returns None, or if it is unreadable and skipped.

    Args:
        dataset: data set with ``get_data_info``, ``source_of`` and ``random_index_of_same_kind``.
        idx (int): index of the first image to try.
        max_tries (int): number of images to try.

    Raises:
        RuntimeError: if no image gave a sample, or a pipeline failed. The message has the path of
            the image.
    """
    for _ in range(max_tries):
        sample = _run_pipeline(dataset, idx)
        if sample is not None:
            return sample
        failed_idx, idx = idx, dataset.random_index_of_same_kind(idx)
    skipping = skipping_datasets(dataset)
    num_bad = sum(len(part.bad_images) for part in skipping)
    bad = f'; {num_bad} of {sum(map(len, skipping))} images could not be read' if num_bad else ''
    raise RuntimeError(
        f'the pipeline gave no sample in {max_tries} tries, the last for '
        f'{dataset.get_data_info(failed_idx).get("img_path")}{bad}'
    )


def _run_pipeline(dataset, idx: int) -> Optional[dict]:
    """Run the pipeline of an image; return None if another image has to replace it."""
    source, source_idx, pipeline = dataset.source_of(idx)
    info = dataset.get_data_info(idx)
    img_path = info.get('img_path')
    skips = getattr(source, 'on_bad_image', 'error') == 'skip'
    if not (skips and source.unreadable[source_idx]):
        try:
            with error_context(img_path):
                return pipeline(info)
        except RuntimeError:
            # Other data sets have no option to skip an image.
            checked = isinstance(source, UnreadableImageMixin)
            reason = checked and why_unreadable(img_path, source.backend_args)
            if not reason:
                raise
            _record(source, source_idx, img_path, reason)
    if not source.test_mode:
        return None
    with error_context(img_path):
        # The pipeline may have changed the first data info.
        return blank_sample(dataset.get_data_info(idx), pipeline)


def _record(dataset: UnreadableImageMixin, idx: int, img_path: str, reason: str) -> None:
    """Mark an image as unreadable and warn, or raise RuntimeError if it must not be skipped."""
    fix = ''
    if dataset.on_bad_image == 'error':
        fix = "repair the file, or set on_bad_image='skip'"
    elif dataset.test_mode and not dataset.drops_predictions:
        fix = (
            "on_bad_image='skip' with test_mode=True requires custom_hooks=[dict("
            "type='mmgwap.BadImagesHook')]; without the hook a blank image would be measured"
        )
    if fix:
        raise RuntimeError(f'cannot prepare {img_path}: {reason}; {fix}')
    dataset.unreadable[idx] = 1
    print_log(f'{img_path} cannot be read and is skipped: {reason}', 'current', logging.WARNING)


@contextmanager
def error_context(img_path: str) -> Iterator[None]:
    """Turn exceptions into a RuntimeError with the path of the image."""
    try:
        yield
    except Exception as error:
        raise RuntimeError(f'cannot prepare {img_path}: {type(error).__name__}: {error}') from error


def why_unreadable(path: str, backend_args: Optional[dict] = None) -> Optional[str]:
    """Return why the content of a file cannot be decoded as an image.

    Args:
        path (str): path of the file.
        backend_args (dict): arguments of mmengine's file backend.

    Returns:
        str: None if Pillow decodes the file completely, or if its content cannot be read because
        it is missing, a folder or protected.
    """
    try:
        content = get(path, backend_args=backend_args)
    except Exception:  # each backend has its own exceptions
        return None
    if not content:
        return 'the file is empty'
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except MemoryError:
        return None
    except UnidentifiedImageError:
        return 'not an image format that Pillow reads'
    except Exception as error:  # each format has its own exceptions
        return f'{type(error).__name__}: {error}'
    return None


def blank_sample(info: dict, pipeline: Compose) -> dict:
    """Run a pipeline on a black image.

    Args:
        info (dict): data info of the image. ``width`` and ``height`` give the size of the black
            image.
        pipeline (Compose): pipeline with a ``LoadImageFromFile`` that ends in ``PackDetInputs``,
            or in mmcv's ``TestTimeAug`` around it.

    Returns:
        dict: the sample, with ``unreadable=True`` in the metainfo of its data samples.

    Raises:
        ValueError: if the pipeline does not load an image from a file or does not pack it.
    """
    data, loaded = info, False
    for transform in pipeline.transforms:
        if isinstance(transform, LoadImageFromFile):
            data, loaded = _load_black(transform, data), True
        else:
            data = transform(data)
    if not loaded or 'data_samples' not in data:
        raise ValueError(
            "on_bad_image='skip' with test_mode=True requires a pipeline that has "
            'LoadImageFromFile and ends in PackDetInputs, got '
            f'{[type(transform).__name__ for transform in pipeline.transforms]}'
        )
    samples = data['data_samples']
    for sample in samples if isinstance(samples, list) else [samples]:
        sample.set_metainfo(dict(unreadable=True))
    return data


def _load_black(loader: LoadImageFromFile, info: dict) -> dict:
    # Some labelling tools write 0 for an unknown size.
    shape = info.get('height') or UNKNOWN_SIDE, info.get('width') or UNKNOWN_SIDE
    grey = loader.color_type.startswith('grayscale')
    image = np.zeros(shape if grey else (*shape, 3), np.float32 if loader.to_float32 else np.uint8)
    return dict(info, img=image, img_shape=shape, ori_shape=shape)


def skipping_datasets(dataset) -> list[UnreadableImageMixin]:
    """Find the data sets with ``on_bad_image='skip'`` inside of any wrappers."""
    if isinstance(dataset, UnreadableImageMixin):
        return [dataset] if dataset.on_bad_image == 'skip' else []
    # num_batch_per_epoch wraps a data set and forwards unknown attributes, so look there first.
    for name in ('_dataset', 'dataset'):
        if hasattr(dataset, name):
            return skipping_datasets(getattr(dataset, name))
    return [part for each in getattr(dataset, 'datasets', ()) for part in skipping_datasets(each)]


def unreadable_paths(dataset: UnreadableImageMixin, unreadable: Tensor) -> list[str]:
    """Return the paths of unreadable images.

    Args:
        dataset: data set that holds the images.
        unreadable (Tensor): (len(dataset), ), nonzero for unreadable images.
    """
    return [
        dataset.get_data_info(idx)['img_path'] for idx in unreadable.nonzero().flatten().tolist()
    ]
