"""Score maps and what is read off them; pure functions."""

from .boxes import boxes_from_map, normalize_map
from .cam import class_activation_maps
from .gradient_cam import GRADIENT_CAMS, grad_cam, grad_cam_plusplus, layer_cam
from .maps import resize_maps

__all__ = [
    'GRADIENT_CAMS',
    'boxes_from_map',
    'class_activation_maps',
    'grad_cam',
    'grad_cam_plusplus',
    'layer_cam',
    'resize_maps',
    'normalize_map',
]
