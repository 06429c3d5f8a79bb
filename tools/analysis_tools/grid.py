"""Draw true and predicted boxes, and score maps, of a few images."""

from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from mmcv import imfrombytes
from mmdet.apis import inference_detector, init_detector
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.fileio import get
from torch import nn

from mmgwap.structures import maps_to_image

HEADER = 0.6  # inches above the pictures


class Column(NamedTuple):
    """A column of pictures.

    Attributes:
        title: above it.
        model: whose boxes it shows.
        maps: whether it shows score maps, instead of boxes.
    """

    title: str
    model: nn.Module
    maps: bool = False


def load_model(cfg: Config, checkpoint: Path, device: str) -> nn.Module:
    """The trained model, giving score maps if it has any."""
    if cfg.model.type == 'mmgwap.MultiTaskDetector':
        cfg.model.test_cfg = dict(cfg.model.get('test_cfg') or {}, with_maps=True)
    # Without options mmdet looks for a backbone, which a wrapper has not.
    return init_detector(cfg, str(checkpoint), device=device, cfg_options={})


def draw_grid(cfg: Config, columns: list[Column], count: int, threshold: float, path: Path) -> None:
    """Draw images of the validation set, a line each if there are columns.

    A single column is wrapped into several.
    """
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    count = min(count, len(dataset))
    # Spread over the data set: neighbours may be frames of one scene.
    chosen = np.linspace(0, len(dataset) - 1, count).astype(int)
    width = min(4, count) if len(columns) == 1 else len(columns)
    lines = -(-count * len(columns) // width)
    figure, axes = plt.subplots(
        lines, width, squeeze=False, figsize=(3 * width, 3 * lines + HEADER)
    )
    for axis in axes.flat:
        axis.axis('off')
    places = iter(axes.flat)
    for index in chosen:
        info = dataset.get_data_info(int(index))
        for column in columns:
            _draw_image(next(places), column, info, threshold, dataset.metainfo['classes'])
    if len(columns) > 1:
        for axis, column in zip(axes[0], columns):
            axis.set_title(column.title, fontsize=10)
    figure.suptitle('white: true    colour: predicted, with class and score', fontsize=10)
    figure.tight_layout(rect=(0, 0, 1, 1 - HEADER / 2 / figure.get_figheight()))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_image(axis, column: Column, info: dict, threshold: float, classes: tuple) -> None:
    result = inference_detector(column.model, info['img_path']).cpu()
    image = imfrombytes(get(info['img_path']), channel_order='rgb')
    axis.imshow(image)
    for instance in info['instances']:
        _draw_box(axis, instance['bbox'], 'white', 1 if column.maps else 2.5)
    if column.maps:
        _draw_maps(axis, result, threshold, classes)
    else:
        _draw_boxes(axis, result.pred_instances, threshold, classes)


def _draw_boxes(axis, predicted, threshold: float, classes: tuple) -> None:
    for box, score, label in zip(predicted.bboxes, predicted.scores, predicted.labels):
        if score < threshold:
            continue
        colour = _colour(label)
        _draw_box(axis, box.tolist(), colour, 1.5)
        _write(axis, float(box[0]), float(box[1]) - 1, f'{classes[label]} {score:.2f}', colour)


def _draw_maps(axis, result, threshold: float, classes: tuple) -> None:
    """Overlay the map of each class that is on the image, and its peak.

    At least that of the likeliest class.  Each is stretched to its own range.
    """
    scores = result.pred_image_scores
    found = (scores >= min(threshold, scores.max())).nonzero().flatten()
    maps = maps_to_image(result, result.pred_image_maps[found]).numpy()
    low, high = (f(maps, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    maps = (maps - low) / np.maximum(high - low, 1e-12)
    axis.imshow(maps.max(axis=0), cmap='inferno', vmin=0, vmax=1, alpha=0.7)
    for label, one in zip(found, maps):
        row, column = np.unravel_index(one.argmax(), one.shape)
        _write(axis, column, row, f'{classes[label]} {scores[label]:.2f}', _colour(label))


def _colour(label: int):
    return plt.get_cmap('tab10')(int(label) % 10)


def _write(axis, x: float, y: float, text: str, colour) -> None:
    axis.text(
        x,
        y,
        text,
        color='white',
        fontsize=7,
        va='bottom',
        clip_on=True,
        bbox=dict(facecolor=colour, pad=1, linewidth=0),
    )


def _draw_box(axis, box: list, colour, width: float) -> None:
    x1, y1, x2, y2 = box
    axis.add_patch(
        plt.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=width)
    )
