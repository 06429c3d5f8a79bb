"""Text and JSON of files, with errors that name the file."""

import json
from pathlib import Path
from typing import Any, Optional, Union

from mmengine.fileio import get


def read_text(path: Union[str, Path], backend_args: Optional[dict] = None) -> str:
    """Text in UTF-8, with or without a mark of the byte order.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is in another encoding, or no text.
    """
    return _decode(get(path, backend_args=backend_args), path)


def read_json(path: Union[str, Path], backend_args: Optional[dict] = None) -> Any:
    """Content of a JSON file, see :func:`parse_json`."""
    return parse_json(get(path, backend_args=backend_args), path)


def parse_json(data: bytes, where: Union[str, Path]) -> Any:
    """Content of JSON.

    Raises:
        ValueError: if it is not UTF-8, not JSON, or an object in it has a key
            twice, of which Python would take the last.
    """
    text = _decode(data, where)
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{where}: is not JSON: {error}') from None


def _decode(data: bytes, where: Union[str, Path]) -> str:
    try:
        text = data.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(
            f'{where}: is not text in UTF-8: {error.reason}, at byte {error.start}'
        ) from None
    if '\0' in text:  # which no path may hold
        raise ValueError(f'{where}: is not text: a byte of it is 0')
    return text


def _object(pairs: list) -> dict:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f'an object has the key {twice!r} twice')
    return content
