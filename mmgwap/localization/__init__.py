"""Score maps and what is read off them; pure functions."""
from .maps import maps_on_image

__all__ = ['maps_on_image']
