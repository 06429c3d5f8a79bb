"""Replacement of the downsampling layers of any network by LIP."""

from typing import Any, Callable, Optional

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmgwap.ops.windows import pair

from .lip import BottleneckLIP, LIPLayer, SimplifiedLIP

# Layers that read fewer channels are kept: an image has no features to compute importance from.
MIN_CHANNELS = 16
# The paper computes logits by a 3x3 convolution for the 64 channels of the stem, and by a
# bottleneck of 128 channels for all wider maps.
MAX_SIMPLIFIED_CHANNELS = 128


def default_lip(channels: int, **windows) -> LIPLayer:
    """Build the LIP layer that the paper uses for maps of this width."""
    layer = SimplifiedLIP if channels <= MAX_SIMPLIFIED_CHANNELS else BottleneckLIP
    return layer(channels, **windows)


class LIPConv2d(nn.Sequential):
    """LIP followed by the convolution whose stride it replaces.

    Checkpoints with the weights of the convolution alone load too.
    """

    def __init__(self, lip: LIPLayer, conv: nn.Conv2d) -> None:
        super().__init__()
        self.lip = lip
        self.conv = conv
        self.register_load_state_dict_pre_hook(_rename_conv)


def _rename_conv(module: nn.Module, state_dict: dict, prefix: str, *args) -> None:
    """Rename the parameters of a plain convolution, before loading."""
    for name in ('weight', 'bias'):
        if f'{prefix}{name}' in state_dict:
            state_dict[f'{prefix}conv.{name}'] = state_dict.pop(f'{prefix}{name}')


def convert_to_lip(
    model: nn.Module, inputs: Optional[Tensor] = None, build: Callable[..., LIPLayer] = default_lip
) -> nn.Module:
    """Replace max poolings and strided convolutions by LIP, in place.

    A max pooling becomes LIP with the same windows. A convolution of stride s keeps its weights
    with stride 1, behind LIP with windows of 2s - 1. Maps keep their sizes, and checkpoints of the
    original and of the converted model load. Dilated poolings, poolings that return indices, and
    convolutions that are not padded to keep the size or that read fewer than 16 channels are kept,
    and the log lists them. Poolings called as functions (``F.max_pool2d``) are not found.

    Args:
        model (nn.Module): model, changed in place.
        inputs (Tensor, optional): input for one call of the model, which records the channels of
            each pooling. By default a pooling is assumed to read the output of the layer defined
            before it, which is wrong behind a concatenation.
        build (callable): ``build(channels, kernel_size=..., stride=..., padding=...,
            ceil_mode=...)`` builds a LIP layer.

    Returns:
        nn.Module: ``model``, or its replacement if ``model`` is itself a downsampling layer.

    Raises:
        ValueError: if the number of channels of a pooling is unknown or differs between calls.
    """
    channels = _channels_by_order(model) if inputs is None else _channels_by_call(model, inputs)
    replacements: dict[nn.Module, nn.Module] = {}
    replaced, kept = [], []
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if module not in replacements:
            reason = _why_kept(module)
            if reason is None:
                continue
            if reason:
                kept.append(f'{name} ({reason})')
                continue
            replacements[module] = _build_replacement(module, name, channels, build)
            replacements[module].train(module.training)
            _match_parameters(replacements[module], module, model)
            replaced.append(name)
        model = _set_submodule(model, name, replacements[module])
    print_log(
        f'LIP replaces {len(replaced)} layers: {", ".join(replaced) or "none"}; '
        f'kept: {", ".join(kept) or "none"}',
        logger='current',
    )
    return model


def _why_kept(module: nn.Module) -> Optional[str]:
    """Return why a module is kept: '' if it can be replaced, None if it does not downsample."""
    if isinstance(module, nn.MaxPool2d):
        if max(pair(module.stride)) == 1:
            return None
        if max(pair(module.dilation)) > 1:
            return 'dilated'
        return 'returns indices' if module.return_indices else ''
    if isinstance(module, nn.Conv2d) and max(module.stride) > 1:
        if module.in_channels < MIN_CHANNELS:
            return f'{module.in_channels} channels'
        padding = (0, 0) if module.padding == 'valid' else module.padding
        same = all(
            2 * pad == rate * (size - 1)
            for pad, rate, size in zip(padding, module.dilation, module.kernel_size)
        )
        return '' if same else 'padding does not keep the size'
    return None


def _build_replacement(
    module: nn.Module, name: str, channels: dict, build: Callable[..., LIPLayer]
) -> nn.Module:
    if isinstance(module, nn.Conv2d):
        lip = build(
            module.in_channels,
            kernel_size=tuple(2 * s - 1 for s in module.stride),
            stride=module.stride,
            padding=tuple(s - 1 for s in module.stride),
            ceil_mode=False,
        )
        module.stride = (1, 1)
        return LIPConv2d(lip, module)
    counts = sorted(channels.get(module, ()))
    if not counts:
        raise ValueError(f'{name}: number of channels is unknown; pass inputs to convert_to_lip')
    if len(counts) > 1:
        raise ValueError(f'{name}: pools maps of {counts} channels; use a layer for each')
    return build(
        counts[0],
        kernel_size=module.kernel_size,
        stride=module.stride,
        padding=module.padding,
        ceil_mode=module.ceil_mode,
    )


def _channels_by_order(model: nn.Module) -> dict[nn.Module, set]:
    """Return the channels of the layer defined before each pooling."""
    channels, last = {}, None
    for module in model.modules():
        if isinstance(module, nn.MaxPool2d) and last is not None:
            channels[module] = {last}
        if not list(module.children()):
            last = getattr(module, 'out_channels', getattr(module, 'num_features', last))
    return channels


@torch.no_grad()
def _channels_by_call(model: nn.Module, inputs: Tensor) -> dict[nn.Module, set]:
    """Return the channels that each pooling reads while the model runs on the inputs."""
    channels: dict[nn.Module, set] = {}

    def record(module: nn.Module, args: tuple[Tensor, ...], _: Any) -> None:
        channels.setdefault(module, set()).add(args[0].shape[1])

    hooks = [
        module.register_forward_hook(record)
        for module in model.modules()
        if isinstance(module, nn.MaxPool2d)
    ]
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()  # in training mode the call would update the statistics of batch norms
        model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    return channels


def _set_submodule(model: nn.Module, name: str, module: nn.Module) -> nn.Module:
    if not name:
        return module
    parent, _, child = name.rpartition('.')
    setattr(model.get_submodule(parent), child, module)
    return model


def _match_parameters(replacement: nn.Module, module: nn.Module, model: nn.Module) -> None:
    """Copy device, dtype and ``requires_grad`` from the replaced module or, without parameters, the
    model."""
    parameters = list(module.parameters()) or list(model.parameters())
    if parameters:
        replacement.to(parameters[0].device, parameters[0].dtype)
        lip = replacement.lip if isinstance(replacement, LIPConv2d) else replacement
        lip.requires_grad_(any(parameter.requires_grad for parameter in parameters))
