"""LIP in place of the downsampling of any network."""

from typing import Any, Callable, Optional

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmgwap.ops.windows import pair

from .lip import BottleneckLIP, LIPLayer, SimplifiedLIP

# An image has no features to judge importance by; layers that read fewer
# channels than this are left as they are.
LEAST_CHANNELS = 16
# The paper takes a 3x3 convolution for the 64 channels of the stem, and the
# bottleneck, of 128, for all wider maps.
SIMPLIFIED_UP_TO = 128


def default_lip(channels: int, **windows) -> LIPLayer:
    """The layer that the paper would choose for so many channels."""
    layer = SimplifiedLIP if channels <= SIMPLIFIED_UP_TO else BottleneckLIP
    return layer(channels, **windows)


class LIPConv2d(nn.Sequential):
    """LIP, then a convolution whose stride it has taken over.

    Weights of the convolution alone load too.
    """

    def __init__(self, lip: LIPLayer, conv: nn.Conv2d) -> None:
        super().__init__()
        self.lip = lip
        self.conv = conv
        self._register_load_state_dict_pre_hook(_name_conv)


def _name_conv(state_dict: dict, prefix: str, *args) -> None:
    for name in ('weight', 'bias'):
        if f'{prefix}{name}' in state_dict:
            state_dict[f'{prefix}conv.{name}'] = state_dict.pop(f'{prefix}{name}')


def convert_to_lip(
    model: nn.Module, inputs: Optional[Tensor] = None, build: Callable[..., LIPLayer] = default_lip
) -> nn.Module:
    """Replace max poolings and strided convolutions by LIP, in place.

    A max pooling becomes LIP with the same windows.  A convolution of stride s
    keeps its weights, gets stride 1, and LIP with windows of 2s - 1 before it.
    Maps keep their sizes, and checkpoints of the model still load, before and
    after.  Poolings of stride 1, and what can't be replaced (dilated poolings,
    convolutions that are not padded to keep the size, or read fewer than 16
    channels, as the first one does), stay; the log tells which.  What a model
    calls as a function, without a module, is not seen.

    Args:
        model (nn.Module): changed in place.
        inputs (Tensor, optional): with what to call the model once, to learn
            how many channels each pooling gets.  Without it, as many as the
            layer before gives, in the order of definition, which is wrong
            behind a concatenation.
        build (callable): ``build(channels, kernel_size=..., stride=...,
            padding=..., ceil_mode=...)`` makes a layer.

    Returns:
        nn.Module: ``model``, or the layer in its place if it was one itself.

    Raises:
        ValueError: if the channels of a pooling can't be told, or differ from
            call to call.
    """
    channels = _channels_by_order(model) if inputs is None else _channels_by_call(model, inputs)
    made: dict[nn.Module, nn.Module] = {}
    replaced, left = [], []
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if module not in made:
            reason = _why_not(module)
            if reason is None:
                continue
            if reason:
                left.append(f'{name} ({reason})')
                continue
            made[module] = _replace(module, name, channels, build)
            made[module].train(module.training)
            _adapt(made[module], module, model)
            replaced.append(name)
        model = _put(model, name, made[module])
    print_log(
        f'LIP takes the place of {len(replaced)} layers: '
        f'{", ".join(replaced) or "none"}; left as they are: '
        f'{", ".join(left) or "none"}',
        logger='current',
    )
    return model


def _why_not(module: nn.Module) -> Optional[str]:
    """'' if the module can be replaced, None if it doesn't downsample, else
    the reason why it can't."""
    if isinstance(module, nn.MaxPool2d):
        if max(pair(module.stride)) == 1:
            return None
        if max(pair(module.dilation)) > 1:
            return 'dilated'
        return 'returns indices' if module.return_indices else ''
    if isinstance(module, nn.Conv2d) and max(module.stride) > 1:
        if module.in_channels < LEAST_CHANNELS:
            return f'{module.in_channels} channels'
        padding = (0, 0) if module.padding == 'valid' else module.padding
        same = all(
            2 * pad == rate * (size - 1)
            for pad, rate, size in zip(padding, module.dilation, module.kernel_size)
        )
        return '' if same else 'padding does not keep the size'
    return None


def _replace(
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
    found = channels.get(module, set())
    if len(found) != 1:
        raise ValueError(
            f'{name}: '
            + (
                f'pools maps of {sorted(found)} channels; give each its own layer'
                if found
                else 'how many channels it pools is not known; pass inputs to convert_to_lip'
            )
        )
    return build(
        found.pop(),
        kernel_size=module.kernel_size,
        stride=module.stride,
        padding=module.padding,
        ceil_mode=module.ceil_mode,
    )


def _channels_by_order(model: nn.Module) -> dict[nn.Module, set]:
    channels, last = {}, None
    for module in model.modules():
        if isinstance(module, nn.MaxPool2d) and last is not None:
            channels[module] = {last}
        if not list(module.children()):
            last = getattr(module, 'out_channels', getattr(module, 'num_features', last))
    return channels


@torch.no_grad()
def _channels_by_call(model: nn.Module, inputs: Tensor) -> dict[nn.Module, set]:
    channels: dict[nn.Module, set] = {}

    def note(module: nn.Module, given: tuple[Tensor, ...], _: Any) -> None:
        channels.setdefault(module, set()).add(given[0].shape[1])

    hooks = [
        module.register_forward_hook(note)
        for module in model.modules()
        if isinstance(module, nn.MaxPool2d)
    ]
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()  # in training, batch norms would note it too
        model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    return channels


def _put(model: nn.Module, name: str, module: nn.Module) -> nn.Module:
    if not name:
        return module
    parent, _, child = name.rpartition('.')
    setattr(model.get_submodule(parent), child, module)
    return model


def _adapt(made: nn.Module, module: nn.Module, model: nn.Module) -> None:
    """Device, type and whether to learn: as the layer that was replaced, or,
    of a pooling, as the model."""
    like = list(module.parameters()) or list(model.parameters())
    if like:
        made.to(like[0].device, like[0].dtype)
        lip = made.lip if isinstance(made, LIPConv2d) else made
        lip.requires_grad_(any(one.requires_grad for one in like))
