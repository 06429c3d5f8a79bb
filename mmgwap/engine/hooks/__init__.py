from .atomic_checkpoint_hook import AtomicCheckpointHook
from .bad_images_hook import BadImagesHook
from .exact_resume_hook import ExactResumeHook
from .readable_visualization_hook import ReadableVisualizationHook
from .stop_at_invalid_loss_hook import StopAtInvalidLossHook

__all__ = [
    'AtomicCheckpointHook',
    'BadImagesHook',
    'ExactResumeHook',
    'ReadableVisualizationHook',
    'StopAtInvalidLossHook',
]
