from .partial_box_batch_sampler import PartialBoxBatchSampler

__all__ = ['PartialBoxBatchSampler']
