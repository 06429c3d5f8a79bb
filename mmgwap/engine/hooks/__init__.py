from .atomic_checkpoint_hook import AtomicCheckpointHook
from .exact_resume_hook import ExactResumeHook
from .stop_at_invalid_loss_hook import StopAtInvalidLossHook

__all__ = [
    'AtomicCheckpointHook', 'ExactResumeHook', 'StopAtInvalidLossHook'
]
