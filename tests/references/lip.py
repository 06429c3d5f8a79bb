"""LIP written from its formulas: arXiv 1908.04156, equation 1 and section 4.

``lip_pool`` and the layers that ``small`` uses are loops over cells.  The whole
networks are functions of a state dict with the authors' names, of torch's own
operators, in the authors' form of LIP: a quotient of two average poolings.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

GATE = 12.0


def lip_pool(x, logit, kernel, stride, padding, windows):
    """x, logit: (C, H, W); ``windows`` (H', W') -> (C, H', W')."""
    channels, height, width = x.shape
    out = np.zeros((channels, *windows))
    for c in range(channels):
        for i in range(windows[0]):
            for j in range(windows[1]):
                above = below = 0.0
                first_row, first_col = i * stride[0] - padding[0], j * stride[1] - padding[1]
                cells = [
                    (row, col)
                    for row in range(max(first_row, 0), min(first_row + kernel[0], height))
                    for col in range(max(first_col, 0), min(first_col + kernel[1], width))
                ]
                top = max(logit[c, row, col] for row, col in cells)
                for row, col in cells:
                    weight = math.exp(logit[c, row, col] - top)
                    above += weight * x[c, row, col]
                    below += weight
                out[c, i, j] = above / below
    return out


def conv(x, weight, stride=1):
    """Correlation with zero padding that keeps the size at stride 1."""
    out_channels, channels, size, _ = weight.shape
    pad = size // 2
    padded = np.zeros((channels, x.shape[1] + 2 * pad, x.shape[2] + 2 * pad))
    padded[:, pad : pad + x.shape[1], pad : pad + x.shape[2]] = x
    height = (x.shape[1] - 1) // stride + 1
    width = (x.shape[2] - 1) // stride + 1
    out = np.zeros((out_channels, height, width))
    for i in range(height):
        for j in range(width):
            window = padded[:, i * stride : i * stride + size, j * stride : j * stride + size]
            out[:, i, j] = (weight * window).sum(axis=(1, 2, 3))
    return out


def instance_norm(x, weight, bias, eps=1e-5):
    out = np.zeros_like(x)
    for c, plane in enumerate(x):
        centred = plane - plane.mean()
        out[c] = weight[c] * centred / math.sqrt((centred**2).mean() + eps) + bias[c]
    return out


def batch_norm(x, p, eps=1e-5):
    """With running statistics."""
    scale = p['weight'] / np.sqrt(p['running_var'] + eps)
    return x * scale[:, None, None] + (p['bias'] - p['running_mean'] * scale)[:, None, None]


def gate(x):
    return GATE / (1 + np.exp(-x))


def halved(x):
    return tuple((size - 1) // 2 + 1 for size in x.shape[1:])


def under(state, prefix):
    """Part of a state dict, as float64 arrays."""
    return {
        key[len(prefix) :]: value.double().numpy()
        for key, value in state.items()
        if key.startswith(prefix)
    }


def small_lip(x, logits):
    return lip_pool(x, logits, (3, 3), (2, 2), (1, 1), halved(x))


def normed(x, state, conv_name, norm_name):
    """Convolution and instance norm of a logit net."""
    return instance_norm(
        conv(x, state[f'{conv_name}.weight']),
        state[f'{norm_name}.weight'],
        state[f'{norm_name}.bias'],
    )


def stem(image, state):
    """LIP-ResNet's stem: (3, H, W) -> (64, H/4, W/4)."""
    x = conv(image, under(state, 'conv1.')['weight'], stride=2)
    x = np.maximum(batch_norm(x, under(state, 'bn1.')), 0)
    logits = gate(normed(x, under(state, 'maxpool.logit.'), 'conv', 'bn'))
    return small_lip(x, logits)


def downsampling_block(x, state):
    """First block of res3 to res5, with the state of the block."""
    shared = under(state, 'bottleneck_shared.logit.')
    s = np.maximum(normed(x, shared, 'conv1', 'bn1'), 0)
    s = np.maximum(normed(s, shared, 'conv2', 'bn2'), 0)

    out = conv(x, under(state, 'conv1.')['weight'])
    out = np.maximum(batch_norm(out, under(state, 'bn1.')), 0)
    logits = gate(normed(s, under(state, 'conv2.0.postprocessing.'), 'conv', 'bn'))
    out = conv(small_lip(out, logits), under(state, 'conv2.1.')['weight'])
    out = np.maximum(batch_norm(out, under(state, 'bn2.')), 0)
    out = conv(out, under(state, 'conv3.')['weight'])
    out = batch_norm(out, under(state, 'bn3.'))

    logits = gate(normed(s, under(state, 'downsample.lip.postprocessing.'), 'conv', 'bn'))
    short = conv(small_lip(x, logits), under(state, 'downsample.conv.')['weight'])
    return np.maximum(out + batch_norm(short, under(state, 'downsample.bn.')), 0)


class Net:
    """Torch's operators on a state dict with the authors' names."""

    def __init__(self, state):
        self.state = state

    def conv(self, name, x, stride=1):
        weight = self.state[f'{name}.weight']
        return F.conv2d(x, weight, None, stride, weight.shape[2] // 2)

    def bn(self, name, x):
        keys = ('running_mean', 'running_var', 'weight', 'bias')
        return F.batch_norm(x, *(self.state[f'{name}.{key}'] for key in keys))

    def normed(self, name, x, suffix):
        """Convolution and instance norm of a logit net."""
        weight, bias = (self.state[f'{name}.bn{suffix}.{key}'] for key in ('weight', 'bias'))
        return F.instance_norm(self.conv(f'{name}.conv{suffix}', x), weight=weight, bias=bias)

    def logit_net(self, name, x, convs):
        """Convolutions and instance norms, a ReLU after each."""
        for suffix in convs:
            x = self.normed(name, x, suffix).relu()
        return x

    def logits(self, name, x, suffix=''):
        return GATE * torch.sigmoid(self.normed(name, x, suffix))

    def resnet(self, image, blocks):
        """Features of res2 to res5."""
        x = self.bn('bn1', self.conv('conv1', image, 2)).relu()
        x = averages(x, self.logits('maxpool.logit', x), 3, 2, 1)
        outs = []
        for stage, count in enumerate(blocks, start=1):
            for block in range(count):
                x = self.block(f'layer{stage}.{block}', x, lip=stage > 1 and block == 0)
            outs.append(x)
        return outs

    def block(self, name, x, lip):
        out = self.bn(f'{name}.bn1', self.conv(f'{name}.conv1', x)).relu()
        short = x
        if lip:
            shared = self.logit_net(f'{name}.bottleneck_shared.logit', x, '12')
            out = averages(out, self.logits(f'{name}.conv2.0.postprocessing', shared), 3, 2, 1)
            out = self.conv(f'{name}.conv2.1', out)
            short = averages(
                short, self.logits(f'{name}.downsample.lip.postprocessing', shared), 3, 2, 1
            )
        else:
            out = self.conv(f'{name}.conv2', out)
        out = self.bn(f'{name}.bn2', out).relu()
        out = self.bn(f'{name}.bn3', self.conv(f'{name}.conv3', out))
        if f'{name}.downsample.conv.weight' in self.state:
            short = self.bn(f'{name}.downsample.bn', self.conv(f'{name}.downsample.conv', short))
        return (out + short).relu()

    def densenet(self, image, blocks):
        """Return the inputs of the convolutions of the transitions, and the last norm."""
        x = self.bn('features.norm0', self.conv('features.conv0', image, 2)).relu()
        x = averages(x, self.logits('features.pool0.logit', x, '1'), 3, 2, 1)
        outs = []
        for place, count in enumerate(blocks, start=1):
            for layer in range(1, count + 1):
                name = f'features.denseblock{place}.denselayer{layer}'
                out = self.bn(f'{name}.norm1', x).relu()
                out = self.conv(f'{name}.conv1', out)
                out = self.bn(f'{name}.norm2', out).relu()
                x = torch.cat([x, self.conv(f'{name}.conv2', out)], dim=1)
            if place == len(blocks):
                return outs + [self.bn('features.norm5', x).relu()]
            name = f'features.transition{place}'
            x = self.bn(f'{name}.norm', x).relu()
            outs.append(x)
            x = self.conv(f'{name}.conv', x)
            net = self.logit_net(f'{name}.pool.logit', x, '12')
            x = averages(x, self.logits(f'{name}.pool.logit', net, '3'), 2, 2, 0)


def averages(x, logit, kernel, stride, padding):
    """Return LIP as the quotient of two average poolings."""
    weight, windows = logit.exp(), (kernel, stride, padding)
    return F.avg_pool2d(x * weight, *windows) / F.avg_pool2d(weight, *windows)
