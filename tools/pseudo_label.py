"""Find pseudo boxes of the training images that have labels only.

The detector runs on the images of the config's train_dataloader that have no boxes, with the test
pipeline. Boxes of absent classes are removed. The other boxes must reach --score-thr, and the best
box of each present class --best-score. With the result, a round of self-training is two commands:

    python tools/pseudo_label.py CONFIG CHECKPOINT --out boxes.json
    python tools/train.py TEACHER_CONFIG --cfg-options model.boxes=file \\
        train_dataloader.dataset.pseudo_boxes=boxes.json

--coco writes all training images as an ordinary COCO data set: the true boxes of images that have
boxes, the pseudo boxes of the others, with their scores. People can correct it in Label Studio or
CVAT. To train on it, set ann_file, data_prefix and filter_cfg=dict(filter_empty_gt=True): an image
on which no box was found is not empty.
"""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

import torch
from mmcv import imfrombytes
from mmcv.transforms import Compose
from mmdet.apis import init_detector
from mmdet.models.detectors import BaseDetector
from mmdet.registry import DATASETS
from mmdet.utils import get_test_pipeline_cfg, register_all_modules
from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset, ConcatDataset, pseudo_collate
from mmengine.fileio import get
from mmengine.structures import InstanceData
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from mmgwap.checkpoint import safe_checkpoints
from mmgwap.datasets import ImageLabelDataset, PartialBoxDataset
from mmgwap.datasets.partial_box import categories_of
from mmgwap.models.detectors import LabelGuidedTeacher
from mmgwap.models.detectors.class_masks import mask_classes, supports_class_masks
from mmgwap.models.detectors.inner_detector import inner_detector
from mmgwap.models.task_modules import select_boxes


class Source(NamedTuple):
    """Folder of the images of a data set, and the category id of each label."""

    folder: str
    category_ids: list


class TrainingImage(NamedTuple):
    """A training image.

    Attributes:
        id, path: id and path of the image in its data set.
        source: its data set.
        size: (width, height), 0 if the data set does not know it.
        instances: boxes of the image as in mmdet's data infos; None if it has labels only.
        present, unknown: labels of the classes that are, or may be, on an image without boxes.
    """

    id: object
    path: str
    source: Source
    size: tuple[int, int]
    instances: Optional[list[dict]]
    present: Sequence[int]
    unknown: Sequence[int]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'config',
        type=Path,
        help='config of a detector, MultiTaskDetector or LabelGuidedTeacher, whose training data '
        'contain a PartialBoxDataset (boxes_only=True does not matter) or an ImageLabelDataset',
    )
    parser.add_argument('checkpoint', help='checkpoint for the config')
    parser.add_argument(
        '--out', type=Path, required=True, help='COCO results to write, for pseudo_boxes=...'
    )
    parser.add_argument('--coco', type=Path, help='COCO file of all training images to write')
    for name, default, text in (
        ('--score-thr', 0.5, 'minimum score'),
        ('--best-score', 0.1, 'minimum score of the best box of a present class'),
    ):
        parser.add_argument(name, type=float, default=default, help=f'{text} (default: {default})')
    parser.add_argument(
        '--no-labels',
        action='store_true',
        help='do not use the labels, for comparison: boxes of any class that reach --score-thr',
    )
    parser.add_argument('--batch-size', type=int, default=8, help='default: %(default)s')
    parser.add_argument(
        '--workers', type=int, default=2, help='processes that load images (default: %(default)s)'
    )
    parser.add_argument('--device', default='cpu', help='default: %(default)s')
    args = parser.parse_args()
    for name in ('score_thr', 'best_score'):
        if not 0 <= getattr(args, name) <= 1:
            parser.error(f'--{name.replace("_", "-")} must be in [0, 1], got {getattr(args, name)}')
    return args


def find_images(cfg: Config, where: Path) -> tuple[list[TrainingImage], tuple[str, ...]]:
    """Return the images and the classes of the train_dataloader of a config.

    Ends the process if no image lacks boxes, or several images have the same id.
    """
    dataset_cfg = cfg.train_dataloader.dataset.copy()
    _use_all_images(dataset_cfg)
    dataset = DATASETS.build(dataset_cfg)
    dataset.full_init()
    images = list(_images_of(dataset))
    if all(image.instances is not None for image in images):
        sys.exit(
            f'{where}: all {len(images)} training images have boxes; train_dataloader must have a '
            'PartialBoxDataset or an ImageLabelDataset'
        )
    repeated, count = Counter(str(image.id) for image in images).most_common(1)[0]
    if count > 1:
        sys.exit(
            f'{where}: {count} training images have the id {repeated!r}; a results file needs '
            'unique ids'
        )
    return images, dataset.metainfo['classes']


def _use_all_images(cfg: ConfigDict) -> None:
    """Keep images without boxes, and do not read the file that is about to be written."""
    for key in ('pseudo_boxes', 'boxes_only'):
        cfg.pop(key, None)
    for part in [cfg.dataset] if 'dataset' in cfg else cfg.get('datasets', ()):
        _use_all_images(part)


def _images_of(dataset: Dataset) -> Iterator[TrainingImage]:
    if isinstance(dataset, ConcatDataset):
        for part in dataset.datasets:
            yield from _images_of(part)
        return
    is_partial = isinstance(dataset, PartialBoxDataset)
    if not is_partial and not isinstance(dataset, BaseDataset):
        yield from _images_of(dataset.dataset)  # RepeatDataset and the like
        return
    sources = {}
    for index in range(len(dataset)):
        base = dataset.source_of(index)[0] if is_partial else dataset
        if id(base) not in sources:
            sources[id(base)] = _source(base)
        info = dataset.get_data_info(index)
        yield TrainingImage(
            info['img_id'],
            info['img_path'],
            sources[id(base)],
            (info.get('width', 0), info.get('height', 0)),
            info['instances'] if info.get('has_boxes', True) else None,
            info.get('image_labels', ()),
            info.get('ignored_image_labels', ()),
        )


def _source(dataset: BaseDataset) -> Source:
    is_image_label = isinstance(dataset, ImageLabelDataset)
    by_id = (dataset.categories() if is_image_label else categories_of(dataset)).by_id
    ids = {label: category_id for category_id, label in by_id.items()}
    # Data sets without category ids count from 1, as COCO does.
    ids = [ids.get(label, label + 1) for label in range(len(dataset.metainfo['classes']))]
    prefix = dataset.data_prefix
    folder = prefix.get('img') or prefix.get('img_path') or prefix.get('sub_data_root')
    return Source(os.path.abspath(folder or '.'), ids)


class TestImages(Dataset):
    """Images after the test pipeline."""

    def __init__(self, images: list[TrainingImage], pipeline: Compose) -> None:
        self.images, self.pipeline = images, pipeline

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        image = self.images[index]
        try:
            return self.pipeline(dict(img_path=image.path, img_id=image.id, instances=[]))
        except Exception as error:  # each image format has its own exceptions
            raise RuntimeError(f'{image.path}: cannot be loaded: {error}') from error


def plain_detector(model: BaseDetector) -> BaseDetector:
    """Return the detector that predicts in a teacher or in a multi-task detector."""
    if isinstance(model, LabelGuidedTeacher):
        model = getattr(model, model.semi_test_cfg['predict_on'])
    return inner_detector(model)


@torch.no_grad()
def find_pseudo_boxes(
    model: BaseDetector, loader: DataLoader, count: int, args: argparse.Namespace
) -> Iterator[tuple[InstanceData, tuple[int, int]]]:
    """Yield the pseudo boxes of each image, in pixels of its file, and its size (height, width).

    Args:
        model (nn.Module): trained model.
        loader (DataLoader): batches of ``TestImages``.
        count (int): number of classes.
        args (argparse.Namespace): options of the tool.
    """
    detector = plain_detector(model)
    maskable = supports_class_masks(detector)
    thresholds = torch.full((count,), args.score_thr)
    waiting = iter(loader.dataset.images)
    with tqdm(total=len(loader.dataset), unit='image') as bar:
        for batch in loader:
            data = model.data_preprocessor(batch, False)
            inputs, samples = data['inputs'], data['data_samples']
            labels = torch.stack([_labels(next(waiting), count, args.no_labels) for _ in samples])
            with mask_classes(detector, (labels == 0).to(inputs.device) & maskable):
                predictions = detector.predict(inputs, samples, rescale=True)
            for known, sample in zip(labels, predictions):
                boxes = sample.pred_instances.cpu()
                yield select_boxes(boxes, thresholds, known, args.best_score), sample.ori_shape
            bar.update(len(samples))


def _labels(image: TrainingImage, count: int, blind: bool) -> Tensor:
    """Return (K, ): 1 for present, 0 for absent, -1 for unknown classes."""
    if blind:
        return torch.full((count,), -1.0)
    labels = torch.zeros(count)
    labels[list(image.unknown)] = -1
    labels[list(image.present)] = 1
    return labels


def to_results(image: TrainingImage, boxes: InstanceData, classes: Sequence[str]) -> list[dict]:
    """Return boxes as COCO results, to 0.01 px."""
    columns = boxes.bboxes.tolist(), boxes.labels.tolist(), boxes.scores.tolist()
    return [
        dict(
            image_id=image.id,
            category_id=image.source.category_ids[label],
            category_name=classes[label],
            bbox=_xywh(box),
            score=round(score, 5),
        )
        for box, label, score in zip(*columns)
    ]


def _xywh(box: list[float]) -> list[float]:
    x1, y1, x2, y2 = (round(value, 2) for value in box)
    return [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)]


class CocoWriter:
    """Collect all images and boxes for a COCO file.

    Images keep their ids if all ids are integers, else ids count from 1. Categories have the ids of
    the first data set. File names are relative to ``folder``.
    """

    def __init__(self, images: list[TrainingImage], classes: Sequence[str]) -> None:
        self.keeps_ids = all(isinstance(image.id, int) for image in images)
        self.folder = os.path.commonpath({image.source.folder for image in images})
        self.category_ids = images[0].source.category_ids
        self.labels = {name: i for i, name in zip(self.category_ids, classes)}
        self.images, self.annotations = [], []

    def add(self, image: TrainingImage, size: tuple[int, int], results: list[dict]) -> None:
        """Add an image of a size (width, height), with its true boxes or with results."""
        width, height = size
        image_id = image.id if self.keeps_ids else len(self.images) + 1
        name = os.path.relpath(image.path, self.folder)
        self.images.append(dict(id=image_id, file_name=name, width=width, height=height))
        for obj in image.instances or ():
            self._add_box(
                image_id,
                self.category_ids[obj['bbox_label']],
                _xywh(obj['bbox']),
                iscrowd=int(obj.get('ignore_flag', 0)),
            )
        for result in results:
            self._add_box(
                image_id,
                self.labels[result['category_name']],
                result['bbox'],
                iscrowd=0,
                score=result['score'],
            )

    def _add_box(self, image_id: object, category_id: object, bbox: list[float], **keys) -> None:
        area = round(bbox[2] * bbox[3], 2)
        ids = dict(id=len(self.annotations) + 1, image_id=image_id, category_id=category_id)
        self.annotations.append(dict(ids, bbox=bbox, area=area, **keys))

    def write(self, path: Path) -> None:
        categories = [dict(id=i, name=name) for name, i in self.labels.items()]
        content = dict(images=self.images, annotations=self.annotations, categories=categories)
        _write_json(path, content)


def _size(image: TrainingImage) -> tuple[int, int]:
    """Return (width, height), if need be from the file."""
    if all(image.size):
        return image.size
    height, width = imfrombytes(get(image.path), backend='pillow').shape[:2]
    return width, height


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_files(
    images: list[TrainingImage],
    found: Iterator[tuple[InstanceData, tuple[int, int]]],
    classes: Sequence[str],
    args: argparse.Namespace,
) -> None:
    """Write the pseudo boxes of the images without boxes, and the COCO file of all images."""
    writer = CocoWriter(images, classes) if args.coco else None
    results, counts = [], []
    for image in images:
        if image.instances is None:
            boxes, (height, width) = next(found)
            of_image = to_results(image, boxes, classes)
            results += of_image
            counts.append(len(of_image))
            if writer:
                writer.add(image, (width, height), of_image)
        elif writer:
            writer.add(image, _size(image), [])
    next(found, None)  # ends the progress bar
    _write_json(args.out, results)
    print(
        f'{args.out}: {len(results)} boxes for {sum(map(bool, counts))} of {len(counts)} images '
        'without boxes'
    )
    if writer:
        writer.write(args.coco)
        print(
            f'{args.coco}: {len(writer.annotations)} boxes for {len(images)} images; file names '
            f'are relative to {writer.folder}'
        )


def main() -> None:
    args = parse_args()
    register_all_modules()
    cfg = Config.fromfile(args.config)
    with safe_checkpoints():
        # Without cfg_options, mmdet reads cfg.model.backbone, which a wrapper does not have.
        model = init_detector(cfg, args.checkpoint, device=args.device, cfg_options={})
    images, classes = find_images(cfg, args.config)
    unboxed = [image for image in images if image.instances is None]
    loader = DataLoader(
        TestImages(unboxed, Compose(get_test_pipeline_cfg(cfg.copy()))),
        args.batch_size,
        num_workers=args.workers,
        collate_fn=pseudo_collate,
    )
    write_files(images, find_pseudo_boxes(model, loader, len(classes), args), classes, args)


if __name__ == '__main__':
    main()
