"""Pictures of score maps over their images, single or as a contact sheet.

Shapes: images (H, W, 3), uint8, RGB; maps (H, W) of any range; boxes (N, 4), (x1, y1,
x2, y2) in pixels, where x2 and y2 are exclusive.
"""

from typing import NamedTuple, Optional

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mmgwap.localization import normalize_map

COLOUR_MAP = 'inferno'
TRUE_BOX_COLOUR, BOX_COLOUR = 'white', 'lime'


class Tile(NamedTuple):
    """An image with its score map and boxes.

    Attributes:
        image: (H, W, 3).
        title: text above the image.
        score_map: (H, W), or None to show the image only.
        boxes: boxes that were read off the map.
        true_boxes: ground truth boxes.
    """

    image: np.ndarray
    title: str
    score_map: Optional[np.ndarray] = None
    boxes: np.ndarray = np.zeros((0, 4))
    true_boxes: np.ndarray = np.zeros((0, 4))


def overlay(image: np.ndarray, score_map: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """Blend a map over its image, after scaling the map to [0, 1].

    Args:
        image (np.ndarray): (H, W, 3).
        score_map (np.ndarray): (H, W).
        alpha (float): opacity of the map, in [0, 1].

    Returns:
        np.ndarray: (H, W, 3), uint8.

    Raises:
        ValueError: if the sizes differ.

    Example:
        >>> overlay(np.zeros((2, 3, 3), np.uint8), np.eye(2, 3)).shape
        (2, 3, 3)
    """
    if image.shape[:2] != score_map.shape:
        raise ValueError(
            'overlay: image and map must have the same size, got '
            f'{image.shape[:2]} and {score_map.shape}'
        )
    colours = colormaps[COLOUR_MAP](normalize_map(score_map))[..., :3] * 255
    return np.rint(alpha * colours + (1 - alpha) * image).astype(np.uint8)


def draw_map(axes: Axes, tile: Tile) -> None:
    """Draw a tile on matplotlib axes."""
    axes.imshow(tile.image if tile.score_map is None else overlay(tile.image, tile.score_map))
    for boxes, colour in ((tile.true_boxes, TRUE_BOX_COLOUR), (tile.boxes, BOX_COLOUR)):
        for x1, y1, x2, y2 in np.asarray(boxes).reshape(-1, 4):
            # In matplotlib, the centres of pixels have integer coordinates.
            axes.add_patch(
                Rectangle(
                    (x1 - 0.5, y1 - 0.5),
                    x2 - x1,
                    y2 - y1,
                    fill=False,
                    edgecolor=colour,
                    linewidth=1.5,
                )
            )
    axes.set_title(tile.title, fontsize=8)
    axes.axis('off')


def save_overlay(tile: Tile, path: str) -> None:
    """Save a tile with a colour bar of the values of the map."""
    height, width = tile.score_map.shape
    figure = Figure(figsize=(5.2, 4 * height / width + 0.6))
    axes = figure.subplots()
    draw_map(axes, tile)
    low, high = float(tile.score_map.min()), float(tile.score_map.max())
    # overlay draws a constant map in the colour of the minimum.
    span = Normalize(low, high if high > low else low + 1)
    figure.colorbar(ScalarMappable(span, COLOUR_MAP), ax=axes, fraction=0.05)
    figure.savefig(path, dpi=110, bbox_inches='tight')


def save_sheet(
    tiles: list[Tile], path: str, columns: int = 4, note: str = 'white: true    green: found'
) -> None:
    """Save a contact sheet.

    Args:
        tiles (list[Tile]): tiles in row-major order.
        path (str): path of the picture.
        columns (int): number of tiles in a row.
        note (str): title of the sheet.

    Raises:
        ValueError: if ``tiles`` is empty.
    """
    if not tiles:
        raise ValueError('save_sheet: tiles must not be empty')
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    figure = Figure(figsize=(2.2 * columns, 2.4 * rows + 0.5), layout='constrained')
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for cell, tile in zip(axes, tiles):
        draw_map(cell, tile)
    for cell in axes[len(tiles) :]:
        cell.axis('off')
    figure.suptitle(note, fontsize=9)
    figure.savefig(path, dpi=110)
