"""Read data.yaml and label files in YOLO layout, as Ultralytics, Roboflow and CVAT write them.

    data.yaml            path, train, val, test, names, nc
    images/train/a.jpg   or train/images/a.jpg
    labels/train/a.txt   or train/labels/a.txt

A line of a label file is ``class x_center y_center width height``, or a class and the corners of a
polygon, ``class x1 y1 x2 y2 x3 y3 ...``. Coordinates are shares of the width and the height.

The rules are those of ultralytics/data/utils.py and base.py, read there, with these deviations:

* Relative paths start at the folder of data.yaml, or of the list of images, never at the working
  directory or at a folder of the user's settings.
* Each line is a box or a polygon. Ultralytics reads all lines of a file as polygons if one is.
* A faulty line is an error. Ultralytics leaves out its image with a warning.
"""

import logging
import os.path as osp
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Optional

import numpy as np
import yaml
from mmengine.fileio import exists, isdir, list_dir_or_file
from mmengine.logging import print_log

from .files import IMAGE_SUFFIXES, read_text

# Ultralytics accepts coordinates that lie outside of the image by this share of its size.
TOLERANCE = 0.01
NOT_LABELS = ('classes.txt',)  # LabelImg writes the names there


class YOLOObject(NamedTuple):
    """A line of a label file.

    Attributes:
        line: number of the line, from 1.
        category: index in ``names``.
        values: x_center, y_center, width, height, or the corners of a polygon.
    """

    line: int
    category: int
    values: tuple[float, ...]

    def is_polygon(self) -> bool:
        return len(self.values) > 4

    def is_outside(self) -> bool:
        """Return whether a coordinate lies outside of the image."""
        return not all(map(is_share, self.values))

    def polygon(self, width: int, height: int) -> list[float]:
        """Return the corners x1, y1, x2, y2, ... in pixels."""
        return (np.array(self.values).reshape(-1, 2) * (width, height)).flatten().tolist()

    def box(self, width: int, height: int) -> list[float]:
        """Return the box, or the tight box of the polygon, as x1, y1, x2, y2 in pixels."""
        if self.is_polygon():
            points = np.array(self.values).reshape(-1, 2)
            corners = np.concatenate([points.min(axis=0), points.max(axis=0)])
        else:
            x, y, w, h = self.values
            corners = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
        return (corners * (width, height, width, height)).tolist()


def is_share(value: float) -> bool:
    """Return whether a coordinate is in [0, 1], up to ``TOLERANCE``; False for NaN."""
    return -TOLERANCE <= value <= 1 + TOLERANCE


def read_data_yaml(path: str, backend_args: Optional[dict] = None) -> dict:
    """Read data.yaml. Values are text; ``names`` becomes a list.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is not YAML, has no valid ``names``, has another number of classes
            in ``nc``, or describes keypoints.
    """
    text = read_text(path, backend_args)
    try:
        # This loader keeps names such as `yes`, `null` and `007` as they are.
        content = yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f'{path}: invalid YAML: {" ".join(str(error).split())}') from None
    if not isinstance(content, dict):
        raise ValueError(
            f'{path}: must have the keys names, train and val, got {type(content).__name__}'
        )
    if 'kpt_shape' in content:
        raise ValueError(f'{path}: kpt_shape: labels with keypoints cannot be read')
    if not isinstance(content.get('path', ''), str):
        raise ValueError(f'{path}: path must be a folder, got {content["path"]!r:.80}')
    names = _check_names(content.get('names'), path)
    count = content.get('nc', str(len(names)))
    if count != str(len(names)):
        raise ValueError(f'{path}: nc is {count}, but names lists {len(names)} classes')
    return dict(content, names=names)


def _check_names(names: object, path: str) -> list[str]:
    """Return the names of the classes, from a list or from a mapping of numbers to names."""
    if isinstance(names, dict):
        numbers = list(map(str, range(len(names))))
        if set(names) != set(numbers):
            raise ValueError(
                f'{path}: names must be numbered from 0 to {len(names) - 1}, got the numbers '
                f'{", ".join(map(str, names)):.80}'
            )
        names = [names[number] for number in numbers]
    if not (isinstance(names, list) and names and all(isinstance(n, str) and n for n in names)):
        raise ValueError(
            f'{path}: names must be a list of class names, or a mapping of numbers to names, '
            f'{"but is missing" if names is None else f"got {names!r:.80}"}'
        )
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise ValueError(f'{path}: names lists {repeated[0]!r} {len(repeated)} times')
    return names


class ImageFiles(NamedTuple):
    """Images of a split.

    Attributes:
        paths: path of each image by its path relative to the root of the data set.
        folders: folders that were listed. An image that they hold is in ``paths``.
    """

    paths: dict[str, str]
    folders: list[str]


def find_images(
    content: dict, split: str, where: str, backend_args: Optional[dict] = None
) -> ImageFiles:
    """Find the images of a split: of a folder and its subfolders, of a list, or of several.

    Args:
        content (dict): content of data.yaml.
        split (str): its key, such as 'train'.
        where (str): path of data.yaml.
        backend_args (dict): arguments of mmengine's file backend.

    Raises:
        FileNotFoundError: if a folder, a list, or an image in a list does not exist.
        ValueError: if data.yaml does not have the split, a folder holds no image, or an image
            occurs twice.
    """
    entries = content.get(split)
    entries = [entries] if isinstance(entries, str) else entries
    if not (isinstance(entries, list) and all(isinstance(e, str) and e for e in entries)):
        raise ValueError(
            f'{where}: {split} must be a folder, a .txt file that lists images, or a list of '
            f'these, {f"got {entries!r:.80}" if split in content else "but is missing"}'
        )
    images = ImageFiles({}, [])
    for entry in entries:
        root, path = _find_entry(entry, content.get('path'), where, backend_args)
        if isdir(path, backend_args=backend_args):
            images.folders.append(path)
            found = _images_in_folder(path, f'{where}: {split}', backend_args)
        else:
            found = _images_in_list(path, backend_args)
        for image, source in found:
            name = osp.relpath(image, root) if '://' not in image else image
            if name in images.paths:
                raise ValueError(f'{source}: {image} occurs twice')
            images.paths[name] = image
    return images


def _join(*parts: str) -> str:
    path = osp.join(*parts)
    # Two slashes of an URL must stay.
    return path if '://' in path else osp.normpath(path)


def _find_entry(
    entry: str, root: Optional[str], where: str, backend_args: Optional[dict]
) -> tuple[str, str]:
    """Return the root of the data set, and the path of a folder or list in it.

    Roboflow writes paths such as '../train/images' that do not exist. As in Ultralytics, the entry
    is then searched without '../'. If the entry is not found below ``root``, for example because
    the data set was made on another machine, it is searched below the folder of data.yaml, with a
    warning.
    """
    folder = osp.dirname(where)
    roots = [_join(folder, part) for part in dict.fromkeys([root or '', ''])]
    for candidate in roots:
        for name in (entry, entry[3:] if entry.startswith('../') else entry):
            path = _join(candidate, name)
            if exists(path, backend_args=backend_args):
                if candidate != roots[0]:
                    print_log(
                        f'{where}: path {root} has no {entry}; {path} is used instead',
                        'current',
                        logging.WARNING,
                    )
                return candidate, path
    raise FileNotFoundError(f'{where}: {entry} does not exist in {" or ".join(roots)}')


def _images_in_folder(
    folder: str, where: str, backend_args: Optional[dict]
) -> Iterator[tuple[str, str]]:
    """Yield the path of each image, and the folder, for errors."""
    files = list_dir_or_file(folder, list_dir=False, recursive=True, backend_args=backend_args)
    files = sorted(file for file in files if file.lower().endswith(IMAGE_SUFFIXES))
    if not files:
        raise ValueError(f'{where}: {folder} holds no image ({", ".join(IMAGE_SUFFIXES)})')
    for file in files:
        yield _join(folder, file), folder


def _images_in_list(path: str, backend_args: Optional[dict]) -> Iterator[tuple[str, str]]:
    """Yield the path of each image, and file and line, for errors."""
    lines = map(str.strip, read_text(path, backend_args).splitlines())
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        image, where = _join(osp.dirname(path), line), f'{path}, line {number}'
        if not exists(image, backend_args=backend_args):
            raise FileNotFoundError(f'{where}: {image} does not exist')
        yield image, where


def label_path(image: str) -> str:
    """Return the path of the label file of an image.

    The last folder ``images`` of the path becomes ``labels``. Without such a folder, the label
    file is beside the image.

    Example:
        >>> label_path('data/own/images/train/a.jpg'), label_path('data/own/a.jpg')
        ('data/own/labels/train/a.txt', 'data/own/a.txt')
    """
    head, found, tail = f'/{image}'.rpartition('/images/')
    path = f'{head}/labels/{tail}'[1:] if found else image
    return osp.splitext(path)[0] + '.txt'


def labels_without_image(images: ImageFiles, backend_args: Optional[dict] = None) -> list[str]:
    """Return the label files of the listed folders that belong to no image."""
    known = {label_path(path) for path in images.paths.values()}
    found = []
    for folder in dict.fromkeys(osp.dirname(label_path(f'{f}/x')) for f in images.folders):
        if not isdir(folder, backend_args=backend_args):
            continue
        files = list_dir_or_file(
            folder, list_dir=False, suffix='.txt', recursive=True, backend_args=backend_args
        )
        found += [_join(folder, f) for f in files if osp.basename(f) not in NOT_LABELS]
    return sorted(set(found) - known)


def read_labels(
    path: str, num_classes: int, backend_args: Optional[dict] = None
) -> list[YOLOObject]:
    """Read a label file.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if a line has another number of columns, a value that is not a number, or a
            class that is not in ``names``. The message has the line.
    """
    lines = enumerate(read_text(path, backend_args).splitlines(), 1)
    return [
        YOLOObject(number, *_parse_line(line, num_classes, f'{path}, line {number}'))
        for number, line in lines
        if line.strip()
    ]


def _parse_line(line: str, num_classes: int, where: str) -> tuple[int, tuple[float, ...]]:
    fields = line.split()
    count = len(fields)
    if count != 5 and (count < 7 or count % 2 == 0):
        hint = '; a sixth column, such as a score or a track, cannot be read' * (count == 6)
        raise ValueError(
            f'{where}: must have 5 columns, class, x_center, y_center, width and height, or a '
            f'class and the x and y of 3 points or more, got {count}{hint}'
        )
    try:
        category, *values = map(float, fields)
    except ValueError:
        raise ValueError(f'{where}: must have numbers only, got {line!r:.80}') from None
    # Some tools write 1.0 for the class 1.
    if not (category.is_integer() and 0 <= category < num_classes):
        raise ValueError(
            f'{where}: class {fields[0]:.20} is not in names of data.yaml, which has the classes '
            f'0 to {num_classes - 1}'
        )
    return int(category), tuple(values)


def drop_repeated(objects: Iterable[YOLOObject]) -> tuple[list[YOLOObject], list[int]]:
    """Return the objects without repetitions, and the lines that repeat an earlier one."""
    first = {}
    repeated = []
    for obj in objects:
        if first.setdefault(obj[1:], obj) is not obj:
            repeated.append(obj.line)
    return list(first.values()), repeated
