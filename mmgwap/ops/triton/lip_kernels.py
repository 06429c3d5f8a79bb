"""Triton kernels of local importance-based pooling, forward and backward.

Both are bound by memory: x and logit are read from it once, and once more or
twice from the caches.  A program takes a block of columns of the map and walks
down some of its rows.  The lanes of a block are columns of all channels and
images, in the order of the memory layout, so that neighbours read neighbours.

Exponentials are powers of two, which the hardware has, and relative to the
largest logit of the window, so that logits may have any finite value.
Gradients are as exact as a float32 of the logits' size: to 1e-3 for 1e4.
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
# Sizes of maps, which vary from image to image: for each of their residues the
# compiler would make a kernel of its own, and gain little.  Not the lanes: that
# 16 divides them lets channels-last loads take four at a time.
SIZES = ('height', 'width', 'out_height', 'out_width')


@triton.jit(do_not_specialize=SIZES)
def forward(
    x,
    logit,
    out,
    mean,
    level,
    lanes,
    channels,
    height,
    width,
    out_height,
    out_width,
    x_b,
    x_c,
    x_h,
    x_w,
    l_b,
    l_c,
    l_h,
    l_w,
    o_b,
    o_c,
    o_h,
    o_w,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    KEEP: tl.constexpr,
    GATE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDE: tl.constexpr,
    INDEX: tl.constexpr,
):
    """Pool; a lane is a column of windows.

    x, logit: (B, C, H, W) with strides x_*, l_*, which may be 0; out, mean,
    level: (B, C, H', W') with strides o_*.  With KEEP two more are written for
    the backward pass, in WIDE: the mean, which out holds rounded, and the
    level, the logarithm of the sum of the window's exp(logit).  With a GATE
    above 0 the logits are GATE * sigmoid(logit).
    """
    first, lane = _place(out_height, ROWS, BLOCK, INDEX)
    here = lane < lanes
    batch, channel, column = _decode(lane, channels, out_width, CHANNELS_LAST, INDEX)
    left = column * STRIDE_W - PAD_W
    x += batch * x_b + channel * x_c + left * x_w
    logit += batch * l_b + channel * l_c + left * l_w
    at = batch * o_b + channel * o_c + column * o_w
    for step in range(tl.minimum(ROWS, out_height - first)):
        i = first + step
        row = i * STRIDE_H - PAD_H
        top = tl.full((BLOCK,), float('-inf'), WIDE)
        for h in tl.static_range(KERNEL_H):
            for w in tl.static_range(KERNEL_W):
                inside = here & _inside(row + h, height) & _inside(left + w, width)
                top = tl.maximum(top, _logit(logit + (row + h) * l_h + w * l_w, inside, GATE, WIDE))
        below = tl.zeros((BLOCK,), WIDE)
        above = tl.zeros((BLOCK,), WIDE)
        for h in tl.static_range(KERNEL_H):
            for w in tl.static_range(KERNEL_W):
                inside = here & _inside(row + h, height) & _inside(left + w, width)
                # The same loads as above: the compiler makes them one.  The
                # difference comes first: a product that is fused with it would
                # not be rounded as the top's.
                weight = tl.exp2(
                    (_logit(logit + (row + h) * l_h + w * l_w, inside, GATE, WIDE) - top) * LOG2_E
                )
                below += weight
                above += weight * tl.load(x + (row + h) * x_h + w * x_w, mask=inside, other=0).to(
                    WIDE
                )
        value = above / below
        place = at + i * o_h
        tl.store(out + place, value.to(out.dtype.element_ty), mask=here)
        if KEEP:
            tl.store(mean + place, value, mask=here)
            tl.store(level + place, top + tl.log2(below) / LOG2_E, mask=here)


@triton.jit(do_not_specialize=SIZES)
def backward(
    grad,
    x,
    logit,
    mean,
    level,
    grad_x,
    grad_logit,
    lanes,
    channels,
    height,
    width,
    out_height,
    out_width,
    x_b,
    x_c,
    x_h,
    x_w,
    l_b,
    l_c,
    l_h,
    l_w,
    o_b,
    o_c,
    o_h,
    o_w,
    g_b,
    g_c,
    g_h,
    g_w,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    OF_LOGIT: tl.constexpr,
    GATE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDE: tl.constexpr,
    INDEX: tl.constexpr,
):
    """Gather what the windows hand to their cells; a lane is a column of cells.

    With the cell's share of a window, ``p = exp(logit) / sum exp(logit)``:
    ``grad_x = sum p * grad``, ``grad_logit = sum p * grad * (x - mean)``, over
    the windows that hold the cell; for a gate times its slope.  So each value
    is written once.

    grad, mean, level: (B, C, H', W') with strides o_*; grad_x, grad_logit:
    (B, C, H, W) with strides g_*.
    """
    first, lane = _place(height, ROWS, BLOCK, INDEX)
    here = lane < lanes
    batch, channel, column = _decode(lane, channels, width, CHANNELS_LAST, INDEX)
    x += batch * x_b + channel * x_c + column * x_w
    logit += batch * l_b + channel * l_c + column * l_w
    last = (column + PAD_W) // STRIDE_W  # window that holds the cell
    place = column + PAD_W - last * STRIDE_W  # and where in it
    of_window = batch * o_b + channel * o_c + last * o_w
    at = batch * g_b + channel * g_c + column * g_w
    for step in range(tl.minimum(ROWS, height - first)):
        h = first + step
        value = tl.load(x + h * x_h, mask=here, other=0).to(WIDE)
        weight = _logit(logit + h * l_h, here, GATE, WIDE)
        slope = weight * (1.0 - weight / GATE) if GATE > 0 else 1.0
        to_x = tl.zeros((BLOCK,), WIDE)
        to_logit = tl.zeros((BLOCK,), WIDE)
        lowest = (h + PAD_H) // STRIDE_H
        for up in tl.static_range((KERNEL_H + STRIDE_H - 1) // STRIDE_H):
            row = lowest - up
            if (h + PAD_H - row * STRIDE_H < KERNEL_H) & _inside(row, out_height):
                for back in tl.static_range((KERNEL_W + STRIDE_W - 1) // STRIDE_W):
                    holds = (
                        here
                        & (place < KERNEL_W - back * STRIDE_W)
                        & _inside(last - back, out_width)
                    )
                    window = of_window + row * o_h - back * o_w
                    share = tl.exp2(
                        (weight - tl.load(level + window, mask=holds, other=float('inf'))) * LOG2_E
                    )
                    share *= tl.load(grad + window, mask=holds, other=0).to(WIDE)
                    to_x += share
                    if OF_LOGIT:
                        to_logit += share * (value - tl.load(mean + window, mask=holds, other=0))
        tl.store(grad_x + at + h * g_h, to_x.to(grad_x.dtype.element_ty), mask=here)
        if OF_LOGIT:
            to_logit *= slope
            tl.store(grad_logit + at + h * g_h, to_logit.to(grad_logit.dtype.element_ty), mask=here)


@triton.jit
def _place(height, ROWS: tl.constexpr, BLOCK: tl.constexpr, INDEX: tl.constexpr):
    """First row and lanes of this program.

    The parts of a column follow each other: they share rows, which are then
    still in the cache.
    """
    parts = tl.cdiv(height, ROWS)
    program = tl.program_id(0)
    lane = (program // parts) * BLOCK + tl.arange(0, BLOCK)
    return (program % parts * ROWS).to(INDEX), lane


@triton.jit
def _decode(lane, channels, width, CHANNELS_LAST: tl.constexpr, INDEX: tl.constexpr):
    """Image, channel and column of each lane."""
    if CHANNELS_LAST:
        channel = lane % channels
        column = lane // channels % width
    else:
        column = lane % width
        channel = lane // width % channels
    batch = lane // channels // width
    # Wide, as all that goes into addresses: a map may exceed 2^31 cells.
    return batch.to(INDEX), channel.to(INDEX), column.to(INDEX)


@triton.jit
def _logit(pointer, inside, GATE: tl.constexpr, WIDE: tl.constexpr):
    """Of a cell; -inf outside of the map, where a weight is 0."""
    if GATE > 0:
        value = tl.load(pointer, mask=inside, other=0).to(WIDE)
        value = tl.where(inside, GATE / (1.0 + tl.exp2(value * -LOG2_E)), float('-inf'))
    else:
        value = tl.load(pointer, mask=inside, other=float('-inf')).to(WIDE)
    return value


@triton.jit
def _inside(place, length):
    return (place >= 0) & (place < length)
