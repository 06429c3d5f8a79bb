"""Toy data sets in YOLO layout."""

import json
from pathlib import Path
from typing import Union

from .drawing import Scene, scenes, write_image, write_lines

NAMES = ('bolt', 'nut', 'screw')
# Paths of an image and of its label file, and the value of `train` in data.yaml.
LAYOUTS = dict(
    ultralytics=('images/{split}/{name}.jpg', 'labels/{split}/{name}.txt', 'images/train'),
    roboflow=('{split}/images/{name}.jpg', '{split}/labels/{name}.txt', '../train/images'),
    cvat=('images/{split}/{name}.jpg', 'labels/{split}/{name}.txt', 'train.txt'),
)


def write_yolo(
    folder: Union[str, Path],
    layout: str = 'ultralytics',
    train: int = 10,
    val: int = 4,
    polygons: bool = False,
    seed: int = 0,
) -> Path:
    """Write ``yolo/`` in a folder, as Ultralytics, Roboflow or CVAT lay it out.

    The ninth training image has an empty label file. The sixth has none, except from Roboflow,
    which writes a label file for each image.

    Args:
        folder (str or Path): parent folder.
        layout (str): 'ultralytics', 'roboflow' or 'cvat'.
        train, val (int): numbers of images.
        polygons (bool): whether to write the outlines of the rectangles instead of boxes.
        seed (int): seed of the images.

    Returns:
        Path: the folder ``yolo/``, with data.yaml.
    """
    root = Path(folder) / 'yolo'
    image_path, label_path, entry = LAYOUTS[layout]
    for number, (split, count) in enumerate(dict(train=train, val=val).items()):
        # Roboflow's folder of validation images is called `valid`.
        where = 'valid' if (layout, split) == ('roboflow', 'val') else split
        images = []
        for index, scene in enumerate(scenes([range(len(NAMES))], count, (seed, 9, number))):
            place = dict(split=where, name=f'{split}_{index}')
            images.append(image_path.format(**place))
            write_image(root / images[-1], scene.image)
            if index != 5 or layout == 'roboflow':
                write_lines(root / label_path.format(**place), _lines(scene, polygons))
        if layout == 'cvat':
            write_lines(root / f'{split}.txt', images)
    valid = entry.replace('train', 'valid' if layout == 'roboflow' else 'val')
    lines = [f'train: {entry}', f'val: {valid}']
    if layout == 'roboflow':
        lines += ['', f'nc: {len(NAMES)}', f'names: {json.dumps(NAMES)}']
    else:
        lines += ['path: ./', 'names:', *(f'  {i}: {name}' for i, name in enumerate(NAMES))]
    write_lines(root / 'data.yaml', lines)
    return root


def _lines(scene: Scene, polygons: bool) -> list[str]:
    height, width = scene.image.shape[:2]
    lines = []
    for label, (x, y, w, h) in zip(scene.labels, scene.boxes):
        values = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
        if polygons:
            left, top, right, bottom = x / width, y / height, (x + w) / width, (y + h) / height
            values = [left, top, right, top, right, bottom, left, bottom]
        lines.append(' '.join([str(label), *(f'{value:.6f}' for value in values)]))
    return lines
