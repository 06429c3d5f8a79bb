"""Contents of unreadable image files."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def encoded(format, size=(64, 48)):
    """Encode an image of noise, whose content is long."""
    pixels = np.random.RandomState(0).randint(0, 255, (*size[::-1], 3))
    content = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(content, format)
    return content.getvalue()


def huge_png():
    """A short PNG whose header gives a size of 4 * 10 ** 8 px."""
    chunks = [b'IHDR' + struct.pack('>IIBBBBB', 20000, 20000, 8, 2, 0, 0, 0)]
    chunks.append(b'IDAT' + zlib.compress(b''))
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(chunk) - 4) + chunk + struct.pack('>I', zlib.crc32(chunk))
        for chunk in chunks
    )


# The suffix of the file is always .jpg.
BAD_FILES = dict(
    truncated_jpeg=encoded('JPEG')[:-200],
    half_a_png=encoded('PNG')[:4000],
    empty=b'',
    text=b'<html>404 not found</html>\n',
    png_header=encoded('PNG')[:33],
    gif_header=encoded('GIF')[:13],
    huge_png=huge_png(),
)
