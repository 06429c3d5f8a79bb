"""Triton kernels of position-sensitive voting, forward and backward.

A program votes for one RoI on one row of its bins, and on a block of channels. In a map
(B, H, W, P*P, C) the values of a cell that a bin reads are a row of memory; a program reads a tile
of rows at once and keeps their weighted sum. The position of the bins is computed beforehand, once
for all channels and maps (:mod:`.bin_kernels`).
"""

import triton
import triton.language as tl

# These sizes vary from image to image; specializing on them would compile again and again.
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
    ACC: tl.constexpr,
    INDEX: tl.constexpr,
):
    """Sum over the bins of each row: votes (K, P, C), in the accumulation dtype ACC.

    maps: (B, H, W, P*P, C), contiguous. rois: (K, 5). cells, weights: as written by the kernels
    of the bins, with SAMPLES along each side of a bin, or 0 for quantised bins. An RoI whose batch
    index is outside the batch gets NaN.
    """
    roi, bin_row = tl.program_id(0).to(tl.int64), tl.program_id(1)
    channel = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    active = channel < channels
    valid, image = _image(rois + roi * 5, images)
    cell_size = BINS * BINS * channels
    maps += image * height * width * cell_size + bin_row * BINS * channels
    total = tl.zeros((SIDE * SIDE, BLOCK), ACC)
    for bin_column in range(BINS):
        rows, columns = _extent(cells, roi, bin_row, bin_column, BINS, SAMPLES)
        for row in range(0, tl.where(valid, rows, 0), SIDE):
            for column in range(0, columns, SIDE):
                cell, weight = _tile(
                    row,
                    column,
                    rows,
                    columns,
                    cells,
                    weights,
                    roi,
                    bin_row,
                    bin_column,
                    width,
                    BINS,
                    SAMPLES,
                    SIDE,
                    INDEX,
                    ACC,
                )
                offset = (cell * cell_size + bin_column * channels)[:, None] + channel[None, :]
                mask = (weight > 0)[:, None] & active[None, :]
                total += tl.load(maps + offset, mask=mask, other=0).to(ACC) * weight[:, None]
    vote = tl.where(valid, tl.sum(total, 0) / (BINS * BINS), float('nan'))
    tl.store(votes + (roi * BINS + bin_row) * channels + channel, vote, mask=active)


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
    ACC: tl.constexpr,
    INDEX: tl.constexpr,
):
    """Add grad (K, C) to grad_maps (B, H, W, P*P, C), which starts at zero, in ACC.

    RoIs overlap, so additions are atomic, and their order is not fixed.
    """
    roi, bin_row = tl.program_id(0).to(tl.int64), tl.program_id(1)
    channel = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    active = channel < channels
    valid, image = _image(rois + roi * 5, images)
    cell_size = BINS * BINS * channels
    grad_maps += image * height * width * cell_size + bin_row * BINS * channels
    values = tl.load(grad + roi * channels + channel, mask=active, other=0).to(ACC)
    values /= BINS * BINS
    for bin_column in range(BINS):
        rows, columns = _extent(cells, roi, bin_row, bin_column, BINS, SAMPLES)
        for row in range(0, tl.where(valid, rows, 0), SIDE):
            for column in range(0, columns, SIDE):
                cell, weight = _tile(
                    row,
                    column,
                    rows,
                    columns,
                    cells,
                    weights,
                    roi,
                    bin_row,
                    bin_column,
                    width,
                    BINS,
                    SAMPLES,
                    SIDE,
                    INDEX,
                    ACC,
                )
                offset = (cell * cell_size + bin_column * channels)[:, None] + channel[None, :]
                mask = (weight > 0)[:, None] & active[None, :]
                tl.atomic_add(
                    grad_maps + offset, weight[:, None] * values[None, :], mask=mask, sem='relaxed'
                )


@triton.jit
def _image(roi, images):
    """Return whether the batch index of an RoI is in the batch, and a valid index."""
    index = tl.load(roi)
    valid = (index >= 0) & (index < images)
    return valid, tl.where(valid, index, 0).to(tl.int64)


@triton.jit
def _extent(cells, roi, bin_row, bin_column, BINS: tl.constexpr, SAMPLES: tl.constexpr):
    """Return the numbers of rows and columns of cells that a bin reads."""
    if SAMPLES == 0:
        rows = tl.load(cells + (roi * 2 * BINS + BINS + bin_row) * 2 + 1)
        columns = tl.load(cells + (roi * 2 * BINS + bin_column) * 2 + 1)
    else:
        rows = tl.full((), 2 * SAMPLES, tl.int32)
        columns = rows
    return rows, columns


@triton.jit
def _tile(
    row,
    column,
    rows,
    columns,
    cells,
    weights,
    roi,
    bin_row,
    bin_column,
    width,
    BINS: tl.constexpr,
    SAMPLES: tl.constexpr,
    SIDE: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
):
    """Return a SIDE x SIDE tile of the cells of a bin, from (row, column) on.

    The cells are indices ``y * W + x``; their weights are 0 where there is nothing to read.
    """
    entry = tl.arange(0, SIDE * SIDE)
    row += entry // SIDE
    column += entry % SIDE
    inside = (row < rows) & (column < columns)
    y_bin = roi * 2 * BINS + BINS + bin_row
    x_bin = roi * 2 * BINS + bin_column
    if SAMPLES == 0:
        y = tl.load(cells + y_bin * 2) + row
        x = tl.load(cells + x_bin * 2) + column
        weight = tl.where(inside, 1.0 / (rows * columns).to(ACC), 0.0)
    else:
        y_entry = y_bin * 2 * SAMPLES + row
        x_entry = x_bin * 2 * SAMPLES + column
        y = tl.load(cells + y_entry, mask=inside, other=0)
        x = tl.load(cells + x_entry, mask=inside, other=0)
        weight = tl.load(weights + y_entry, mask=inside, other=0).to(ACC)
        weight *= tl.load(weights + x_entry, mask=inside, other=0).to(ACC)
    return y.to(INDEX) * width + x, weight
