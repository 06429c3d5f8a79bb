"""Toy version of COCO 2017."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Union

import numpy as np
from mmdet.datasets import CocoDataset

from .drawing import Scene, label_groups, scenes, write_image

CLASSES = CocoDataset.METAINFO['classes']
# Category ids that COCO planned and never annotated.
UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
IDS = [i for i in range(1, 91) if i not in UNUSED]
# The last category id of each supercategory.
SUPERCATEGORIES = {
    1: 'person',
    9: 'vehicle',
    15: 'outdoor',
    25: 'animal',
    33: 'accessory',
    43: 'sports',
    51: 'kitchen',
    61: 'food',
    70: 'furniture',
    77: 'electronic',
    82: 'appliance',
    90: 'indoor',
}
FIRST_IDS = dict(train=9, val=139, test=1)  # image ids of the real data
PHOTOGRAPHS = dict(
    highway=('bus', 'car', 'motorbike', 'person', 'truck'),
    aquarium=('fish', 'jellyfish', 'penguin', 'puffin', 'shark', 'starfish', 'stingray'),
)
INFO = dict(
    description='Toy version of COCO 2017',
    url='http://cocodataset.org',
    version='1.0',
    year=2017,
    contributor='mmgwap',
    date_created='2017/09/01',
)
LICENSES = [
    dict(
        url='http://creativecommons.org/licenses/by-nc-sa/2.0/',
        id=1,
        name='Attribution-NonCommercial-ShareAlike License',
    ),
    dict(url='http://creativecommons.org/licenses/by/2.0/', id=4, name='Attribution License'),
]


def write_coco(
    folder: Union[str, Path], train: int = 1200, val: int = 10, test: int = 4, seed: int = 0
) -> Path:
    """Write ``coco/`` in a folder.

    The 80 categories have their real ids. In each split the second image is gray, the ninth
    has no annotation, and the tenth has an additional crowd. 1 % of the default 1,200
    training images can contain all classes. The test images have no annotations, only the
    list ``annotations/image_info_test-dev2017.json``.

    Args:
        folder (str or Path): parent folder.
        train, val, test (int): numbers of images.
        seed (int): seed of the images.

    Returns:
        Path: the folder ``coco/``.
    """
    root = Path(folder) / 'coco'
    for number, (split, count) in enumerate(dict(train=train, val=val, test=test).items()):
        content = dict(
            info=INFO, licenses=LICENSES, images=[], annotations=[], categories=categories()
        )
        groups = label_groups(len(CLASSES), 8)
        for index, scene in enumerate(scenes(groups, count, (seed, number))):
            image = _image(index, split, scene)
            pixels = scene.image[..., 0] if index == 1 else scene.image
            write_image(root / f'{split}2017' / image['file_name'], pixels)
            content['images'].append(image)
            content['annotations'] += _annotations(index, image['id'], scene)
        name = f'instances_{split}2017'
        if split == 'test':
            name = 'image_info_test-dev2017'
            del content['annotations']
        path = root / 'annotations' / f'{name}.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return root


def write_photographs(
    folder: Union[str, Path], train: int = 60, val: int = 8, seed: int = 0
) -> None:
    """Write ``highway/`` and ``aquarium/``, small data sets in COCO layout, in a folder.

    All images of a data set lie in ``images/``. 5 % of the default 60 training images can
    contain all classes.

    Args:
        folder (str or Path): parent folder.
        train, val (int): numbers of images.
        seed (int): seed of the images.
    """
    for name, classes in PHOTOGRAPHS.items():
        root, ids = Path(folder) / name, range(1, len(classes) + 1)
        for number, (split, count) in enumerate(dict(train=train, val=val).items()):
            names = [dict(id=i, name=each) for i, each in zip(ids, classes)]
            content = dict(images=[], annotations=[], categories=names)
            groups = label_groups(len(classes), 3)
            for index, scene in enumerate(scenes(groups, count, (seed, number))):
                file, (height, width) = f'{split}{index:03d}.jpg', scene.image.shape[:2]
                write_image(root / 'images' / file, scene.image)
                image = dict(id=index + 1, file_name=file, width=width, height=height)
                content['images'].append(image)
                content['annotations'] += _annotations(0, index + 1, scene, ids)
            path = root / 'annotations' / f'{split}.json'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))


def categories() -> list[dict]:
    """Return COCO's categories in COCO's order."""
    return [
        dict(
            supercategory=next(name for last, name in SUPERCATEGORIES.items() if i <= last),
            id=i,
            name=name,
        )
        for i, name in zip(IDS, CLASSES)
    ]


def _image(index: int, split: str, scene: Scene) -> dict:
    # Real image ids have gaps and are the file names.
    image_id = FIRST_IDS[split] + 16 * index
    name = f'{image_id:012d}.jpg'
    return dict(
        license=LICENSES[index % len(LICENSES)]['id'],
        file_name=name,
        coco_url=f'http://images.cocodataset.org/{split}2017/{name}',
        height=scene.image.shape[0],
        width=scene.image.shape[1],
        date_captured='2013-11-14 17:02:52',
        flickr_url=f'http://farm1.staticflickr.com/{image_id}_z.jpg',
        id=image_id,
    )


def _annotations(
    index: int, image_id: int, scene: Scene, category_ids: Sequence[int] = IDS
) -> list[dict]:
    annotations = []
    for label, (x, y, w, h) in zip(scene.labels, scene.boxes):
        corners = [x, y, x + w, y, x + w, y + h, x, y + h]
        annotations.append(
            dict(
                segmentation=[list(map(float, corners))],
                area=float(w * h),
                iscrowd=0,
                image_id=image_id,
                bbox=[*map(float, (x, y, w, h))],
                category_id=category_ids[label],
                id=1000 * image_id + len(annotations),
            )
        )
    if index == 9 and annotations:
        annotations.append(_crowd(annotations[0], scene))
    return annotations


def _crowd(annotation: dict, scene: Scene) -> dict:
    """Return a crowd annotation with the category of another annotation, as an RLE mask."""
    height, width = scene.image.shape[:2]
    mask = np.zeros((height, width), bool)
    mask[height // 4 : height // 2, width // 4 : width * 3 // 4] = True
    # Lengths of alternating runs of 0 and 1 in column order, 0 first.
    ends = np.flatnonzero(np.diff(mask.ravel(order='F'))) + 1
    counts = np.diff([0, *ends, mask.size]).tolist()
    return dict(
        annotation,
        segmentation=dict(counts=counts, size=[height, width]),
        area=int(mask.sum()),
        iscrowd=1,
        id=9 * 10**11 + annotation['image_id'],
        bbox=[width // 4, height // 4, width * 3 // 4 - width // 4, height // 2 - height // 4],
    )
