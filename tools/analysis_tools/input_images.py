"""Load images for a model from files or from a data set of its config."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
from mmcv.transforms import Compose
from mmdet.registry import DATASETS
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from tqdm import tqdm

from mmgwap.datasets import WSOLDataset
from mmgwap.datasets.files import IMAGE_SUFFIXES
from mmgwap.datasets.wsol_metadata import read_wsol_metadata
from mmgwap.structures import image_labels

LOADERS = dict(val='val_dataloader', test='test_dataloader', train='train_dataloader')


class InputImage(NamedTuple):
    """An image and its input to the model.

    Attributes:
        name: unique name for output files.
        path: path of the image file.
        pixels: (H, W, 3), uint8, RGB, as loaded by the pipeline.
        data: batch of this image for ``model.test_step``.
        labels: true classes, or None if unknown.
        boxes: true boxes (N, 4) of each class, in pixels of the original image.
    """

    name: str
    path: str
    pixels: np.ndarray
    data: dict
    labels: Optional[list[int]] = None
    boxes: dict[int, np.ndarray] = {}


def load_images(source: str, cfg: Config, limit: Optional[int] = None) -> Iterator[InputImage]:
    """Yield the images of a source, with a progress bar.

    All images pass the test pipeline: a training pipeline may crop or mix them, which moves
    them away from their maps.

    Args:
        source (str): a file, a folder, or a key of ``LOADERS``.
        cfg (Config): config with the pipeline and the data sets.
        limit (int): maximum number of images, spread over the source.
    """
    steps = get_test_pipeline_cfg(cfg.copy())
    # The first step decides whether an image is turned by its EXIF orientation.
    read = Compose(steps[:1])
    if source in LOADERS:
        found = _from_dataset(cfg[LOADERS[source]].dataset, steps, limit)
    else:
        found = _from_files(_find_files(Path(source)), Compose(steps), limit)
    names = {}
    for name, path, data, *truth in found:
        name = name.replace('/', '_').replace('.', '_')
        names[name] = names.get(name, 0) + 1
        unique = name if names[name] == 1 else f'{name}_{names[name]}'
        pixels = read(dict(img_path=path))['img'][..., ::-1]
        yield InputImage(unique, path, pixels, pseudo_collate([data]), *truth)


def _spread(count: int, limit: Optional[int]) -> Iterator[int]:
    """Yield at most `limit` evenly spaced indices: neighbours may be frames of one scene."""
    indices = np.linspace(0, count - 1, min(count, limit or count)).astype(int)
    return (int(index) for index in tqdm(indices, unit='image'))


def _from_dataset(cfg: ConfigDict, steps: list, limit: Optional[int]) -> Iterator[tuple]:
    """Yield name, path, model input, labels and boxes of images of a data set."""
    dataset = DATASETS.build(_set_pipeline(cfg.copy(), steps))
    wsol = isinstance(dataset, WSOLDataset)
    wsol_boxes = read_wsol_metadata(dataset.metadata_root).boxes if wsol else {}
    for index in _spread(len(dataset), limit):
        info, data = dataset.get_data_info(index), dataset[index]
        try:
            labels = image_labels(data['data_samples'])[0].tolist()
        except ValueError:
            labels = None
        boxes = _group_boxes(info.get('instances', ()))
        if info.get('img_id') in wsol_boxes:  # their lower right pixel is inside
            boxes[labels[0]] = wsol_boxes[info['img_id']] + [0, 0, 1, 1]
        # WSOLDataset: the id is the path below the folder of the images.
        has_path = isinstance(info.get('img_id'), str)
        name = info['img_id'] if has_path else Path(info['img_path']).name
        yield name, info['img_path'], data, labels, boxes


def _set_pipeline(cfg: ConfigDict, steps: list) -> ConfigDict:
    """Set the pipeline and ``test_mode`` of a data set and of the data sets that it wraps."""
    if 'pipeline' in cfg:
        cfg.update(pipeline=steps, test_mode=True)
    cfg.pop('label_pipeline', None)
    for part in [cfg.dataset] if 'dataset' in cfg else cfg.get('datasets', ()):
        _set_pipeline(part, steps)
    return cfg


def _group_boxes(instances: list[dict]) -> dict[int, np.ndarray]:
    """Return the boxes of each class, without ignored boxes."""
    boxes = {}
    for instance in instances:
        if not instance.get('ignore_flag'):
            boxes.setdefault(instance['bbox_label'], []).append(instance['bbox'])
    return {label: np.array(each) for label, each in boxes.items()}


def _from_files(files: dict[str, Path], pipeline: Compose, limit: Optional[int]) -> Iterator[tuple]:
    """Yield name, path and model input of image files."""
    names = list(files)
    for index in _spread(len(names), limit):
        name, path = names[index], str(files[names[index]])
        yield name, path, pipeline(dict(img_path=path, img_id=name))


def _find_files(path: Path) -> dict[str, Path]:
    """Return the image files of a path by their names below it."""
    if path.is_file():
        return {path.name: path}
    if not path.exists():
        sys.exit(f'{path}: not an image, a folder, or one of {", ".join(LOADERS)}')
    found = sorted(file for file in path.rglob('*') if file.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        sys.exit(f'{path}: holds no images ({", ".join(sorted(IMAGE_SUFFIXES))})')
    return {str(file.relative_to(path)): file for file in found}
