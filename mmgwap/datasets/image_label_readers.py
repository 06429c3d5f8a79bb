"""Where image labels are kept: folders, CSV, COCO JSON, VOC's image sets."""

import csv
import io
from typing import NamedTuple

from mmdet.datasets import BaseDetDataset
from mmengine.fileio import exists, join_path, list_dir_or_file

from .coco_file import ID, column, read_entries
from .image_suffixes import SUFFIXES, ImageSuffixes
from .text_files import read_json, read_text


class Labelled(NamedTuple):
    """An image, and names of the classes that it has, may have, has not."""

    id: str
    path: str
    present: list[str]
    ignored: list[str] = []
    absent: list[str] = []


def read_folders(dataset: BaseDetDataset) -> list[Labelled]:
    """``img/CLASS/.../IMAGE``."""
    root = dataset.data_prefix['img']
    names = sorted(list_dir_or_file(root, list_file=False, backend_args=dataset.backend_args))
    if not names:
        raise ValueError(f'{root}: holds no folders, one of each class')
    images = []
    for name in names:
        folder = join_path(root, name, backend_args=dataset.backend_args)
        files = sorted(
            list_dir_or_file(
                folder, list_dir=False, recursive=True, backend_args=dataset.backend_args
            )
        )
        images += [
            Labelled(f'{name}/{file}', join_path(folder, file), [name])
            for file in files
            if file.lower().endswith(SUFFIXES)
        ]
    return images


def read_csv(dataset: BaseDetDataset) -> list[Labelled]:
    """Rows of ``image,label``."""
    text = read_text(dataset.ann_file, dataset.backend_args)
    rows = csv.DictReader(io.StringIO(text, newline=''), strict=True)
    labels = {}
    try:
        names = rows.fieldnames or []
        if not (names.count('image') == names.count('label') == 1):
            raise ValueError(
                f'{dataset.ann_file}: the first line must name '
                f'the columns image and label, got {names}'
            )
        for row in rows:
            # Under None is what lies beyond the last column.
            if not row['image'] or None in row or None in row.values():
                raise ValueError(
                    f'{dataset.ann_file}, line {rows.line_num}: needs an '
                    'image and a label, which may be empty, and as many '
                    'fields as the first line; a comma in a name needs quotes '
                    'around it'
                )
            of_image = labels.setdefault(row['image'], [])
            if row['label']:
                of_image.append(row['label'])
    except csv.Error as error:
        raise ValueError(f'{dataset.ann_file}, line {rows.line_num}: is not CSV: {error}') from None
    return [Labelled(image, _path(dataset, image), of_image) for image, of_image in labels.items()]


def read_coco(dataset: BaseDetDataset) -> list[Labelled]:
    """COCO JSON with ``image_labels`` or annotations."""
    where = dataset.ann_file
    images, categories, annotations = read_entries(
        read_json(where, dataset.backend_args), where, annotated=False
    )
    names = {one['id']: one['name'] for one in categories}
    given = column(
        images,
        f'{where}, image',
        'image_labels',
        (list,),
        'must be a list of ids of categories',
        lambda ids: all(type(i) in ID[0] for i in ids),
        default=[],
    )
    labels = {image['id']: list(ids) for image, ids in zip(images, given)}
    for one in annotations:
        if one['image_id'] not in labels:
            raise ValueError(
                f'{where}, annotation {one["id"]!r}: no image has the id {one["image_id"]!r}'
            )
        labels[one['image_id']].append(one['category_id'])
    return [
        Labelled(
            one['id'],
            _path(dataset, one['file_name']),
            [names.get(i, f'id {i}') for i in labels[one['id']]],
        )
        for one in images
    ]


def read_voc(dataset: BaseDetDataset) -> list[Labelled]:
    """``ImageSets/Main/{}_train.txt``, a file of each class."""
    if '{}' not in dataset.ann_file:
        raise ValueError(
            "format='voc' needs {} for the class in ann_file, as "
            "in 'ImageSets/Main/{}_train.txt', got "
            f'{dataset.ann_file!r}'
        )
    sets: dict[str, dict[str, list[str]]] = {}
    for name in dataset.metainfo['classes']:
        path = dataset.ann_file.replace('{}', name)
        if not exists(path, backend_args=dataset.backend_args):
            raise ValueError(f'{path}: missing, the image set of {name!r}')
        for image, flag in _read_set(path, dataset).items():
            found = sets.setdefault(image, {'1': [], '0': [], '-1': []})
            found[flag].append(name)
    suffixes = ImageSuffixes(dataset.backend_args)
    return [
        Labelled(image, stem + suffixes.of(stem), *sets[image].values())
        for image, stem in ((image, _path(dataset, image)) for image in sorted(sets))
    ]


def _read_set(path: str, dataset: BaseDetDataset) -> dict[str, str]:
    """'1', '0' or '-1' of each image."""
    flags = {}
    lines = read_text(path, dataset.backend_args).splitlines()
    for number, line in enumerate(lines, 1):
        image, *rest = line.rsplit(maxsplit=1) or ['']
        if not (rest and rest[0] in ('1', '0', '-1')) and line.strip():
            raise ValueError(f'{path}, line {number}: needs an id and 1, 0 or -1, got {line!r:.80}')
        if image in flags:
            raise ValueError(f'{path}, line {number}: {image} comes a second time')
        if rest:
            flags[image] = rest[0]
    return flags


def _path(dataset: BaseDetDataset, file: str) -> str:
    return join_path(dataset.data_prefix['img'], file, backend_args=dataset.backend_args)


READERS = dict(folders=read_folders, csv=read_csv, coco=read_coco, voc=read_voc)
