"""Triton kernels of local importance-based pooling, forward and backward.

Both kernels are bound by memory: they read x and logit from memory once, and once or twice more
from the caches. A program takes a block of columns of the map and walks down some of its rows.
The lanes of a block are columns of all channels and images, in the order of the memory layout, so
that neighbouring lanes read neighbouring cells.

Exponentials are powers of two, which the hardware computes, relative to the largest logit of the
window, so that logits may have any finite value. Gradients have the rounding error of the logits
in float32: 1e-3 for logits of 1e4.
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
# Sizes of maps vary from image to image; specializing on their divisibility would compile a kernel
# for each residue and gain little. The number of lanes is specialized: where 16 divides it,
# channels-last loads take four lanes at a time.
SIZES = ('height', 'width', 'out_height', 'out_width')


@triton.jit(do_not_specialize=SIZES)
def forward(
    x,
    logit,
    out,
    mean,
    log_sum,
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
    ACC: tl.constexpr,
    INDEX: tl.constexpr,
):
    """Pool each window; a lane is a column of windows.

    x, logit: (B, C, H, W) with strides x_*, l_*, which may be 0. out, mean, log_sum:
    (B, C, H', W') with strides o_*.  KEEP writes, in the accumulation dtype ACC, what the backward
    pass reads: the mean, which out holds rounded, and the logarithm of the window's sum of
    exp(logit). A GATE above 0 replaces the logits by GATE * sigmoid(logit).
    """
    first, lane = _block(out_height, ROWS, BLOCK, INDEX)
    active = lane < lanes
    batch, channel, column = _decode(lane, channels, out_width, CHANNELS_LAST, INDEX)
    left = column * STRIDE_W - PAD_W
    x += batch * x_b + channel * x_c + left * x_w
    logit += batch * l_b + channel * l_c + left * l_w
    out_column = batch * o_b + channel * o_c + column * o_w
    for step in range(tl.minimum(ROWS, out_height - first)):
        out_row = first + step
        row = out_row * STRIDE_H - PAD_H
        maximum = tl.full((BLOCK,), float('-inf'), ACC)
        for h in tl.static_range(KERNEL_H):
            for w in tl.static_range(KERNEL_W):
                inside = active & _inside(row + h, height) & _inside(left + w, width)
                value = _load_logit(logit + (row + h) * l_h + w * l_w, inside, GATE, ACC)
                maximum = tl.maximum(maximum, value)
        denominator = tl.zeros((BLOCK,), ACC)
        numerator = tl.zeros((BLOCK,), ACC)
        for h in tl.static_range(KERNEL_H):
            for w in tl.static_range(KERNEL_W):
                inside = active & _inside(row + h, height) & _inside(left + w, width)
                # The compiler merges these loads with the loads above. Subtract before
                # multiplying: a fused product would be rounded differently from the maximum.
                value = _load_logit(logit + (row + h) * l_h + w * l_w, inside, GATE, ACC)
                weight = tl.exp2((value - maximum) * LOG2_E)
                denominator += weight
                cell = tl.load(x + (row + h) * x_h + w * x_w, mask=inside, other=0)
                numerator += weight * cell.to(ACC)
        result = numerator / denominator
        offset = out_column + out_row * o_h
        tl.store(out + offset, result.to(out.dtype.element_ty), mask=active)
        if KEEP:
            tl.store(mean + offset, result, mask=active)
            tl.store(log_sum + offset, maximum + tl.log2(denominator) / LOG2_E, mask=active)


@triton.jit(do_not_specialize=SIZES)
def backward(
    grad,
    x,
    logit,
    mean,
    log_sum,
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
    GRAD_LOGIT: tl.constexpr,
    GATE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    ACC: tl.constexpr,
    INDEX: tl.constexpr,
):
    """Gather the gradients of each cell from its windows; a lane is a column of cells.

    The share of a cell in a window is ``p = exp(logit) / sum exp(logit)``. The gradients are sums
    over the windows that hold the cell: ``grad_x = sum p * grad`` and
    ``grad_logit = sum p * grad * (x - mean)``. With a gate, grad_logit is multiplied by the slope
    of the gate. Each value is written once.

    grad, mean, log_sum: (B, C, H', W') with strides o_*. grad_x, grad_logit: (B, C, H, W) with
    strides g_*.
    """
    first, lane = _block(height, ROWS, BLOCK, INDEX)
    active = lane < lanes
    batch, channel, column = _decode(lane, channels, width, CHANNELS_LAST, INDEX)
    x += batch * x_b + channel * x_c + column * x_w
    logit += batch * l_b + channel * l_c + column * l_w
    last = (column + PAD_W) // STRIDE_W  # last column of windows that may hold the cell
    column_in_window = column + PAD_W - last * STRIDE_W
    window_column = batch * o_b + channel * o_c + last * o_w
    grad_column = batch * g_b + channel * g_c + column * g_w
    for step in range(tl.minimum(ROWS, height - first)):
        h = first + step
        value = tl.load(x + h * x_h, mask=active, other=0).to(ACC)
        weight = _load_logit(logit + h * l_h, active, GATE, ACC)
        slope = weight * (1.0 - weight / GATE) if GATE > 0 else 1.0
        sum_x = tl.zeros((BLOCK,), ACC)
        sum_logit = tl.zeros((BLOCK,), ACC)
        last_row = (h + PAD_H) // STRIDE_H
        for up in tl.static_range((KERNEL_H + STRIDE_H - 1) // STRIDE_H):
            row = last_row - up
            if (h + PAD_H - row * STRIDE_H < KERNEL_H) & _inside(row, out_height):
                for back in tl.static_range((KERNEL_W + STRIDE_W - 1) // STRIDE_W):
                    inside = (
                        active
                        & (column_in_window < KERNEL_W - back * STRIDE_W)
                        & _inside(last - back, out_width)
                    )
                    window = window_column + row * o_h - back * o_w
                    level = tl.load(log_sum + window, mask=inside, other=float('inf'))
                    share = tl.exp2((weight - level) * LOG2_E)
                    share *= tl.load(grad + window, mask=inside, other=0).to(ACC)
                    sum_x += share
                    if GRAD_LOGIT:
                        sum_logit += share * (value - tl.load(mean + window, mask=inside, other=0))
        offset = grad_column + h * g_h
        tl.store(grad_x + offset, sum_x.to(grad_x.dtype.element_ty), mask=active)
        if GRAD_LOGIT:
            sum_logit *= slope
            tl.store(grad_logit + offset, sum_logit.to(grad_logit.dtype.element_ty), mask=active)


@triton.jit
def _block(height, ROWS: tl.constexpr, BLOCK: tl.constexpr, INDEX: tl.constexpr):
    """Return the first row and the lanes of this program.

    Programs for the same columns follow each other, so that the rows they share are still cached.
    """
    parts = tl.cdiv(height, ROWS)
    program = tl.program_id(0)
    lane = (program // parts) * BLOCK + tl.arange(0, BLOCK)
    return (program % parts * ROWS).to(INDEX), lane


@triton.jit
def _decode(lane, channels, width, CHANNELS_LAST: tl.constexpr, INDEX: tl.constexpr):
    """Return the image, the channel and the column of each lane."""
    if CHANNELS_LAST:
        channel = lane % channels
        column = lane // channels % width
    else:
        column = lane % width
        channel = lane // width % channels
    batch = lane // channels // width
    # In the index dtype, because addresses in a map may exceed 2^31.
    return batch.to(INDEX), channel.to(INDEX), column.to(INDEX)


@triton.jit
def _load_logit(pointer, inside, GATE: tl.constexpr, ACC: tl.constexpr):
    """Load the logit of a cell: -inf outside the map, where the weight is 0."""
    if GATE > 0:
        value = tl.load(pointer, mask=inside, other=0).to(ACC)
        value = tl.where(inside, GATE / (1.0 + tl.exp2(value * -LOG2_E)), float('-inf'))
    else:
        value = tl.load(pointer, mask=inside, other=float('-inf')).to(ACC)
    return value


@triton.jit
def _inside(position, length):
    return (position >= 0) & (position < length)
