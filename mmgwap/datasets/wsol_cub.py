"""CUB-200-2011 as it comes, for the WSOL evaluation."""

from pathlib import Path

from PIL import Image
from tqdm import tqdm

from .wsol_metadata import WSOLMetadata
from .wsol_tables import check_images, read_number, read_table, upright_boxes


def read_cub(root: Path) -> dict[str, WSOLMetadata]:
    """Training and test images of CUB-200-2011.

    Args:
        root (Path): ``CUB_200_2011/``.

    Returns:
        dict: 'train' and 'test', both with sizes and boxes.  A box x, y,
        width, height becomes x, y, x + width, y + height, as in the files that
        the WSOL evaluation comes with.  Paths begin at ``images/``.

    Raises:
        FileNotFoundError: if a table or an image is missing.
        ValueError: if a table is not of its form; with its path.
    """
    images = read_table(root / 'images.txt', 2)
    classes = read_table(root / 'classes.txt', 2)
    tables = [
        _table_of(root / f'{name}.txt', count, images)
        for name, count in (
            ('image_class_labels', 2),
            ('train_test_split', 2),
            ('bounding_boxes', 5),
        )
    ]
    check_images(root / 'images', [path for (path,) in images.values()])
    numbers = {key: i for i, key in enumerate(classes)}
    names = tuple(name for (name,) in classes.values())
    splits = {split: WSOLMetadata({}, {}, {}, {}, names) for split in ('train', 'test')}
    for key in tqdm(images, desc='cub', unit='image'):
        (image,), ((label,), (flag,), box) = images[key], (table[key] for table in tables)
        if label not in numbers:
            raise ValueError(
                f'{root / "image_class_labels.txt"}: image {key} '
                f'has the class {label}, which is not in '
                'classes.txt'
            )
        if flag not in ('0', '1'):
            raise ValueError(
                f'{root / "train_test_split.txt"}: image {key} needs 0 or 1, got {flag}'
            )
        where = f'{root / "bounding_boxes.txt"}: image {key}'
        x, y, width, height = (read_number(text, where) for text in box)
        split = splits['train' if flag == '1' else 'test']
        split.labels[image] = numbers[label]
        split.boxes[image] = upright_boxes([[x, y, x + width, y + height]], where)
        with Image.open(root / 'images' / image) as opened:
            split.sizes[image] = opened.size
    return splits


def _table_of(path: Path, count: int, images: dict) -> dict[str, list[str]]:
    """A table with one line for each of the images."""
    table = read_table(path, count)
    odd = sorted(table.keys() ^ images.keys())
    if odd:
        raise ValueError(
            f'{path}: has {len(table)} images, and images.txt '
            f'{len(images)}; {odd[0]} is in one of both only'
        )
    return table
