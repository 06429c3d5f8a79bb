"""Draw a grid of validation images with true boxes, predicted boxes and score maps."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from mmcv import imfrombytes
from mmdet.apis import inference_detector, init_detector
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.fileio import get
from torch import nn

from mmgwap.structures import maps_to_image

HEADER = 0.6  # inches above the images


class Column(NamedTuple):
    """A column of the grid.

    Attributes:
        title: text above the column.
        model: model whose predictions are drawn.
        maps: whether to draw score maps instead of boxes.
    """

    title: str
    model: nn.Module
    maps: bool = False


def load_model(cfg: Config, checkpoint: Path, device: str) -> nn.Module:
    """Load a trained model; a ``MultiTaskDetector`` will return its score maps."""
    if cfg.model.type == 'mmgwap.MultiTaskDetector':
        cfg.model.test_cfg = dict(cfg.model.get('test_cfg') or {}, with_maps=True)
    # Without cfg_options, mmdet reads cfg.model.backbone, which a wrapper does not have.
    return init_detector(cfg, str(checkpoint), device=device, cfg_options={})


def draw_grid(cfg: Config, columns: list[Column], count: int, threshold: float, path: Path) -> None:
    """Draw validation images, one per row; a single column is wrapped into four.

    Args:
        cfg (Config): config with the validation data set.
        columns (list[Column]): columns of the grid.
        count (int): number of images.
        threshold (float): minimum score of a drawn box.
        path (Path): picture to write.
    """
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    count = min(count, len(dataset))
    width = min(4, count) if len(columns) == 1 else len(columns)
    rows = -(-count * len(columns) // width)
    height = 3 * rows + HEADER
    figure = Figure(figsize=(3 * width, height))
    grid = figure.subplots(rows, width, squeeze=False)
    for axes in grid.flat:
        axes.axis('off')
    cells = iter(grid.flat)
    # Neighbours in a data set may be frames of one scene.
    for index in np.linspace(0, len(dataset) - 1, count).astype(int):
        info = dataset.get_data_info(int(index))
        for column in columns:
            _draw_image(next(cells), column, info, threshold, dataset.metainfo['classes'])
    if len(columns) > 1:
        for axes, column in zip(grid[0], columns):
            axes.set_title(column.title, fontsize=10)
    figure.suptitle('white: true    colour: predicted, with class and score', fontsize=10)
    figure.tight_layout(rect=(0, 0, 1, 1 - HEADER / 2 / height))
    figure.savefig(path, dpi=110)


def _draw_image(
    axes: Axes, column: Column, info: dict, threshold: float, classes: tuple[str, ...]
) -> None:
    result = inference_detector(column.model, info['img_path']).cpu()
    axes.imshow(imfrombytes(get(info['img_path']), channel_order='rgb'))
    for instance in info['instances']:
        _draw_box(axes, instance['bbox'], 'white', 1 if column.maps else 2.5)
    if column.maps:
        _draw_maps(axes, result, threshold, classes)
        return
    predicted = result.pred_instances[result.pred_instances.scores >= threshold]
    for box, score, label in zip(predicted.bboxes, predicted.scores, predicted.labels):
        _draw_box(axes, box.tolist(), _colour(label), 1.5)
        _write(axes, float(box[0]), float(box[1]) - 1, label, score, classes)


def _draw_maps(
    axes: Axes, result: DetDataSample, threshold: float, classes: tuple[str, ...]
) -> None:
    """Overlay the maps of the predicted classes, at least of the most likely class.

    Each map is stretched to its own range, and its maximum is labelled.
    """
    scores = result.pred_image_scores
    labels = (scores >= min(threshold, scores.max())).nonzero().flatten()
    maps = maps_to_image(result, result.pred_image_maps[labels]).numpy()
    low, high = (f(maps, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    maps = (maps - low) / np.maximum(high - low, 1e-12)
    axes.imshow(maps.max(axis=0), cmap='inferno', vmin=0, vmax=1, alpha=0.7)
    for label, score_map in zip(labels, maps):
        row, column = np.unravel_index(score_map.argmax(), score_map.shape)
        _write(axes, column, row, label, scores[label], classes)


def _colour(label: int) -> tuple:
    return colormaps['tab10'](int(label) % 10)


def _write(
    axes: Axes, x: float, y: float, label: int, score: float, classes: tuple[str, ...]
) -> None:
    background = dict(facecolor=_colour(label), pad=1, linewidth=0)
    text = f'{classes[label]} {score:.2f}'
    axes.text(x, y, text, color='white', fontsize=7, va='bottom', clip_on=True, bbox=background)


def _draw_box(axes: Axes, box: list[float], colour, width: float) -> None:
    x1, y1, x2, y2 = box
    axes.add_patch(
        Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=width)
    )
