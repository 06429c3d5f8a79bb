"""Images to look at, from files or from a data set of a config."""

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

SETS = dict(val='val_dataloader', test='test_dataloader', train='train_dataloader')


class Picture(NamedTuple):
    """An image on its way through the model.

    Attributes:
        name: of its files.
        path: where it is.
        image: (H, W, 3), uint8, RGB, as the pipeline loads it.
        data: what the model takes, a batch of one.
        labels: the true classes, None if they are not known.
        boxes: the true boxes of each class, (N, 4), in the original image.
    """

    name: str
    path: str
    image: np.ndarray
    data: dict
    labels: Optional[list[int]]
    boxes: dict[int, np.ndarray]


def pictures(source: str, cfg: Config, limit: Optional[int] = None) -> Iterator[Picture]:
    """Images of a source, with a progress bar.

    All pass the pipeline of testing, since what crops or mixes images moves
    them away from their maps.

    Args:
        source (str): a file, a folder, or one of ``SETS``.
        cfg (Config): with the pipeline, and the data sets.
        limit (int): no more than these, spread over the source.
    """
    steps = get_test_pipeline_cfg(cfg.copy())
    # Some pipelines turn an image by its EXIF orientation, and some don't.
    load = Compose(steps[:1])
    if source in SETS:
        found = _of_data_set(cfg[SETS[source]].dataset, steps, limit)
    else:
        found = _of_files(_files(Path(source), limit), Compose(steps))
    for name, path, data, labels, boxes in found:
        image = load(dict(img_path=path))['img'][..., ::-1]
        yield Picture(name, path, image, pseudo_collate([data]), labels, boxes)


def spread(count: int, limit: Optional[int]) -> np.ndarray:
    """Places spread over so many: neighbours may be frames of one scene."""
    wanted = min(count, limit or count)
    return np.linspace(0, count - 1, wanted).astype(int)


def _of_data_set(cfg: ConfigDict, steps: list, limit: Optional[int]) -> Iterator[tuple]:
    dataset = DATASETS.build(_with_pipeline(cfg.copy(), steps))
    known = (
        read_wsol_metadata(dataset.metadata_root).boxes if isinstance(dataset, WSOLDataset) else {}
    )
    names = _Names()
    for i in tqdm(spread(len(dataset), limit), unit='image'):
        info, data = dataset.get_data_info(int(i)), dataset[int(i)]
        try:
            labels = image_labels(data['data_samples'])[0].tolist()
        except ValueError:
            labels = None
        boxes = _boxes(info.get('instances', ()))
        if info.get('img_id') in known:  # whose lower right corners are inside
            boxes[labels[0]] = known[info['img_id']] + [0, 0, 1, 1]
        # An id that is no number is a path below the folder of the images.
        path = (
            info['img_id'] if isinstance(info.get('img_id'), str) else Path(info['img_path']).name
        )
        yield names.of(path), info['img_path'], data, labels, boxes


def _with_pipeline(cfg: ConfigDict, steps: list) -> ConfigDict:
    """A data set, within any wrappers, as for testing."""
    if 'pipeline' in cfg:
        cfg.update(pipeline=steps, test_mode=True)
    cfg.pop('label_pipeline', None)
    for part in [cfg.dataset] if 'dataset' in cfg else cfg.get('datasets', ()):
        _with_pipeline(part, steps)
    return cfg


def _boxes(instances: list[dict]) -> dict[int, np.ndarray]:
    boxes = {}
    for one in instances:
        if not one.get('ignore_flag'):
            boxes.setdefault(one['bbox_label'], []).append(one['bbox'])
    return {label: np.array(each) for label, each in boxes.items()}


def _of_files(files: dict[str, Path], pipeline: Compose) -> Iterator[tuple]:
    for name, path in tqdm(files.items(), unit='image'):
        data = pipeline(dict(img_path=str(path), img_id=name))
        yield name, str(path), data, None, {}


def _files(path: Path, limit: Optional[int]) -> dict[str, Path]:
    """Images by unique names."""
    if not path.exists():
        sys.exit(f'{path}: neither an image, nor a folder, nor one of {", ".join(SETS)}')
    names = _Names()
    if path.is_file():
        return {names.of(path.name): path}
    found = sorted(one for one in path.rglob('*') if one.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        sys.exit(f'{path}: holds no images')
    return {names.of(str(found[i].relative_to(path))): found[i] for i in spread(len(found), limit)}


class _Names:
    """Names of files, no two alike."""

    def __init__(self) -> None:
        self.counts = {}

    def of(self, path: str) -> str:
        name = path.replace('/', '_').replace('.', '_')
        count = self.counts[name] = self.counts.get(name, 0) + 1
        return name if count == 1 else f'{name}_{count}'
