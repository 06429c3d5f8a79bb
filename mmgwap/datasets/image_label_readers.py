"""Read image labels from folders, CSV, COCO JSON or VOC image sets."""

import csv
import io
from typing import NamedTuple

from mmdet.datasets import BaseDetDataset
from mmengine.fileio import exists, join_path, list_dir_or_file

from .coco import ID, check_column, read_entries
from .files import IMAGE_SUFFIXES, ImageFinder, read_json, read_text


class LabelledImage(NamedTuple):
    """Names of the classes that are present on an image, unknown and absent."""

    id: str
    path: str
    present: list[str]
    ignored: list[str] = []
    absent: list[str] = []


def read_folders(dataset: BaseDetDataset) -> list[LabelledImage]:
    """Read ``data_prefix['img']/CLASS/.../IMAGE``."""
    root, backend_args = dataset.data_prefix['img'], dataset.backend_args
    names = sorted(list_dir_or_file(root, list_file=False, backend_args=backend_args))
    if not names:
        raise ValueError(f'{root}: contains no folders; one folder per class is required')
    images = []
    for name in names:
        folder = join_path(root, name, backend_args=backend_args)
        files = list_dir_or_file(folder, list_dir=False, recursive=True, backend_args=backend_args)
        images += [
            LabelledImage(f'{name}/{file}', join_path(folder, file), [name])
            for file in sorted(files)
            if file.lower().endswith(IMAGE_SUFFIXES)
        ]
    return images


def read_csv(dataset: BaseDetDataset) -> list[LabelledImage]:
    """Read rows of image and label."""
    path = dataset.ann_file
    text = read_text(path, dataset.backend_args)
    rows = csv.DictReader(io.StringIO(text, newline=''), strict=True)
    labels = {}
    try:
        names = rows.fieldnames or []
        if not (names.count('image') == names.count('label') == 1):
            raise ValueError(
                f'{path}: the first line must have the columns image and label, got {names}'
            )
        for row in rows:
            # The key None holds fields beyond the last column.
            if not row['image'] or None in row or None in row.values():
                raise ValueError(
                    f'{path}, line {rows.line_num}: must have an image, a label, which may be '
                    'empty, and as many fields as the first line; quote names that contain a comma'
                )
            labels_of_image = labels.setdefault(row['image'], [])
            if row['label']:
                labels_of_image.append(row['label'])
    except csv.Error as error:
        raise ValueError(f'{path}, line {rows.line_num}: invalid CSV: {error}') from None
    return [LabelledImage(file, _img_path(dataset, file), names) for file, names in labels.items()]


def read_coco(dataset: BaseDetDataset) -> list[LabelledImage]:
    """Read ``image_labels`` and the categories of ``annotations`` from COCO JSON."""
    where = dataset.ann_file
    images, categories, annotations = read_entries(
        read_json(where, dataset.backend_args), where, annotated=False
    )
    names = {category['id']: category['name'] for category in categories}
    dataset.category_names = names
    image_labels = check_column(
        images,
        f'{where}, image',
        'image_labels',
        (list,),
        'must be a list of category ids',
        lambda ids: all(type(i) in ID[0] for i in ids),
        default=[],
    )
    labels = {image['id']: list(ids) for image, ids in zip(images, image_labels)}
    for ann in annotations:
        if ann['image_id'] not in labels:
            raise ValueError(
                f'{where}, annotation {ann["id"]!r}: no image has the id {ann["image_id"]!r}'
            )
        labels[ann['image_id']].append(ann['category_id'])
    return [
        LabelledImage(
            image['id'],
            _img_path(dataset, image['file_name']),
            [names.get(i, f'id {i}') for i in labels[image['id']]],
        )
        for image in images
    ]


def read_voc(dataset: BaseDetDataset) -> list[LabelledImage]:
    """Read ``ImageSets/Main/{}_train.txt``, one image set per class."""
    if '{}' not in dataset.ann_file:
        raise ValueError(
            "format='voc': ann_file must have {} for the class, as in "
            f"'ImageSets/Main/{{}}_train.txt', got {dataset.ann_file!r}"
        )
    images: dict[str, dict[str, list[str]]] = {}
    for name in dataset.metainfo['classes']:
        path = dataset.ann_file.replace('{}', name)
        if not exists(path, backend_args=dataset.backend_args):
            raise ValueError(f'{path}: missing; it must be the image set of the class {name!r}')
        for image, flag in _read_image_set(path, dataset).items():
            names = images.setdefault(image, {'1': [], '0': [], '-1': []})
            names[flag].append(name)
    finder = ImageFinder(dataset.backend_args)
    stems = {image: _img_path(dataset, image) for image in sorted(images)}
    return [
        LabelledImage(image, stem + finder.suffix_of(stem), *images[image].values())
        for image, stem in stems.items()
    ]


def _read_image_set(path: str, dataset: BaseDetDataset) -> dict[str, str]:
    """Read '1', '0' or '-1' of each image."""
    flags = {}
    lines = read_text(path, dataset.backend_args).splitlines()
    for number, line in enumerate(lines, 1):
        image, *flag = line.rsplit(maxsplit=1) or ['']
        if not (flag and flag[0] in ('1', '0', '-1')) and line.strip():
            raise ValueError(
                f'{path}, line {number}: must have an id and 1, 0 or -1, got {line!r:.80}'
            )
        if image in flags:
            raise ValueError(f'{path}, line {number}: {image} is listed twice')
        if flag:
            flags[image] = flag[0]
    return flags


def _img_path(dataset: BaseDetDataset, file: str) -> str:
    return join_path(dataset.data_prefix['img'], file, backend_args=dataset.backend_args)


READERS = dict(folders=read_folders, csv=read_csv, coco=read_coco, voc=read_voc)
