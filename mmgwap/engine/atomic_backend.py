"""Files that are either whole or not there."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Union

from mmengine.fileio import LocalBackend, register_backend


class AtomicLocalBackend(LocalBackend):
    """mmengine's local files, written beside their place and moved into it.

    A process that is killed while it writes, or a disk that is full, leaves
    what was there before.  The file beside it, ``NAME.tmp``, is overwritten by
    the next attempt.

    Raises:
        OSError: as ``open`` and ``write`` do.
    """

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        filepath = Path(filepath)
        filepath.parent.mkdir(parents=True, exist_ok=True)
        temporary = filepath.with_name(f'{filepath.name}.tmp')
        try:
            with open(temporary, 'wb') as file:
                file.write(obj)
                file.flush()
                # The name must not reach the disk before the content does.
                os.fsync(file.fileno())
            os.replace(temporary, filepath)
        except OSError:
            # A part of a checkpoint only takes space that is short already.
            with suppress(OSError):
                temporary.unlink()
            raise

    def put_text(self, obj: str, filepath: Union[str, Path], encoding: str = 'utf-8') -> None:
        self.put(obj.encode(encoding), filepath)


register_backend('mmgwap.atomic', AtomicLocalBackend, force=True)
