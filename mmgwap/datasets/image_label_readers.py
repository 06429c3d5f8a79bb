"""Where image labels are kept: folders, CSV, COCO JSON, VOC's image sets."""
import csv
import io
from typing import Dict, List, NamedTuple

from mmdet.datasets import BaseDetDataset
from mmengine.fileio import (exists, get_text, join_path, list_dir_or_file,
                             load)

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


class Labelled(NamedTuple):
    """An image, and names of the classes that it has, may have, has not."""
    id: str
    path: str
    present: List[str]
    ignored: List[str] = []
    absent: List[str] = []


def read_folders(dataset: BaseDetDataset) -> List[Labelled]:
    """``img/CLASS/.../IMAGE``."""
    root = dataset.data_prefix['img']
    names = sorted(list_dir_or_file(
        root, list_file=False, backend_args=dataset.backend_args))
    if not names:
        raise ValueError(f'{root}: holds no folders, one of each class')
    images = []
    for name in names:
        folder = join_path(root, name, backend_args=dataset.backend_args)
        files = sorted(list_dir_or_file(folder, list_dir=False, recursive=True,
                                        backend_args=dataset.backend_args))
        images += [
            Labelled(f'{name}/{file}', join_path(folder, file), [name])
            for file in files if file.lower().endswith(IMAGES)]
    return images


def read_csv(dataset: BaseDetDataset) -> List[Labelled]:
    """Rows of ``image,label``."""
    text = get_text(dataset.ann_file, backend_args=dataset.backend_args)
    # Spreadsheets put a mark of the byte order before the first name.
    rows = csv.DictReader(io.StringIO(text.lstrip('\ufeff'), newline=''))
    if not {'image', 'label'} <= set(rows.fieldnames or ()):
        raise ValueError(f'{dataset.ann_file}: the first line must name the '
                         f"columns image and label, got {rows.fieldnames}")
    labels = {}
    for row in rows:
        if not row['image'] or row['label'] is None:
            raise ValueError(f'{dataset.ann_file}, line {rows.line_num}: needs '
                             'an image and a label, which may be empty')
        names = labels.setdefault(row['image'], [])
        if row['label']:
            names.append(row['label'])
    return [Labelled(image, _path(dataset, image), names)
            for image, names in labels.items()]


def read_coco(dataset: BaseDetDataset) -> List[Labelled]:
    """COCO JSON with ``image_labels`` or annotations."""
    content = load(dataset.ann_file, backend_args=dataset.backend_args)
    names = {one['id']: one['name'] for one in content['categories']}
    labels = {one['id']: list(one.get('image_labels', ()))
              for one in content['images']}
    for one in content.get('annotations', ()):
        if one['image_id'] not in labels:
            raise ValueError(f'{dataset.ann_file}, annotation {one.get("id")}: '
                             f'no image has the id {one["image_id"]}')
        labels[one['image_id']].append(one['category_id'])
    return [
        Labelled(one['id'], _path(dataset, one['file_name']),
                 [names.get(i, f'id {i}') for i in labels[one['id']]])
        for one in content['images']]


def read_voc(dataset: BaseDetDataset) -> List[Labelled]:
    """``ImageSets/Main/{}_train.txt``, a file of each class."""
    if '{}' not in dataset.ann_file:
        raise ValueError("format='voc' needs {} for the class in ann_file, as "
                         "in 'ImageSets/Main/{}_train.txt', got "
                         f'{dataset.ann_file!r}')
    sets: Dict[int, Dict[str, List[str]]] = {1: {}, 0: {}, -1: {}}
    for name in dataset.metainfo['classes']:
        path = dataset.ann_file.replace('{}', name)
        if not exists(path, backend_args=dataset.backend_args):
            raise ValueError(f'{path}: missing, the image set of {name!r}')
        text = get_text(path, backend_args=dataset.backend_args)
        for number, line in enumerate(text.splitlines(), 1):
            parts = line.split()
            if len(parts) != 2 or parts[1] not in ('1', '0', '-1'):
                raise ValueError(f'{path}, line {number}: needs an id and 1, '
                                 f'0 or -1, got {line!r}')
            sets[int(parts[1])].setdefault(parts[0], []).append(name)
    ids = sorted(set().union(*sets.values()))
    return [Labelled(i, _path(dataset, f'{i}.jpg'),
                     *(sets[flag].get(i, []) for flag in (1, 0, -1)))
            for i in ids]


def _path(dataset: BaseDetDataset, file: str) -> str:
    return join_path(dataset.data_prefix['img'], file,
                     backend_args=dataset.backend_args)


READERS = dict(folders=read_folders, csv=read_csv, coco=read_coco,
               voc=read_voc)
