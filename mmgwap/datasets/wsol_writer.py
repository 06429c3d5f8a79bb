"""Write what :mod:`mmgwap.datasets.wsol_metadata` reads."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Union

from .wsol_metadata import WSOLMetadata


def write_wsol_metadata(root: Union[str, Path], metadata: WSOLMetadata) -> None:
    """Write the files of a split, the same bytes on every machine.

    ``image_ids.txt`` comes last and in one stroke, so that where it is the
    split is complete.  A file of the layout that has nothing to hold is
    removed, lest it speak of other images.

    Args:
        root (str or Path): its folder, made if need be.
        metadata (WSOLMetadata): masks go to ``localization.txt``, or to
            ``masks.txt`` if there are boxes.

    Raises:
        ValueError: if the path of an image has a comma, or a class no name.
    """
    root = Path(root)
    for image in metadata.labels:
        if ',' in image:
            raise ValueError(
                f'{image}: a comma in the path of an image would '
                'end it in class_labels.txt; rename the image'
            )
    if not all(name.strip() for name in metadata.classes):
        raise ValueError(f'{root / "classes.txt"}: a class without a name would shift the others')
    root.mkdir(parents=True, exist_ok=True)
    (root / 'image_ids.txt').unlink(missing_ok=True)
    boxes, masks = _boxes(metadata), _masks(metadata)
    _write(root / 'class_labels.txt', map(_line, metadata.labels.items()))
    _write(
        root / 'image_sizes.txt', (_line((image, *size)) for image, size in metadata.sizes.items())
    )
    _write(root / 'localization.txt', boxes or masks)
    _write(root / 'masks.txt', masks if boxes else [])
    _write(root / 'classes.txt', metadata.classes)
    _write(root / 'image_ids.txt', metadata.labels)


def _boxes(metadata: WSOLMetadata) -> list:
    return [
        _line((image, *map(_number, box)))
        for image, boxes in metadata.boxes.items()
        for box in boxes
    ]


def _masks(metadata: WSOLMetadata) -> list:
    # What is ignored is told once, with the first mask.
    return [
        _line((image, mask, '' if i else masks.ignore or ''))
        for image, masks in metadata.masks.items()
        for i, mask in enumerate(masks.instances)
    ]


def _number(value: float) -> str:
    """Whole numbers without a point, as other readers want them."""
    value = float(value)
    return str(int(value)) if value.is_integer() else repr(value)


def _line(fields: Iterable) -> str:
    return ','.join(map(str, fields))


def _write(path: Path, lines: Iterable[str]) -> None:
    text = ''.join(f'{line}\n' for line in lines)
    if not text:
        path.unlink(missing_ok=True)
        return
    draft = path.with_suffix('.tmp')
    draft.write_bytes(text.encode())
    os.replace(draft, path)
