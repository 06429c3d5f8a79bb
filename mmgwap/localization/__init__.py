"""Pure functions that compute score maps, resize them and read boxes off them."""

from .cam import GRADIENT_CAMS, class_activation_maps, grad_cam, grad_cam_plusplus, layer_cam
from .maps import BOX_CHOICES, boxes_from_map, normalize_map, resize_maps

__all__ = [
    'BOX_CHOICES',
    'GRADIENT_CAMS',
    'boxes_from_map',
    'class_activation_maps',
    'grad_cam',
    'grad_cam_plusplus',
    'layer_cam',
    'normalize_map',
    'resize_maps',
]
