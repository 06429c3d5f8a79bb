"""Write the metadata files of the WSOL evaluation."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Union

from mmgwap.datasets.wsol_metadata import WSOLMetadata


def write_wsol_metadata(root: Union[str, Path], metadata: WSOLMetadata) -> None:
    """Write the files of a split, with the same bytes on every machine.

    ``image_ids.txt`` is written last, by renaming a complete file, so that the split is complete if
    this file exists. Files without content are removed, because an older version of them would
    describe other images.

    Args:
        root (str or Path): folder of the split; created if needed.
        metadata (WSOLMetadata): content of the split. Masks go to ``localization.txt``, or to
            ``masks.txt`` if there are boxes.

    Raises:
        ValueError: if the path of an image contains a comma, or a class name is empty.
    """
    root = Path(root)
    for image in metadata.labels:
        if ',' in image:
            raise ValueError(f'{image}: image paths must not contain a comma; rename the image')
    if not all(name.strip() for name in metadata.classes):
        raise ValueError(f'{root / "classes.txt"}: class names must not be empty')
    root.mkdir(parents=True, exist_ok=True)
    (root / 'image_ids.txt').unlink(missing_ok=True)
    boxes, masks = _box_lines(metadata), _mask_lines(metadata)
    _write(root / 'class_labels.txt', map(_line, metadata.labels.items()))
    sizes = (_line((image, *size)) for image, size in metadata.sizes.items())
    _write(root / 'image_sizes.txt', sizes)
    _write(root / 'localization.txt', boxes or masks)
    _write(root / 'masks.txt', masks if boxes else [])
    _write(root / 'classes.txt', metadata.classes)
    _write(root / 'image_ids.txt', metadata.labels)


def _box_lines(metadata: WSOLMetadata) -> list[str]:
    return [
        _line((image, *map(_number, box)))
        for image, boxes in metadata.boxes.items()
        for box in boxes
    ]


def _mask_lines(metadata: WSOLMetadata) -> list[str]:
    # The first line of an image has its ignore mask.
    return [
        _line((image, mask, '' if i else masks.ignore or ''))
        for image, masks in metadata.masks.items()
        for i, mask in enumerate(masks.instances)
    ]


def _number(value: float) -> str:
    """Format a number; other readers require integers without a decimal point."""
    value = float(value)
    return str(int(value)) if value.is_integer() else repr(value)


def _line(fields: Iterable) -> str:
    return ','.join(map(str, fields))


def _write(path: Path, lines: Iterable[str]) -> None:
    text = ''.join(f'{line}\n' for line in lines)
    if not text:
        path.unlink(missing_ok=True)
        return
    temporary = path.with_suffix('.tmp')
    temporary.write_bytes(text.encode())
    os.replace(temporary, path)
