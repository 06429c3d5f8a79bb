"""VOC's XML files: what is wrong in one is said before it is used."""

from typing import Optional
from xml.etree import ElementTree

from .degenerate import HUGE
from .text_files import read_text

SIDES = ('xmin', 'ymin', 'xmax', 'ymax')


def read_ids(path: str, backend_args: Optional[dict] = None) -> list[str]:
    """Ids of images, a line each, of a VOC image set; blank lines don't count.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not text, or an id comes twice; with the line.
    """
    ids = {}
    lines = read_text(path, backend_args).splitlines()
    for number, line in enumerate(map(str.strip, lines), 1):
        if line in ids:
            raise ValueError(f'{path}, line {number}: {line} comes a second time')
        if line:
            ids[line] = None
    return list(ids)


def parse_xml(data: bytes, where: str) -> ElementTree.Element:
    """The root.

    Raises:
        ValueError: if it is not XML.
    """
    try:
        return ElementTree.fromstring(data)
    # An encoding that expat does not know is one of the latter two.
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ValueError(f'{where}: is not XML: {error}') from None


def read_size(root: ElementTree.Element, where: str) -> Optional[tuple[int, int]]:
    """Width and height; None if the file has none, or 0.

    Some labelling tools write 0 for a size that they do not know.

    Raises:
        ValueError: if they are no numbers of pixels.
    """
    if root.find('size') is None:
        return None
    size = _only(root, 'size', where)
    width, height = (_number(size, side, where) for side in ('width', 'height'))
    if width == 0 or height == 0:
        return None
    if not (1 <= width < HUGE and 1 <= height < HUGE):
        raise ValueError(f'{where}: <size> must be pixels, from 1, got {width:g} x {height:g}')
    return int(width), int(height)


def read_object(obj: ElementTree.Element, where: str) -> tuple[str, list[float]]:
    """Name and corners of an object, as they are in the file.

    Raises:
        ValueError: if it lacks one, has it twice or in another form, or
            ``<difficult>`` is neither 0 nor 1.
    """
    name = _only(obj, 'name', where).text
    if not name:
        raise ValueError(f'{where}: <name> is empty')
    if obj.find('difficult') is not None:
        text = _only(obj, 'difficult', where).text
        if str(text).strip() not in ('0', '1'):
            raise ValueError(f'{where}: <difficult> must be 0 or 1, got {text!r:.80}')
    box = _only(obj, 'bndbox', where)
    return name, [_number(box, side, where) for side in SIDES]


def _only(element: ElementTree.Element, name: str, where: str) -> ElementTree.Element:
    found = element.findall(name)
    if len(found) != 1:
        raise ValueError(
            f'{where}: needs one <{name}> in <{element.tag}>, has {len(found) or "none"}'
        )
    return found[0]


def _number(element: ElementTree.Element, name: str, where: str) -> float:
    text = _only(element, name, where).text
    try:
        return float(text)
    except (TypeError, ValueError):
        raise ValueError(f'{where}: <{name}> must be a number, got {text!r:.80}') from None
