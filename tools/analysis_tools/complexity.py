"""Parameters and FLOPs of a model."""

from functools import partial

import torch
from mmengine.analysis import FlopAnalyzer


def parameters(model: torch.nn.Module) -> dict[str, list]:
    """Parameters, all and those that are trained, by part; '' is the model."""
    parts = {'': model}
    for name, child in model.named_children():
        if name == 'detector':  # of MultiTaskDetector
            parts.update((f'{name}.{inner}', part) for inner, part in child.named_children())
        else:
            parts[name] = child
    counts = {
        name: [
            sum(p.numel() for p in part.parameters()),
            sum(p.numel() for p in part.parameters() if p.requires_grad),
        ]
        for name, part in parts.items()
    }
    return {name: count for name, count in counts.items() if count[0]}


def flops(model: torch.nn.Module, batch: dict) -> dict:
    """Multiply-adds of a batch, by mmengine's analyzer.

    It counts convolutions, products of matrices, normalisations and
    interpolation.

    Args:
        model (nn.Module): in evaluation mode.
        batch (dict): from a loader.

    Returns:
        dict: ``flops``; ``size``, height and width of the padded batch;
        ``not_counted``, how often each other operation occurs.
    """
    data = model.data_preprocessor(batch)
    # As in mmdet's get_flops.py: the tracer gives the images alone.
    model.forward = partial(model.forward, data_samples=data['data_samples'])
    try:
        analyzer = FlopAnalyzer(model, data['inputs'])
        analyzer.unsupported_ops_warnings(False)
        analyzer.uncalled_modules_warnings(False)
        analyzer.tracer_warnings('none')
        return dict(
            flops=int(analyzer.total()),
            size=list(data['inputs'].shape[2:]),
            not_counted=dict(analyzer.unsupported_ops()),
        )
    finally:
        del model.forward  # of the instance; the class has its own
