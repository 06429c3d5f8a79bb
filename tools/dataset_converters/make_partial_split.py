"""Choose which training images of a config keep their boxes.

Writes their ids to a small file, a line each, for
``PartialBoxDataset(split_file=...)``, so that an experiment can be repeated
elsewhere.  Each class keeps its part.  The same seed makes the same choice.
"""

import argparse
import sys
from pathlib import Path

from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules
from mmengine.config import Config

from mmgwap.datasets.partial_split import stratified_split, write_split
from mmgwap.datasets.summaries import summaries


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path)
    parser.add_argument('out', type=Path, help='the file to write')
    parser.add_argument(
        '--percent', type=float, required=True, help='of the images that keep their boxes'
    )
    parser.add_argument('--seed', type=int, default=0, help='default: %(default)s')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = Config.fromfile(args.config).train_dataloader.dataset
    # A config of partial boxes already: the choice is made anew.
    if cfg.type == 'mmgwap.PartialBoxDataset':
        cfg = cfg.dataset
    register_all_modules()
    dataset = DATASETS.build(cfg)
    try:
        images = summaries(dataset)
        chosen = stratified_split(
            [image.present for image in images],
            args.percent,
            len(dataset.metainfo['classes']),
            args.seed,
        )
    except (TypeError, ValueError) as error:
        sys.exit(f'{args.config}: {error}')
    ids = [image.id for image, boxed in zip(images, chosen) if boxed]
    if len(set(ids)) < len(ids):
        sys.exit(
            f'{args.config}: parts of its data set have images of the '
            'same id; split them one by one'
        )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_split(
        args.out,
        ids,
        f'{args.percent:g} % of {len(images)} images of {args.config.name}, seed {args.seed}',
    )
    print(f'{args.out}: {len(ids)} of {len(images)} images keep their boxes')


if __name__ == '__main__':
    main()
