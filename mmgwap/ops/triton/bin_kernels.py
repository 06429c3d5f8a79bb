"""Triton kernels that cut RoIs into bins, along each axis.

The arithmetic is that of :func:`mmgwap.ops.ps_roi_pool.pool_cells` and
:func:`mmgwap.ops.ps_roi_align.align_cells`, operation by operation: edges are rounded to cells,
and a fused multiplication and addition could move an edge to the next cell. Compile with
``enable_fp_fusion=False``.

A lane is a bin along one axis: K * 2 * P lanes, x before y.
"""

import triton
import triton.language as tl

# These sizes vary from image to image; specializing on them would compile again and again.
SIZES = ('count', 'height', 'width')


@triton.jit(do_not_specialize=SIZES)
def quantised(
    rois, cells, count, height, width, BINS: tl.constexpr, SCALE: tl.constexpr, BLOCK: tl.constexpr
):
    """Write the first cell and the number of cells of each bin: cells (K, 2, P, 2)."""
    lane, active, low, high, step, length = _bin(rois, count, height, width, BINS, BLOCK)
    start = _round(low) * SCALE
    end = (_round(high) + 1.0) * SCALE
    # 0.1 in the dtype of the RoIs; a literal would be float32.
    minimum = tl.zeros_like(start) + 0.1
    size = _divide(tl.maximum(end - start, minimum), BINS)
    first = _clip(tl.floor(step.to(size.dtype) * size + start), length)
    last = _clip(tl.ceil((step + 1).to(size.dtype) * size + start), length)
    tl.store(cells + lane * 2, first.to(tl.int32), mask=active)
    tl.store(cells + lane * 2 + 1, tl.maximum(last - first, 0.0).to(tl.int32), mask=active)


@triton.jit(do_not_specialize=SIZES)
def sampled(
    rois,
    cells,
    weights,
    count,
    height,
    width,
    BINS: tl.constexpr,
    SAMPLES: tl.constexpr,
    SCALE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the cells that each bin interpolates: cells, weights (K, 2, P, 2 * SAMPLES).

    Entry 2s is the lower neighbour of sample s and entry 2s + 1 the upper neighbour. The first
    entry of a cell that several samples share holds the sum of its weights; the others hold 0 and
    need not be read.
    """
    lane, active, low, high, step, length = _bin(rois, count, height, width, BINS, BLOCK)
    start = low * SCALE - 0.5  # in cells, whose centres lie at integers
    size = _divide(tl.maximum(high * SCALE - 0.5 - start, 0.0), BINS)
    for entry in range(2 * SAMPLES):
        lower, _, _ = _sample(entry // 2, start, size, step, length, SAMPLES)
        cell = lower + entry % 2
        weight = tl.zeros_like(size)
        repeated = cell < 0  # false in all lanes
        for other in range(SAMPLES):
            lower, fraction, inside = _sample(other, start, size, step, length, SAMPLES)
            upper = tl.minimum(lower + 1, length - 1)
            part = tl.where(lower == cell, 1.0 - fraction, 0.0)
            part += tl.where(upper == cell, fraction, 0.0)
            weight += tl.where(inside, part, 0.0)
            repeated |= ((lower == cell) | (lower + 1 == cell)) & (other < entry // 2)
        offset = lane * 2 * SAMPLES + entry
        tl.store(cells + offset, tl.minimum(cell, length - 1), mask=active)
        tl.store(weights + offset, tl.where(repeated, 0.0, weight / SAMPLES), mask=active)


@triton.jit
def _bin(rois, count, height, width, BINS: tl.constexpr, BLOCK: tl.constexpr):
    """Return the lane, the ends of its RoI along its axis, its bin and the length of the map."""
    lane = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    active = lane < count
    vertical = lane // BINS % 2
    roi = rois + lane // (2 * BINS) * 5
    low = tl.load(roi + 1 + vertical, mask=active, other=0)
    high = tl.load(roi + 3 + vertical, mask=active, other=0)
    # The sum is NaN or infinite if an end is. Such an RoI is moved outside the map on this axis.
    extent = low + high
    finite = extent - extent == 0
    length = tl.where(vertical == 1, height, width)
    return (
        lane,
        active,
        tl.where(finite, low, -1e6),
        tl.where(finite, high, -1e6),
        (lane % BINS).to(tl.int32),
        length,
    )


@triton.jit
def _sample(sample, start, size, step, length, SAMPLES: tl.constexpr):
    """Return the lower neighbour of a sample, the weight of the upper one, and whether it counts.

    As in RoI align, a sample more than one cell outside the map does not count, and a nearer sample
    takes the value at the border.
    """
    position = start + _divide((step * SAMPLES + sample).to(size.dtype) + 0.5, SAMPLES) * size
    inside = (position >= -1.0) & (position <= length)
    position = _clip(position, length)
    lower = tl.minimum(tl.floor(position).to(tl.int32), length - 1)
    return lower, position - lower.to(size.dtype), inside


@triton.jit
def _round(x):
    """Round halves away from zero, as C's ``round``."""
    size = tl.abs(x)
    whole = tl.floor(size)
    whole += tl.where(size - whole >= 0.5, 1.0, 0.0)
    return tl.where(x < 0, -whole, whole)


@triton.jit
def _clip(position, length):
    return tl.minimum(tl.maximum(position, 0.0), length.to(position.dtype))


@triton.jit
def _divide(x, DIVISOR: tl.constexpr):
    """Divide and round to nearest, which ``/`` does not do in float32."""
    if x.dtype == tl.float64:
        return x / DIVISOR
    else:
        return tl.div_rn(x, DIVISOR * 1.0)
