"""Errors that name the image."""
from contextlib import contextmanager
from typing import Iterator


@contextmanager
def naming(img_path: str) -> Iterator[None]:
    """Raise what fails while a sample is read with the image's path."""
    try:
        yield
    except Exception as error:
        raise RuntimeError(f'cannot prepare {img_path}: '
                           f'{type(error).__name__}: {error}') from error
