"""Small data sets in the layouts of COCO, VOC and YOLO, which the tests share."""

import json
import logging
from contextlib import contextmanager

import cv2
import numpy as np
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules
from mmengine.logging import MMLogger

register_all_modules()
CLASSES = dict(classes=('cat', 'dog'))
GOOD = [10, 10, 40, 30]  # x1, y1, x2, y2 on an image of 64 x 48
BOXES = [
    [(GOOD, 'cat')],
    [(GOOD, 'dog')],
    [(GOOD, 'cat'), (GOOD, 'dog')],
    [(GOOD, 'dog'), (GOOD, 'dog')],
    [],
    [(GOOD, 'cat')],
]
PIPELINE = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs'),
]
COMMON = dict(metainfo=CLASSES, pipeline=PIPELINE)
MOSAIC = [*PIPELINE[:2], dict(type='CachedMosaic', img_scale=(32, 32)), PIPELINE[-1]]


def write_image(path, size=(48, 64), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(seed).randint(0, 255, (*size, 3))
    assert cv2.imwrite(str(path), pixels.astype(np.uint8))


def write_images(folder, count):
    for index in range(count):
        write_image(folder / f'{index}.jpg', seed=index)


def write_coco(root, boxes):
    """Write images and ``coco.json``; ``boxes`` has (box, category name) pairs per image."""
    write_images(root / 'img', len(boxes))
    ids = dict(cat=5, dog=6)
    pairs = [(i, box, name) for i, of_image in enumerate(boxes) for box, name in of_image]
    content = dict(
        images=[dict(id=i, file_name=f'{i}.jpg', width=64, height=48) for i in range(len(boxes))],
        annotations=[
            dict(
                id=number,
                image_id=image,
                iscrowd=0,
                category_id=ids.get(name, 99),
                area=100,
                bbox=[x1, y1, x2 - x1, y2 - y1],
            )
            for number, (image, (x1, y1, x2, y2), name) in enumerate(pairs, 1)
        ],
        categories=[dict(id=i, name=name) for name, i in ids.items()],
    )
    (root / 'coco.json').write_text(json.dumps(content))


def write_voc(root, boxes):
    """Write images, XML files and ``voc.txt``; ``boxes`` as in :func:`write_coco`."""
    write_images(root / 'JPEGImages', len(boxes))
    (root / 'Annotations').mkdir(exist_ok=True)
    for image, of_image in enumerate(boxes):
        objects = ''.join(
            f'<object><name>{name}</name><bndbox>'
            + ''.join(f'<{k}>{v}</{k}>' for k, v in zip(('xmin', 'ymin', 'xmax', 'ymax'), box))
            + '</bndbox></object>'
            for box, name in of_image
        )
        size = '<size><width>64</width><height>48</height></size>'
        path = root / 'Annotations' / f'{image}.xml'
        path.write_text(f'<annotation>{size}{objects}</annotation>')
    (root / 'voc.txt').write_text('\n'.join(map(str, range(len(boxes)))))


def write_yolo(root, boxes):
    """Write images, label files and ``data.yaml``; ``boxes`` as in :func:`write_coco`."""
    write_images(root / 'images' / 'train', len(boxes))
    folder = root / 'labels' / 'train'
    folder.mkdir(parents=True, exist_ok=True)
    for image, of_image in enumerate(boxes):
        lines = (
            f'{CLASSES["classes"].index(name)} {(x1 + x2) / 128} {(y1 + y2) / 96} '
            f'{(x2 - x1) / 64} {(y2 - y1) / 48}\n'
            for (x1, y1, x2, y2), name in of_image
        )
        (folder / f'{image}.txt').write_text(''.join(lines))
    (root / 'data.yaml').write_text('train: images/train\nnames: [cat, dog]')


def coco(root, boxes=BOXES, write=True, **options):
    """Config of a COCO data set."""
    if write:
        write_coco(root, boxes)
    cfg = dict(type='CocoDataset', ann_file='coco.json', data_prefix=dict(img='img/'))
    return {**cfg, **COMMON, 'data_root': str(root), **options}


def voc(root, boxes=BOXES, write=True, **options):
    """Config of a data set in VOC layout."""
    if write:
        write_voc(root, boxes)
    cfg = dict(type='XMLDataset', ann_file='voc.txt', data_prefix=dict(sub_data_root=''))
    return {**cfg, **COMMON, 'data_root': str(root), **options}


def yolo(root, boxes=BOXES, write=True, **options):
    """Config of a data set in YOLO layout."""
    if write:
        write_yolo(root, boxes)
    return {'type': 'mmgwap.YOLODataset', **COMMON, 'data_root': str(root), **options}


def checked(kind, root, boxes=BOXES, **options):
    """Build a CheckedCocoDataset, CheckedXMLDataset or YOLODataset."""
    cfg = dict(coco=coco, voc=voc, yolo=yolo)[kind](root, boxes, **options)
    name = dict(coco='CheckedCoco', voc='CheckedXML', yolo='YOLO')[kind]
    return DATASETS.build(dict(cfg, type=f'mmgwap.{name}Dataset'))


def partial(dataset, **options):
    """Build a PartialBoxDataset."""
    return DATASETS.build(dict(type='mmgwap.PartialBoxDataset', dataset=dataset, **options))


def split_file(root, *ids):
    path = root / 'split.txt'
    path.write_text('\n'.join(map(str, ids)))
    return str(path)


def infos(dataset):
    return [dataset.get_data_info(i) for i in range(len(dataset))]


@contextmanager
def captured_log(level=logging.WARNING):
    """Collect messages of mmengine's current logger."""
    messages = []
    handler = logging.Handler(level)
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
