"""Write the metadata of the WSOL evaluation for data sets as distributed.

    make_wsol_metadata.py ilsvrc ROOT OUT    OUT/train/, OUT/val/
    make_wsol_metadata.py cub ROOT OUT       OUT/train/, OUT/test/
    make_wsol_metadata.py coco ROOT OUT      OUT/train/, OUT/val/

Each folder contains image_ids.txt, class_labels.txt, image_sizes.txt, localization.txt and
classes.txt. The training images of ILSVRC have neither sizes nor boxes.

ilsvrc: ROOT is the folder of the unpacked CLS-LOC archive of ILSVRC. It contains ILSVRC/ and,
optionally, LOC_synset_mapping.txt, which gives the order and the names of the classes. Without it
the classes are the sorted WordNet ids. Paths are relative to ILSVRC/Data/CLS-LOC/. Corners of boxes
are those of the XML files, which do not specify whether pixels are counted from 0 or from 1.

cub: ROOT is CUB_200_2011/. Paths are relative to images/. A box x, y, width, height becomes x, y,
x + width, y + height, as in the metadata of the WSOL evaluation.

coco: ROOT contains annotations/{train,val}.json and images/. Images with boxes of one class are
used; images with several classes or none are left out. Paths are relative to images/. Boxes are
converted as those of cub.
"""

import argparse
import sys
from pathlib import Path

from wsol_sources import SPLITS, read_coco, read_cub, read_ilsvrc
from wsol_writer import write_wsol_metadata

DATA_SETS = dict(
    ilsvrc=(read_ilsvrc, SPLITS), cub=(read_cub, ('train', 'test')), coco=(read_coco, SPLITS)
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('dataset', choices=list(DATA_SETS))
    parser.add_argument('root', type=Path, help='folder of the data set')
    parser.add_argument('out', type=Path, help='folder to write to')
    parser.add_argument('--force', action='store_true', help='overwrite existing files')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    read, splits = DATA_SETS[args.dataset]
    for folder in (args.out / split for split in splits):
        if not args.force and (folder / 'image_ids.txt').exists():
            sys.exit(f'{folder} exists already; --force overwrites it')
    try:
        for split, metadata in read(args.root).items():
            write_wsol_metadata(args.out / split, metadata)
            print(
                f'{args.out / split}: {len(metadata.labels)} images of '
                f'{len(metadata.classes)} classes, '
                f'{sum(map(len, metadata.boxes.values()))} boxes'
            )
    except (OSError, ValueError) as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
