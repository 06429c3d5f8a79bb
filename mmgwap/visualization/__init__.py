"""Pictures of score maps and boxes."""

from .score_maps import Tile, draw_map, overlay, save_overlay, save_sheet

__all__ = ['Tile', 'draw_map', 'overlay', 'save_overlay', 'save_sheet']
