"""Write the metadata of the WSOL evaluation for data sets as they come.

    make_wsol_metadata.py ilsvrc ROOT OUT    OUT/train/, OUT/val/
    make_wsol_metadata.py cub ROOT OUT       OUT/train/, OUT/test/

of image_ids.txt, class_labels.txt, image_sizes.txt, localization.txt and
classes.txt; the training images of ILSVRC have neither sizes nor boxes.

ilsvrc: ROOT is where the CLS-LOC archive of ILSVRC was unpacked; it holds
ILSVRC/ and, maybe, LOC_synset_mapping.txt, which gives the order and the names
of the classes, else sorted WordNet ids do.  Paths begin at
ILSVRC/Data/CLS-LOC/.  Corners of boxes are kept as the XML files have them;
they do not say whether pixels are counted from 0 or from 1.

cub: ROOT is CUB_200_2011/.  Paths begin at images/.  A box x, y, width, height
becomes x, y, x + width, y + height, as in the WSOL evaluation's own files.
"""

import argparse
import sys
from pathlib import Path

from mmgwap.datasets.wsol_cub import read_cub
from mmgwap.datasets.wsol_ilsvrc import read_ilsvrc
from mmgwap.datasets.wsol_writer import write_wsol_metadata

DATA_SETS = dict(ilsvrc=(read_ilsvrc, ('train', 'val')), cub=(read_cub, ('train', 'test')))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('dataset', choices=list(DATA_SETS))
    parser.add_argument('root', type=Path, help='folder of the data set')
    parser.add_argument('out', type=Path, help='folder to write to')
    parser.add_argument('--force', action='store_true', help='write again what is already there')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    read, splits = DATA_SETS[args.dataset]
    for folder in (args.out / split for split in splits):
        if not args.force and (folder / 'image_ids.txt').exists():
            sys.exit(f'{folder} is already there; --force writes it again')
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
