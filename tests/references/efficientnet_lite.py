"""EfficientNet-Lite0 as calls of torch.nn.functional on the tensors of a checkpoint."""

from torch.nn.functional import batch_norm, conv2d, hardtanh, linear, pad

# Stride of each block, in the order of the checkpoint, and the last block of each stage that is
# compared: 16, 24, 40, 112 and 320 channels.
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
STAGE_ENDS = (0, 2, 4, 10, 15)


def stages(state, x, same=True, eps=1e-3):
    """Return the maps of the stem, the five stages and the head.

    Args:
        state (dict): tensors by the names of the checkpoint.
        x (Tensor): (B, 3, H, W).
        same (bool): whether convolutions pad as TensorFlow's "SAME": the output has
            ``ceil(side / stride)`` cells, and an odd cell of padding goes to the right and the
            bottom. Otherwise each side is padded by half a kernel.
        eps (float): added to the variances.
    """

    def layer(x, conv, norm, stride=1):
        weight = state[f'{conv}.weight']
        size = weight.shape[-1]
        if same:
            total = [max((-(-n // stride) - 1) * stride + size - n, 0) for n in x.shape[2:]]
            (top, bottom), (left, right) = ((n // 2, n - n // 2) for n in total)
        else:
            top = bottom = left = right = size // 2
        x = pad(x, (left, right, top, bottom))
        x = conv2d(x, weight, stride=stride, groups=x.shape[1] if weight.shape[1] == 1 else 1)
        parts = (f'{norm}.{key}' for key in ('running_mean', 'running_var', 'weight', 'bias'))
        return batch_norm(x, *(state[part] for part in parts), eps=eps)

    def relu6(x):
        return hardtanh(x, 0.0, 6.0)

    x = relu6(layer(x, '_conv_stem', '_bn0', 2))
    outs = [x]
    for index, stride in enumerate(STRIDES):
        name, before = f'_blocks.{index}', x
        if f'{name}._expand_conv.weight' in state:
            x = relu6(layer(x, f'{name}._expand_conv', f'{name}._bn0'))
        x = relu6(layer(x, f'{name}._depthwise_conv', f'{name}._bn1', stride))
        x = layer(x, f'{name}._project_conv', f'{name}._bn2')
        if x.shape == before.shape:
            x = x + before
        if index in STAGE_ENDS:
            outs.append(x)
    return outs + [relu6(layer(x, '_conv_head', '_bn1'))]


def logits(state, x, **options):
    """Return the logits (B, 1000) of the checkpoint's own classifier."""
    pooled = stages(state, x, **options)[-1].mean(dim=(2, 3))
    return linear(pooled, state['_fc.weight'], state['_fc.bias'])
