"""Convert a data set in YOLO layout to COCO JSON.

    yolo_to_coco.py data/own/data.yaml data/own/annotations

writes OUT/train.json, OUT/val.json and OUT/test.json for the splits that data.yaml has. File names
are relative to the folder that holds images and labels. The checks are those of
mmgwap.YOLODataset: degenerate boxes and repeated lines are left out, with a warning, and images
without a label file are images without annotations.
"""

import argparse
import json
import sys
from pathlib import Path

from mmdet.utils import register_all_modules

from mmgwap.datasets import YOLODataset
from mmgwap.datasets.yolo_files import read_data_yaml

SPLITS = ('train', 'val', 'test')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('data_yaml', type=Path, help='data.yaml of the data set')
    parser.add_argument('out', type=Path, help='folder to write to')
    parser.add_argument(
        '--splits', nargs='+', help='keys of data.yaml (default: those of train, val and test)'
    )
    parser.add_argument('--force', action='store_true', help='overwrite existing files')
    return parser.parse_args()


def to_coco(dataset: YOLODataset) -> dict:
    """Return a data set as the content of a COCO file. Ids count from 1."""
    content = dict(
        images=[],
        annotations=[],
        categories=[dict(id=i, name=n) for i, n in enumerate(dataset.metainfo['classes'], 1)],
    )
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        sides = dict(width=info['width'], height=info['height'])
        content['images'].append(dict(id=index + 1, file_name=info['img_id'], **sides))
        for obj in info['instances']:
            x1, y1, x2, y2 = (round(value, 3) for value in obj['bbox'])
            width, height = round(x2 - x1, 3), round(y2 - y1, 3)
            annotation = dict(
                id=len(content['annotations']) + 1,
                image_id=index + 1,
                category_id=obj['bbox_label'] + 1,
                bbox=[x1, y1, width, height],
                area=round(width * height, 3),
                iscrowd=0,
            )
            if 'mask' in obj:
                annotation['segmentation'] = [[round(x, 3) for x in part] for part in obj['mask']]
            content['annotations'].append(annotation)
    return content


def main() -> None:
    args = parse_args()
    register_all_modules()
    try:
        keys = read_data_yaml(str(args.data_yaml))
        for split in args.splits or [split for split in SPLITS if keys.get(split)]:
            path = args.out / f'{split}.json'
            if path.exists() and not args.force:
                sys.exit(f'{path} exists already; --force overwrites it')
            content = to_coco(YOLODataset(str(args.data_yaml), split=split))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))
            print(
                f'{path}: {len(content["images"])} images of {len(content["categories"])} '
                f'classes, {len(content["annotations"])} boxes'
            )
    except FileNotFoundError as error:
        # Roboflow's data.yaml lists a test split even if there is none.
        sys.exit(f'{error}; --splits chooses the splits to convert')
    except (OSError, ValueError) as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
