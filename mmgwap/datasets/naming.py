"""Errors that name the image."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def naming(img_path: str) -> Iterator[None]:
    """Raise what fails while a sample is read with the image's path."""
    try:
        yield
    except Exception as error:
        raise RuntimeError(f'cannot prepare {img_path}: {type(error).__name__}: {error}') from error
