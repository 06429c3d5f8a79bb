"""Triton kernels of position-sensitive voting, forward and backward.

A program votes for one RoI on one row of its bins, and on a block of channels.
In a map (B, H, W, P*P, C) the values that a bin reads in a cell are a row of
memory; a program reads several rows at once, each row of a bin once, and keeps
their weighted sum.  Where the bins lie is found beforehand, once for all
channels (:mod:`.bin_kernels`).
"""

import triton
import triton.language as tl

# They vary from image to image, and are no reason to compile anew.
SIZES = ('images', 'height', 'width')


@triton.jit(do_not_specialize=SIZES)
def forward(
    maps,
    rois,
    cells,
    weights,
    votes,
    images,
    height,
    width,
    channels,
    BINS: tl.constexpr,
    SAMPLES: tl.constexpr,
    SIDE: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDE: tl.constexpr,
    INDEX: tl.constexpr,
):
    """Sum over the bins of each row: votes (K, P, C), in WIDE.

    maps (B, H, W, P*P, C), contiguous; rois (K, 5); cells and weights as the
    kernels of the bins wrote them.  SAMPLES on each side of a bin, or 0 for
    quantised bins.  A RoI of no image makes NaN.
    """
    roi, line = tl.program_id(0).to(tl.int64), tl.program_id(1)
    channel = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    here = channel < channels
    known, image = _image(rois + roi * 5, images)
    row_size = BINS * BINS * channels
    maps += image * height * width * row_size + line * BINS * channels
    total = tl.zeros((SIDE * SIDE, BLOCK), WIDE)
    for column in range(BINS):
        lines, columns = _taps(cells, roi, line, column, BINS, SAMPLES)
        for down in range(0, tl.where(known, lines, 0), SIDE):
            for across in range(0, columns, SIDE):
                cell, weight = _tile(
                    down,
                    across,
                    lines,
                    columns,
                    cells,
                    weights,
                    roi,
                    line,
                    column,
                    width,
                    BINS,
                    SAMPLES,
                    SIDE,
                    INDEX,
                    WIDE,
                )
                values = tl.load(
                    maps + (cell * row_size + column * channels)[:, None] + channel[None, :],
                    mask=(weight > 0)[:, None] & here[None, :],
                    other=0,
                )
                total += values.to(WIDE) * weight[:, None]
    vote = tl.sum(total, 0) / (BINS * BINS)
    tl.store(
        votes + (roi * BINS + line) * channels + channel,
        tl.where(known, vote, float('nan')),
        mask=here,
    )


@triton.jit(do_not_specialize=SIZES)
def backward(
    grad,
    rois,
    cells,
    weights,
    grad_maps,
    images,
    height,
    width,
    channels,
    BINS: tl.constexpr,
    SAMPLES: tl.constexpr,
    SIDE: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDE: tl.constexpr,
    INDEX: tl.constexpr,
):
    """Add grad (K, C) to grad_maps (B, H, W, P*P, C), zeros at first, in WIDE.

    RoIs overlap, hence atomic additions, whose order is not fixed.
    """
    roi, line = tl.program_id(0).to(tl.int64), tl.program_id(1)
    channel = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    here = channel < channels
    known, image = _image(rois + roi * 5, images)
    row_size = BINS * BINS * channels
    grad_maps += image * height * width * row_size + line * BINS * channels
    values = tl.load(grad + roi * channels + channel, mask=here, other=0).to(WIDE) / (BINS * BINS)
    for column in range(BINS):
        lines, columns = _taps(cells, roi, line, column, BINS, SAMPLES)
        for down in range(0, tl.where(known, lines, 0), SIDE):
            for across in range(0, columns, SIDE):
                cell, weight = _tile(
                    down,
                    across,
                    lines,
                    columns,
                    cells,
                    weights,
                    roi,
                    line,
                    column,
                    width,
                    BINS,
                    SAMPLES,
                    SIDE,
                    INDEX,
                    WIDE,
                )
                tl.atomic_add(
                    grad_maps + (cell * row_size + column * channels)[:, None] + channel[None, :],
                    weight[:, None] * values[None, :],
                    mask=(weight > 0)[:, None] & here[None, :],
                    sem='relaxed',
                )


@triton.jit
def _image(roi, images):
    """Whether a RoI has an image, and which."""
    index = tl.load(roi)
    known = (index >= 0) & (index < images)
    return known, tl.where(known, index, 0).to(tl.int64)


@triton.jit
def _taps(cells, roi, line, column, BINS: tl.constexpr, SAMPLES: tl.constexpr):
    """Lines and columns of what a bin reads."""
    if SAMPLES == 0:
        lines = tl.load(cells + (roi * 2 * BINS + BINS + line) * 2 + 1)
        columns = tl.load(cells + (roi * 2 * BINS + column) * 2 + 1)
    else:
        lines = tl.full((), 2 * SAMPLES, tl.int32)
        columns = lines
    return lines, columns


@triton.jit
def _tile(
    down,
    across,
    lines,
    columns,
    cells,
    weights,
    roi,
    line,
    column,
    width,
    BINS: tl.constexpr,
    SAMPLES: tl.constexpr,
    SIDE: tl.constexpr,
    INDEX: tl.constexpr,
    WIDE: tl.constexpr,
):
    """SIDE x SIDE taps of a bin, from a line and column on: the cells,
    ``y * W + x``, and their weights, 0 where there is nothing to read."""
    tap = tl.arange(0, SIDE * SIDE)
    down += tap // SIDE
    across += tap % SIDE
    inside = (down < lines) & (across < columns)
    of_line = roi * 2 * BINS + BINS + line
    of_column = roi * 2 * BINS + column
    if SAMPLES == 0:
        y = tl.load(cells + of_line * 2) + down
        x = tl.load(cells + of_column * 2) + across
        weight = tl.where(inside, 1.0 / (lines * columns).to(WIDE), 0.0)
    else:
        of_line = of_line * 2 * SAMPLES + down
        of_column = of_column * 2 * SAMPLES + across
        y = tl.load(cells + of_line, mask=inside, other=0)
        x = tl.load(cells + of_column, mask=inside, other=0)
        weight = tl.load(weights + of_line, mask=inside, other=0).to(WIDE) * tl.load(
            weights + of_column, mask=inside, other=0
        ).to(WIDE)
    return y.to(INDEX) * width + x, weight
