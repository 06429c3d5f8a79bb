"""Choose which training images of a config keep their boxes.

Writes the ids of these images, one per line, for ``PartialBoxDataset(split_file=...)``, so that an
experiment can be repeated elsewhere. Each class keeps about the same share of its images. The same
seed gives the same choice.
"""

import argparse
import sys
from pathlib import Path

from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules
from mmengine.config import Config

from mmgwap.datasets.partial_box import summarize_images
from mmgwap.datasets.partial_split import stratified_split, write_split


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path, help='config with a train_dataloader')
    parser.add_argument('out', type=Path, help='file to write')
    parser.add_argument(
        '--percent', type=float, required=True, help='percentage of images that keep boxes'
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of the choice (default: %(default)s)'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = Config.fromfile(args.config).train_dataloader.dataset
    # Replace the choice of a config that has partial boxes already.
    if cfg.type == 'mmgwap.PartialBoxDataset':
        cfg = cfg.dataset
    register_all_modules()
    dataset = DATASETS.build(cfg)
    try:
        images = summarize_images(dataset)
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
            f'{args.config}: several images have the same id; split the parts of the data set '
            'separately'
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
