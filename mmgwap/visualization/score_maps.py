"""Score maps over their images, one by one and as a sheet.

Shapes: images (H, W, 3), uint8, RGB; maps (H, W) of any range; boxes (N, 4),
x1, y1, x2, y2 in px, the lower right corner outside.
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

COLOURS = 'inferno'
TRUE, FOUND = 'white', 'lime'


class Tile(NamedTuple):
    """A picture of a sheet.

    Attributes:
        image: (H, W, 3).
        title: above it.
        score_map: (H, W), or None for the image alone.
        boxes: found by the map.
        true_boxes: of the ground truth.
    """

    image: np.ndarray
    title: str
    score_map: Optional[np.ndarray] = None
    boxes: np.ndarray = np.zeros((0, 4))
    true_boxes: np.ndarray = np.zeros((0, 4))


def overlay(image: np.ndarray, score_map: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """Blend a map, stretched to its own range, over its image.

    Args:
        image (np.ndarray): (H, W, 3).
        score_map (np.ndarray): (H, W).
        alpha (float): of the map, from 0 to 1.

    Returns:
        np.ndarray: (H, W, 3), uint8.

    Raises:
        ValueError: if the sizes differ.
    """
    if image.shape[:2] != score_map.shape:
        raise ValueError(f'overlay: an image of {image.shape[:2]} and a map of {score_map.shape}')
    colours = colormaps[COLOURS](normalize_map(score_map))[..., :3] * 255
    return np.rint(alpha * colours + (1 - alpha) * image).astype(np.uint8)


def draw_map(axes: Axes, tile: Tile) -> None:
    """Draw a tile into axes."""
    axes.imshow(tile.image if tile.score_map is None else overlay(tile.image, tile.score_map))
    for boxes, colour in ((tile.true_boxes, TRUE), (tile.boxes, FOUND)):
        for x1, y1, x2, y2 in np.asarray(boxes).reshape(-1, 4):
            # Pixel centres are whole numbers in matplotlib.
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
    """Write a tile with a colour bar that gives the map's own values."""
    height, width = tile.score_map.shape
    figure = Figure(figsize=(5.2, 4 * height / width + 0.6))
    axes = figure.subplots()
    draw_map(axes, tile)
    low, high = float(tile.score_map.min()), float(tile.score_map.max())
    # A constant map is drawn as zero, whatever its value.
    span = Normalize(low, high if high > low else low + 1)
    figure.colorbar(ScalarMappable(span, COLOURS), ax=axes, fraction=0.05)
    figure.savefig(path, dpi=110, bbox_inches='tight')


def save_sheet(
    tiles: list[Tile], path: str, columns: int = 4, note: str = 'white: true    green: found'
) -> None:
    """Write a contact sheet.

    Args:
        tiles (list[Tile]): line by line.
        path (str): of the picture.
        columns (int): in a line.
        note (str): above all.

    Raises:
        ValueError: if there are no tiles.
    """
    if not tiles:
        raise ValueError('save_sheet: no tiles')
    columns = min(columns, len(tiles))
    lines = -(-len(tiles) // columns)
    figure = Figure(figsize=(2.2 * columns, 2.4 * lines + 0.5), layout='constrained')
    axes = figure.subplots(lines, columns, squeeze=False)
    for one in axes.flat:
        one.axis('off')
    for one, tile in zip(axes.flat, tiles):
        draw_map(one, tile)
    figure.suptitle(note, fontsize=9)
    figure.savefig(path, dpi=110)
