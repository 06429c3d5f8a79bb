"""Image files of which only the name without a suffix is known, as of VOC."""

import os.path as osp
from typing import Optional

from mmengine.fileio import get_file_backend

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


class ImageSuffixes:
    """Looks into each folder once.

    Args:
        backend_args (dict): as in mmengine.
    """

    def __init__(self, backend_args: Optional[dict] = None) -> None:
        self.backend_args = backend_args
        self._folders: dict[str, dict[str, str]] = {}

    def of(self, path: str) -> str:
        """Suffix of a file, in the letters that it has there.

        Of several files with that name the first one in the order of
        ``SUFFIXES`` counts.  It is '.jpg', VOC's own, if there is none.

        Args:
            path (str): without a suffix.
        """
        folder, name = osp.split(path)
        if folder not in self._folders:
            self._folders[folder] = self._look(folder)
        return self._folders[folder].get(name, SUFFIXES[0])

    def _look(self, folder: str) -> dict[str, str]:
        backend = get_file_backend(folder, backend_args=self.backend_args)
        # HTTP has no lists of files.
        if not hasattr(backend, 'list_dir_or_file') or not backend.isdir(folder):
            return {}
        found: dict[str, str] = {}
        for file in backend.list_dir_or_file(folder, list_dir=False):
            name, suffix = osp.splitext(file)
            known = found.get(name, suffix)
            if suffix.lower() in SUFFIXES:
                found[name] = min(known, suffix, key=_rank)
        return found


def _rank(suffix: str) -> tuple:
    return SUFFIXES.index(suffix.lower()), suffix.lower() != suffix
