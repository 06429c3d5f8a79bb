"""Which images of any data set have boxes."""

import numpy as np
from mmengine.dataset import ClassBalancedDataset, ConcatDataset, RepeatDataset


def boxed_images(dataset) -> np.ndarray:
    """Whether each image has boxes.

    Args:
        dataset: mmgwap's or mmdet's, or mmengine's wrappers around them.  One
            that says nothing has boxes on every image.

    Returns:
        np.ndarray: (len(dataset), ) bool.
    """
    if isinstance(dataset, ConcatDataset):
        return np.concatenate([boxed_images(part) for part in dataset.datasets])
    if isinstance(dataset, RepeatDataset):
        return np.tile(boxed_images(dataset.dataset), dataset.times)
    if isinstance(dataset, ClassBalancedDataset):
        return boxed_images(dataset.dataset)[dataset.repeat_indices]
    # num_batch_per_epoch cuts a data set short.
    if hasattr(dataset, '_dataset'):
        return boxed_images(dataset._dataset)[: len(dataset)]
    return getattr(dataset, 'boxed', np.ones(len(dataset), dtype=bool))
