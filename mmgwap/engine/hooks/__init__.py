from .atomic_checkpoint_hook import AtomicCheckpointHook
from .bad_images_hook import BadImagesHook, ReadableVisualizationHook
from .exact_resume_hook import ExactResumeHook
from .mean_teacher_hook import MeanTeacherHook
from .stop_at_invalid_loss_hook import StopAtInvalidLossHook

__all__ = [
    'AtomicCheckpointHook',
    'BadImagesHook',
    'ExactResumeHook',
    'MeanTeacherHook',
    'ReadableVisualizationHook',
    'StopAtInvalidLossHook',
]
