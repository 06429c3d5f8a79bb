"""Triton kernels that cut RoIs into bins, along each axis.

The arithmetic is that of :mod:`mmgwap.ops.ps_roi_pool` and
:mod:`mmgwap.ops.ps_roi_vote`, operation by operation: an edge is rounded to a
cell, and a fused multiplication and addition could move it to the next.
Compile with ``enable_fp_fusion=False``.

A lane is a bin along an axis: all K * 2 * P of them, x before y.
"""

import triton
import triton.language as tl

# They vary from image to image, and are no reason to compile anew.
SIZES = ('count', 'height', 'width')


@triton.jit(do_not_specialize=SIZES)
def quantised(
    rois, cells, count, height, width, BINS: tl.constexpr, SCALE: tl.constexpr, BLOCK: tl.constexpr
):
    """First cell and number of cells of each bin: cells (K, 2, P, 2)."""
    lane, here, low, high, step, length = _bin(rois, count, height, width, BINS, BLOCK)
    start = _round(low) * SCALE
    end = (_round(high) + 1.0) * SCALE
    # 0.1 in their type: by itself it is float32's.
    least = tl.zeros_like(start) + 0.1
    size = _divide(tl.maximum(end - start, least), BINS)
    first = _clip(tl.floor(step.to(size.dtype) * size + start), length)
    last = _clip(tl.ceil((step + 1).to(size.dtype) * size + start), length)
    tl.store(cells + lane * 2, first.to(tl.int32), mask=here)
    tl.store(cells + lane * 2 + 1, tl.maximum(last - first, 0.0).to(tl.int32), mask=here)


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
    """Cells that each bin interpolates: cells, weights (K, 2, P, 2 * SAMPLES).

    Tap 2s is the cell below sample s and tap 2s + 1 the one above.  A cell
    that several samples share has their weights together at its first tap,
    and 0 at the others, where it need not be read.
    """
    lane, here, low, high, step, length = _bin(rois, count, height, width, BINS, BLOCK)
    start = low * SCALE - 0.5  # in cells, whose centres lie at integers
    size = _divide(tl.maximum(high * SCALE - 0.5 - start, 0.0), BINS)
    for tap in range(2 * SAMPLES):
        below, _, _ = _sample(tap // 2, start, size, step, length, SAMPLES)
        cell = below + tap % 2
        weight = tl.zeros_like(size)
        seen = cell < 0  # nowhere yet
        for other in range(SAMPLES):
            below, share, inside = _sample(other, start, size, step, length, SAMPLES)
            above = tl.minimum(below + 1, length - 1)
            part = tl.where(below == cell, 1.0 - share, 0.0) + tl.where(above == cell, share, 0.0)
            weight += tl.where(inside, part, 0.0)
            seen |= ((below == cell) | (below + 1 == cell)) & (other < tap // 2)
        place = lane * 2 * SAMPLES + tap
        tl.store(cells + place, tl.minimum(cell, length - 1), mask=here)
        tl.store(weights + place, tl.where(seen, 0.0, weight / SAMPLES), mask=here)


@triton.jit
def _bin(rois, count, height, width, BINS: tl.constexpr, BLOCK: tl.constexpr):
    """The RoI's ends along the lane's axis, the bin and the map's length."""
    lane = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = lane < count
    vertical = lane // BINS % 2
    roi = rois + lane // (2 * BINS) * 5
    low = tl.load(roi + 1 + vertical, mask=here, other=0)
    high = tl.load(roi + 3 + vertical, mask=here, other=0)
    # NaN or infinite if one of them is: then the RoI lies outside, on this axis
    # and so on the map.
    extent = low + high
    finite = extent - extent == 0
    length = tl.where(vertical == 1, height, width)
    return (
        lane,
        here,
        tl.where(finite, low, -1e6),
        tl.where(finite, high, -1e6),
        (lane % BINS).to(tl.int32),
        length,
    )


@triton.jit
def _sample(sample, start, size, step, length, SAMPLES: tl.constexpr):
    """The cell below a sample, the share of the next, and whether it counts.

    RoI align's border: a sample more than one cell outside does not, a nearer
    one has the border's value.
    """
    place = start + _divide((step * SAMPLES + sample).to(size.dtype) + 0.5, SAMPLES) * size
    inside = (place >= -1.0) & (place <= length)
    place = _clip(place, length)
    below = tl.minimum(tl.floor(place).to(tl.int32), length - 1)
    return below, place - below.to(size.dtype), inside


@triton.jit
def _round(x):
    """Half away from zero, as C's."""
    size = tl.abs(x)
    whole = tl.floor(size)
    whole += tl.where(size - whole >= 0.5, 1.0, 0.0)
    return tl.where(x < 0, -whole, whole)


@triton.jit
def _clip(place, length):
    return tl.minimum(tl.maximum(place, 0.0), length.to(place.dtype))


@triton.jit
def _divide(x, BY: tl.constexpr):
    """Rounded to nearest, which ``/`` is not in float32."""
    if x.dtype == tl.float64:
        return x / BY
    else:
        return tl.div_rn(x, BY * 1.0)
