from .bad_images_hook import BadImagesHook

__all__ = ['BadImagesHook']
