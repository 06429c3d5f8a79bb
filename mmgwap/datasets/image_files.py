"""Files that cannot be read as images, and what stands in their place."""

import io
from typing import Optional

import numpy as np
from mmcv.transforms import Compose, LoadImageFromFile
from mmengine.fileio import get
from PIL import Image, UnidentifiedImageError

UNKNOWN = 32  # px, a side of which the annotations say nothing


def why_bad(path: str, backend_args: Optional[dict] = None) -> Optional[str]:
    """What is wrong with the content of an image file.

    Args:
        path (str): of the file.
        backend_args (dict): as in mmengine.

    Returns:
        str: None if Pillow decodes it to its end, or if nothing can be said of
        its content: it is missing, a folder, or may not be read.
    """
    try:
        content = get(path, backend_args=backend_args)
    except Exception:  # what the backend raises, whichever it is
        return None
    if not content:
        return 'the file is empty'
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except MemoryError:
        return None
    except UnidentifiedImageError:
        return 'it is no image that Pillow knows'
    except Exception as error:  # each format has errors of its own
        return f'{type(error).__name__}: {error}'
    return None


def blank_sample(info: dict, pipeline: Compose) -> dict:
    """What a pipeline makes of an image, were it black.

    Args:
        info (dict): of the image; ``width`` and ``height`` say how large a
            blank one is.
        pipeline (Compose): with a ``LoadImageFromFile``; ends in
            ``PackDetInputs`` or mmcv's ``TestTimeAug`` around it.

    Returns:
        dict: the sample, with ``unreadable=True`` in the metainfo of its data
        sample, or those of all its views.

    Raises:
        ValueError: if the pipeline is another.
    """
    data, loaded = info, False
    for transform in pipeline.transforms:
        if isinstance(transform, LoadImageFromFile):
            data, loaded = _load_blank(transform, data), True
        else:
            data = transform(data)
    if not loaded or 'data_samples' not in data:
        raise ValueError(
            "on_bad_image='skip' with test_mode needs a pipeline with "
            'LoadImageFromFile that ends in PackDetInputs, got '
            f'{[type(one).__name__ for one in pipeline.transforms]}'
        )
    samples = data['data_samples']
    for sample in samples if isinstance(samples, list) else [samples]:
        sample.set_metainfo(dict(unreadable=True))
    return data


def _load_blank(loader: LoadImageFromFile, info: dict) -> dict:
    # Some labelling tools write 0 for a size that they do not know.
    shape = info.get('height') or UNKNOWN, info.get('width') or UNKNOWN
    grey = loader.color_type.startswith('grayscale')
    image = np.zeros(shape if grey else (*shape, 3), np.float32 if loader.to_float32 else np.uint8)
    return dict(info, img=image, img_shape=shape, ori_shape=shape)
