"""The memory of a training step, counted on any device."""

import weakref
from collections.abc import Iterable
from typing import Callable

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive.

    Sees what any operation returns, also in the backward pass; tensors of one
    storage count once.  It does not see what a kernel takes for itself.

    Attributes:
        bytes: of those alive now.
        peak: the most so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self._sizes = {}  # by the address of the storage

    def watch(self, tensors: Iterable[torch.Tensor]) -> None:
        """Count tensors that are there already."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self._sizes:
                weakref.finalize(storage, self._free, key).atexit = False
            # A storage may grow.
            self.bytes += storage.nbytes() - self._sizes.get(key, 0)
            self._sizes[key] = storage.nbytes()
        self.peak = max(self.peak, self.bytes)

    def _free(self, key: int) -> None:
        self.bytes -= self._sizes.pop(key)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.watch(_dense(result))
        return result


def step_memory(
    step: Callable[[], None], model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, int]:
    """Bytes of the tensors of a training step.

    Args:
        step (callable): a training step; one was taken before, so that the
            optimizer has its state.
        model (nn.Module): that it trains.
        optimizer (Optimizer): that it uses.

    Returns:
        dict: bytes of

        * weights, with buffers;
        * gradients, of all weights that are trained;
        * optimizer state;
        * activations: all that autograd keeps for the backward pass, but for
          weights;
        * peak: the most at one time of all tensors, not counting the loader's
          batch.  Gradients are not there before the backward pass, and
          activations not after it, so it may be less than the sum; it may be
          more, for what the forward pass does not keep.
    """
    weights = [*model.parameters(), *model.buffers()]
    known = {one.untyped_storage()._cdata for one in weights}
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        for one in _dense(tensor):
            storage = one.untyped_storage()
            if storage._cdata not in known:
                kept[storage._cdata] = storage.nbytes()
        return tensor

    state = list(_dense([*optimizer.state.values()]))
    live = LiveTensors()
    live.watch([*weights, *state, *(p.grad for p in model.parameters() if p.grad is not None)])
    with live, saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return dict(
        weights=_size(weights),
        gradients=_size(p for p in model.parameters() if p.requires_grad),
        optimizer_state=_size(state),
        activations=sum(kept.values()),
        peak=live.peak,
    )


def _dense(values) -> Iterable[torch.Tensor]:
    return (
        one
        for one in tree_leaves(values)
        if isinstance(one, torch.Tensor) and one.layout == torch.strided
    )


def _size(tensors: Iterable[torch.Tensor]) -> int:
    return sum(
        {one.untyped_storage()._cdata: one.untyped_storage().nbytes() for one in tensors}.values()
    )
