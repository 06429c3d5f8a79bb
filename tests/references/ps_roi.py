"""Position-sensitive RoI operators as loops over single numbers."""

import math

import numpy as np


def c_round(x):
    """Half away from zero."""
    return math.floor(x + 0.5) if x >= 0 else -math.floor(-x + 0.5)


def ps_roi_pool(maps, rois, bins, scale):
    """Caffe's ``psroi_pooling_layer.cu``, in its float32 arithmetic."""
    _, channels, height, width = maps.shape
    out_channels = channels // bins**2
    result = np.zeros((len(rois), out_channels, bins, bins))
    f = np.float32
    for k, roi in enumerate(rois):
        x1, y1 = (f(f(c_round(float(v))) * f(scale)) for v in roi[1:3])
        x2, y2 = (f(f(c_round(float(v)) + 1.0) * f(scale)) for v in roi[3:5])
        bin_w = f(max(f(x2 - x1), f(0.1)) / f(bins))
        bin_h = f(max(f(y2 - y1), f(0.1)) / f(bins))
        for c in range(out_channels):
            for i in range(bins):
                for j in range(bins):
                    y_from = math.floor(f(f(i) * bin_h) + y1)
                    y_to = math.ceil(f(f(i + 1) * bin_h) + y1)
                    x_from = math.floor(f(f(j) * bin_w) + x1)
                    x_to = math.ceil(f(f(j + 1) * bin_w) + x1)
                    total, cells = 0.0, 0
                    for y in range(max(y_from, 0), min(y_to, height)):
                        for x in range(max(x_from, 0), min(x_to, width)):
                            total += float(maps[int(roi[0]), (c * bins + i) * bins + j, y, x])
                            cells += 1
                    if cells:
                        result[k, c, i, j] = total / cells
    return result


def bilinear(plane, y, x):
    """RoI align's sample: 0 beyond one cell outside, else the border's."""
    height, width = plane.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = (min(max(v, 0.0), n - 1.0) for v, n in ((y, height), (x, width)))
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    dy, dx = y - y0, x - x0
    return float(
        (1 - dy) * ((1 - dx) * plane[y0, x0] + dx * plane[y0, x1])
        + dy * ((1 - dx) * plane[y1, x0] + dx * plane[y1, x1])
    )


def ps_roi_align(maps, rois, bins, scale, samples):
    """Mean of a grid of samples in each bin, pixel centres at .5."""
    out_channels = maps.shape[1] // bins**2
    result = np.zeros((len(rois), out_channels, bins, bins))
    for k, roi in enumerate(rois):
        x1, y1, x2, y2 = (float(v) * scale - 0.5 for v in roi[1:])
        bin_w, bin_h = max(x2 - x1, 0) / bins, max(y2 - y1, 0) / bins
        grid_h = samples or math.ceil(bin_h)
        grid_w = samples or math.ceil(bin_w)
        if grid_h * grid_w == 0:
            continue
        for c in range(out_channels):
            for i in range(bins):
                for j in range(bins):
                    plane = maps[int(roi[0]), (c * bins + i) * bins + j]
                    result[k, c, i, j] = np.mean(
                        [
                            bilinear(
                                plane,
                                y1 + (i + (a + 0.5) / grid_h) * bin_h,
                                x1 + (j + (b + 0.5) / grid_w) * bin_w,
                            )
                            for a in range(grid_h)
                            for b in range(grid_w)
                        ]
                    )
    return result
