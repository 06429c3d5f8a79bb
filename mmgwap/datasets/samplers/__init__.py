from .partial_box_batch_sampler import PartialBoxBatchSampler, boxed_images

__all__ = ['PartialBoxBatchSampler', 'boxed_images']
