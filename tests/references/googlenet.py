"""The nets of the CAM paper as functions of a state dict with torchvision's names.

Written with torch's operators only.  Poolings that round up pad the map with minus
infinity.  ``*_shapes`` return the names and shapes of torchvision's ImageNet checkpoints.
"""

import torch
import torch.nn.functional as F

# Output channels of each branch, Table 1 of arXiv 1409.4842.
BLOCKS = {
    '3a': '64 96 128 16 32 32',
    '3b': '128 128 192 32 96 64',
    '4a': '192 96 208 16 48 64',
    '4b': '160 112 224 24 64 64',
    '4c': '128 128 256 24 64 64',
    '4d': '112 144 288 32 64 64',
    '4e': '256 160 320 32 128 128',
    '5a': '256 160 320 32 128 128',
    '5b': '384 192 384 48 128 128',
}
# Kernel size of each convolution.
CONVS = dict(zip('1 2.0 2.1 3.0 3.1 4.1'.split(), (1, 1, 3, 1, 3, 1)))
# Output channels of VGG's convolutions, 'M' for a pooling, Table 1 of arXiv
# 1409.1556 (columns A, B, D, E).
VGG = {
    11: '64 M 128 M 256 256 M 512 512 M 512 512 M',
    13: '64 64 M 128 128 M 256 256 M 512 512 M 512 512 M',
    16: '64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M',
    19: '64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M',
}
ALEXNET = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}


def googlenet(state, x):
    """Return the outputs of inception3b, 4e and 5b for images (B, 3, H, W)."""
    x = pool_up(conv(state, 'conv1', x, 2), 3)
    x = pool_up(conv(state, 'conv3', conv(state, 'conv2', x)), 3)
    outs = []
    for name in BLOCKS:
        if name == '4a':
            x = pool_up(x, 3)
        if name == '5a':
            x = pool_up(x, 2)
        x = inception(state, f'inception{name}', x)
        if name in ('3b', '4e', '5b'):
            outs.append(x)
    return outs


def inception(state, name, x):
    def branch(index, x):
        return conv(state, f'{name}.branch{index}', x)

    double = [branch(f'{i}.1', branch(f'{i}.0', x)) for i in (2, 3)]
    return torch.cat([branch('1', x), *double, branch('4.1', F.max_pool2d(x, 3, 1, 1))], dim=1)


def conv(state, name, x, stride=1):
    """Apply a convolution with padding size // 2, a norm with eps 0.001, and ReLU."""
    weight = state[f'{name}.conv.weight']
    x = F.conv2d(x, weight, None, stride, weight.shape[-1] // 2)
    return batch_norm(state, f'{name}.bn', x, eps=0.001).relu()


def batch_norm(state, name, x, eps=1e-5):
    keys = ('running_mean', 'running_var', 'weight', 'bias')
    return F.batch_norm(x, *(state[f'{name}.{key}'] for key in keys), eps=eps)


def pool_up(x, size):
    """Apply max pooling of stride 2 that rounds the output size up."""
    extra = [(side - size) % 2 for side in x.shape[2:]]
    x = F.pad(x, (0, extra[1], 0, extra[0]), value=-float('inf'))
    return F.max_pool2d(x, size, 2)


def alexnet(state, x):
    """Return the output of conv5 for images (B, 3, H, W)."""
    for index in ALEXNET:
        weight, bias = (state[f'features.{index}.{key}'] for key in ('weight', 'bias'))
        stride, padding = 4 if index == 0 else 1, 2 if index < 6 else 1
        x = F.conv2d(x, weight, bias, stride, padding).relu()
        if index < 6:
            x = F.max_pool2d(x, 3, 2)
    return x


def vgg(state, x, depth, with_bn):
    """Return the outputs of the stages; the last one is not pooled."""
    outs, index = [], 0
    for layer in VGG[depth].split():
        name = f'features.{index}'
        if layer == 'M':
            outs.append(x)
            x = F.max_pool2d(x, 2)
            index += 1
            continue
        x = F.conv2d(x, state[f'{name}.weight'], state[f'{name}.bias'], padding=1)
        if with_bn:
            x = batch_norm(state, f'features.{index + 1}', x)
        x = x.relu()
        index += 3 if with_bn else 2
    return [F.max_pool2d(out, 2) for out in outs[:-1]] + outs[-1:]


def alexnet_shapes():
    """Return the names and shapes of torchvision's ``alexnet``."""
    shapes = {}
    for index, (out, channels, size) in ALEXNET.items():
        shapes.update(biased(f'features.{index}', (out, channels, size, size)))
    return {**shapes, **classifier((1, 4, 6), 9216)}


def vgg_shapes(depth, with_bn=False):
    """Return the names and shapes of torchvision's ``vgg<depth>`` or ``vgg<depth>_bn``."""
    shapes, index, channels = {}, 0, 3
    for layer in VGG[depth].split():
        if layer == 'M':
            index += 1
            continue
        shapes.update(biased(f'features.{index}', (int(layer), channels, 3, 3)))
        channels = int(layer)
        if with_bn:
            shapes.update(norm(f'features.{index + 1}', channels))
        index += 3 if with_bn else 2
    return {**shapes, **classifier((0, 3, 6), 25088)}


def googlenet_shapes():
    """Return the names and shapes of torchvision's ``googlenet``."""
    shapes = {**block('conv1', 64, 3, 7), **block('conv2', 64, 64, 1), **block('conv3', 192, 64, 3)}
    channels = 192
    for name, widths in BLOCKS.items():
        widths = [int(width) for width in widths.split()]
        for (branch, size), width in zip(CONVS.items(), widths):
            in_channels = widths[{'2.1': 1, '3.1': 3}[branch]] if size == 3 else channels
            shapes.update(block(f'inception{name}.branch{branch}', width, in_channels, size))
        channels = widths[0] + widths[2] + widths[4] + widths[5]
    for name, channels in (('aux1', 512), ('aux2', 528)):
        shapes.update(block(f'{name}.conv', 128, channels, 1))
        shapes.update(biased(f'{name}.fc1', (1024, 2048)))
        shapes.update(biased(f'{name}.fc2', (1000, 1024)))
    return {**shapes, **biased('fc', (1000, 1024))}


def block(name, out, channels, size):
    return {f'{name}.conv.weight': (out, channels, size, size), **norm(f'{name}.bn', out)}


def norm(name, channels):
    kinds = ('weight', 'bias', 'running_mean', 'running_var')
    return {**{f'{name}.{kind}': (channels,) for kind in kinds}, f'{name}.num_batches_tracked': ()}


def biased(name, shape):
    return {f'{name}.weight': shape, f'{name}.bias': shape[:1]}


def classifier(indices, features):
    first, second, third = (f'classifier.{index}' for index in indices)
    return {
        **biased(first, (4096, features)),
        **biased(second, (4096, 4096)),
        **biased(third, (1000, 4096)),
    }
