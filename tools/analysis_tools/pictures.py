"""Images to look at, from files or from a data set of a config."""
import sys
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional

import numpy as np
from mmcv.transforms import Compose
from mmdet.registry import DATASETS
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from tqdm import tqdm

from mmgwap.datasets import WSOLDataset
from mmgwap.datasets.image_label_readers import IMAGES
from mmgwap.datasets.wsol_metadata import read_wsol_metadata
from mmgwap.structures import image_labels

SETS = dict(val='val_dataloader', test='test_dataloader',
            train='train_dataloader')


class Picture(NamedTuple):
    """An image on its way through the model.

    Attributes:
        name: of its files.
        path: where it is.
        data: what the model takes, a batch of one.
        labels: the true classes, None if they are not known.
        boxes: the true boxes of each class, (N, 4), in the original image.
    """
    name: str
    path: str
    data: dict
    labels: Optional[List[int]]
    boxes: Dict[int, np.ndarray]


def pictures(source: str, cfg: Config,
             limit: Optional[int] = None) -> Iterator[Picture]:
    """Images of a source, with a progress bar.

    Args:
        source (str): a file, a folder, or one of ``SETS``.
        cfg (Config): with the pipeline, and the data sets.
        limit (int): no more than these, spread over the source.
    """
    if source in SETS:
        yield from _of_data_set(cfg[SETS[source]].dataset, limit)
        return
    pipeline = Compose(get_test_pipeline_cfg(cfg.copy()))
    for name, path in _files(Path(source), limit).items():
        data = pipeline(dict(img_path=str(path), img_id=name))
        yield Picture(name, str(path), pseudo_collate([data]), None, {})


def spread(count: int, limit: Optional[int]) -> np.ndarray:
    """Places spread over so many: neighbours may be frames of one scene."""
    wanted = min(count, limit or count)
    return np.linspace(0, count - 1, wanted).astype(int)


def _of_data_set(cfg: dict, limit: Optional[int]) -> Iterator[Picture]:
    dataset = DATASETS.build(cfg)
    known = read_wsol_metadata(dataset.metadata_root).boxes \
        if isinstance(dataset, WSOLDataset) else {}
    for i in tqdm(spread(len(dataset), limit), unit='image'):
        info = dataset.get_data_info(int(i))
        data = dataset[int(i)]
        sample = data['data_samples']
        # An id that is no number is a path below the folder of the images.
        path = info['img_id'] if isinstance(info.get('img_id'), str) \
            else Path(info['img_path']).name
        name = str(Path(path).with_suffix('')).replace('/', '_')
        try:
            labels = image_labels(sample)[0].tolist()
        except ValueError:
            labels = None
        boxes = _boxes(info.get('instances', ()))
        if info.get('img_id') in known:  # whose lower right corners are inside
            boxes[labels[0]] = known[info['img_id']] + [0, 0, 1, 1]
        yield Picture(name, info['img_path'], pseudo_collate([data]), labels,
                      boxes)


def _boxes(instances: List[dict]) -> Dict[int, np.ndarray]:
    boxes = {}
    for one in instances:
        boxes.setdefault(one['bbox_label'], []).append(one['bbox'])
    return {label: np.array(each) for label, each in boxes.items()}


def _files(path: Path, limit: Optional[int]) -> Dict[str, Path]:
    """Images by unique names."""
    if not path.exists():
        sys.exit(f'{path}: neither an image, nor a folder, nor one of '
                 f'{", ".join(SETS)}')
    if path.is_file():
        return {path.stem: path}
    found = sorted(one for one in path.rglob('*')
                   if one.suffix.lower() in IMAGES)
    if not found:
        sys.exit(f'{path}: holds no images')
    found = [found[i] for i in spread(len(found), limit)]
    return {str(one.relative_to(path)).replace('/', '_').replace('.', '_'): one
            for one in tqdm(found, unit='image')}
