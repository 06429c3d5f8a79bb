"""Read text and JSON files, and find image files of unknown suffix."""

import json
import os.path as osp
from pathlib import Path
from typing import Any, Optional, Union

from mmengine.fileio import get, get_file_backend

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


def read_text(path: Union[str, Path], backend_args: Optional[dict] = None) -> str:
    """Read a UTF-8 text file, with or without a byte order mark.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is not UTF-8 text.
    """
    return _decode(get(path, backend_args=backend_args), path)


def read_json(path: Union[str, Path], backend_args: Optional[dict] = None) -> Any:
    """Read a JSON file, see :func:`parse_json`."""
    return parse_json(get(path, backend_args=backend_args), path)


def parse_json(data: bytes, where: Union[str, Path]) -> Any:
    """Parse JSON.

    Args:
        data (bytes): content of the file.
        where (str or Path): path of the file, for errors.

    Raises:
        ValueError: if the content is not UTF-8 or not JSON, or if an object in it repeats a key,
            where Python would keep the last value.
    """
    text = _decode(data, where)
    try:
        return json.loads(text, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{where}: invalid JSON: {error}') from None


def _decode(data: bytes, where: Union[str, Path]) -> str:
    try:
        text = data.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(f'{where}: not UTF-8 text: {error.reason} at byte {error.start}') from None
    if '\0' in text:  # no path can contain it
        raise ValueError(f'{where}: not text: contains a zero byte')
    return text


def _unique_keys(pairs: list) -> dict:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f'an object has the key {repeated!r} twice')
    return content


class ImageFinder:
    """Find the suffix of image files that are listed without it, as in VOC.

    Each folder is listed once.

    Args:
        backend_args (dict): arguments of mmengine's file backend.
    """

    def __init__(self, backend_args: Optional[dict] = None) -> None:
        self.backend_args = backend_args
        self._folders: dict[str, dict[str, str]] = {}

    def suffix_of(self, path: str) -> str:
        """Return the suffix of an image file, spelled as on disk.

        If several files match, the first in the order of ``IMAGE_SUFFIXES`` is chosen. If none
        matches, the suffix is '.jpg', as in VOC.

        Args:
            path (str): path of the file without its suffix.
        """
        folder, name = osp.split(path)
        if folder not in self._folders:
            self._folders[folder] = self._list(folder)
        return self._folders[folder].get(name, IMAGE_SUFFIXES[0])

    def _list(self, folder: str) -> dict[str, str]:
        backend = get_file_backend(folder, backend_args=self.backend_args)
        # The HTTP backend cannot list files.
        if not hasattr(backend, 'list_dir_or_file') or not backend.isdir(folder):
            return {}
        suffixes: dict[str, str] = {}
        for file in backend.list_dir_or_file(folder, list_dir=False):
            name, suffix = osp.splitext(file)
            if suffix.lower() in IMAGE_SUFFIXES:
                suffixes[name] = min(suffixes.get(name, suffix), suffix, key=_rank)
        return suffixes


def _rank(suffix: str) -> tuple:
    return IMAGE_SUFFIXES.index(suffix.lower()), suffix.lower() != suffix
