"""ILSVRC CLS-LOC as it comes, for the WSOL evaluation."""

from pathlib import Path
from xml.etree import ElementTree

from tqdm import tqdm

from .wsol_metadata import WSOLMetadata
from .wsol_tables import check_images, read_number, read_table, upright_boxes
from .xml_file import parse_xml


def read_ilsvrc(root: Path) -> dict[str, WSOLMetadata]:
    """Training and validation images of ILSVRC CLS-LOC.

    Args:
        root (Path): holds ``ILSVRC/`` and, maybe, ``LOC_synset_mapping.txt``,
            which gives the order and the names of the classes, else sorted
            WordNet ids do.

    Returns:
        dict: 'train', without sizes and boxes, and 'val', with the corners of
        boxes as the XML files have them; these do not say whether pixels are
        counted from 0 or from 1.  Paths begin at ``ILSVRC/Data/CLS-LOC/``.

    Raises:
        FileNotFoundError: if a list, an image or an XML file is missing.
        ValueError: if one is not of its form; with its path.
    """
    home = root / 'ILSVRC'
    lists = home / 'ImageSets' / 'CLS-LOC'
    files = {
        split: [f'{split}/{name}.JPEG' for name in read_table(path, 2)]
        for split, path in (('train', lists / 'train_cls.txt'), ('val', lists / 'val.txt'))
    }
    for paths in files.values():
        check_images(home / 'Data' / 'CLS-LOC', paths)
    names = _synsets(root / 'LOC_synset_mapping.txt', files['train'])
    numbers = {wnid: i for i, wnid in enumerate(names)}
    train = WSOLMetadata({}, {}, {}, {}, tuple(names.values()))
    for image in files['train']:
        wnid = image.split('/')[1]
        train.labels[image] = _number_of(wnid, numbers, lists / 'train_cls.txt')
    val = WSOLMetadata({}, {}, {}, {}, train.classes)
    for image in tqdm(files['val'], desc='val', unit='image'):
        path = (home / 'Annotations' / 'CLS-LOC' / image).with_suffix('.xml')
        wnid, val.sizes[image], val.boxes[image] = _read_xml(path)
        val.labels[image] = _number_of(wnid, numbers, path)
    return dict(train=train, val=val)


def _synsets(path: Path, train: list[str]) -> dict[str, str]:
    """Names of the classes by WordNet id, in order."""
    if not path.exists():
        return {wnid: wnid for wnid in sorted({image.split('/')[1] for image in train})}
    names = {wnid: name for wnid, (name,) in read_table(path, 2).items()}
    # Two synsets are called "crane".
    shared = [name for name in names.values() if list(names.values()).count(name) > 1]
    return {wnid: f'{name} ({wnid})' if name in shared else name for wnid, name in names.items()}


def _number_of(wnid: str, numbers: dict[str, int], where: Path) -> int:
    if wnid not in numbers:
        raise ValueError(
            f'{where}: {wnid} is none of the {len(numbers)} '
            'classes of LOC_synset_mapping.txt or, without it, '
            'of the training images'
        )
    return numbers[wnid]


def _read_xml(path: Path) -> tuple:
    """WordNet id, (width, height) and boxes (N, 4) of an image."""
    if not path.is_file():
        raise FileNotFoundError(f'{path}: missing')
    root = parse_xml(path.read_bytes(), path)
    objects = root.findall('object')
    wnids = sorted({str(one.findtext('name')) for one in objects})
    if len(wnids) != 1:
        raise ValueError(f'{path}: needs objects of one class, got {", ".join(wnids) or "none"}')
    size = tuple(int(_value(root, f'size/{side}', path)) for side in ('width', 'height'))
    if min(size) < 1:
        raise ValueError(f'{path}: an image of {size[0]} x {size[1]} px')
    boxes = [
        [_value(one, f'bndbox/{side}', path) for side in ('xmin', 'ymin', 'xmax', 'ymax')]
        for one in objects
    ]
    return wnids[0], size, upright_boxes(boxes, path)


def _value(element: ElementTree.Element, name: str, path: Path) -> float:
    return read_number(element.findtext(name), f'{path}: {name}')
