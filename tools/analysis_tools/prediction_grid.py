"""Draw grids of images: predictions on validation images, pseudo boxes on training images."""

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from mmcv import imfrombytes
from mmdet.apis import inference_detector, init_detector
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.fileio import get
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmgwap.datasets.samplers import boxed_images
from mmgwap.models import LabelGuidedTeacher, MultiTaskDetector
from mmgwap.models.task_modules.pseudo_boxes import count_matches
from mmgwap.structures import batch_multi_hot, image_labels, maps_to_image

HEADER = 0.6  # inches above the images
PSEUDO_COLOUR = '#00c853'


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
    """Load a trained model; a ``MultiTaskDetector``, at any depth, will return its score maps."""
    # Without cfg_options, mmdet reads cfg.model.backbone, which a wrapper does not have.
    model = init_detector(cfg, str(checkpoint), device=device, cfg_options={})
    for module in _multi_task_detectors(model):
        module.with_maps = True
    return model


def has_maps(model: nn.Module) -> bool:
    """Return whether the predictions of a model have score maps."""
    return next(_multi_task_detectors(model), None) is not None


def _multi_task_detectors(model: nn.Module) -> Iterator[MultiTaskDetector]:
    return (module for module in model.modules() if isinstance(module, MultiTaskDetector))


def spread_images(cfg: Config, count: int) -> dict[int, str]:
    """Return the indices of evenly spread validation images, each with an empty note.

    Neighbours in a data set may be frames of one scene.
    """
    size = len(DATASETS.build(cfg.val_dataloader.dataset))
    return dict.fromkeys(np.linspace(0, size - 1, min(count, size)).astype(int).tolist(), '')


def most_changed_images(
    cfg: Config, before: nn.Module, after: nn.Module, count: int, threshold: float
) -> dict[int, str]:
    """Return the validation images on which two models differ most.

    The result of an image is the number of true boxes found (same class, IoU >= 0.5) minus the
    number of wrong boxes.

    Args:
        cfg (Config): config with the validation data set.
        before, after (nn.Module): detectors.
        count (int): number of images; the first half gains most, the second half loses most.
        threshold (float): minimum score of a box.

    Returns:
        dict: the change of each image, such as '+2', by its index. At most ``count`` images; fewer
        if fewer gain or lose.
    """
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    results = [[_net_found(model, info, threshold) for info in infos] for model in (before, after)]
    change = np.subtract(results[1], results[0])
    order = np.argsort(-change, kind='stable')
    gained = [index for index in order[: count - count // 2] if change[index] > 0]
    lost = [index for index in order[::-1][: count // 2] if change[index] < 0]
    return {int(index): f'{change[index]:+d}' for index in gained + lost}


def _net_found(model: nn.Module, info: dict, threshold: float) -> int:
    """Return the number of true boxes found minus the number of wrong boxes on an image."""
    found = inference_detector(model, info['img_path']).cpu().pred_instances
    found = found[found.scores >= threshold]
    true = [each for each in info['instances'] if not each['ignore_flag']]
    true = InstanceData(
        bboxes=torch.tensor([each['bbox'] for each in true]).view(-1, 4),
        labels=torch.tensor([each['bbox_label'] for each in true], dtype=torch.long),
    )
    right = int(count_matches(found, true, len(model.dataset_meta['classes'])).sum())
    return 2 * right - len(found)


def draw_grid(
    cfg: Config, columns: list[Column], images: dict[int, str], threshold: float, path: Path
) -> None:
    """Draw validation images, one per row; a single column is wrapped into four.

    Args:
        cfg (Config): config with the validation data set.
        columns (list[Column]): columns of the grid.
        images (dict): a note for each image, by its index.
        threshold (float): minimum score of a drawn box.
        path (Path): picture to write.
    """
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    width = min(4, len(images)) if len(columns) == 1 else len(columns)
    figure, grid = _make_grid(-(-len(images) * len(columns) // width), width)
    cells = iter(grid.flat)
    for index, note in images.items():
        info = dataset.get_data_info(index)
        for column in columns:
            axes = next(cells)
            _draw_image(axes, column, info, threshold, dataset.metainfo['classes'])
            if column is columns[0]:
                axes.text(-0.02, 0.5, note, transform=axes.transAxes, ha='right', fontsize=10)
    if len(columns) > 1:
        for axes, column in zip(grid[0], columns):
            axes.set_title(column.title, fontsize=10)
    _save(figure, 'white: true    colour: predicted, with class and score', path)


def draw_train_grid(
    cfg: Config, models: dict[str, LabelGuidedTeacher], count: int, path: Path
) -> bool:
    """Draw training images without boxes, one per row, with the pseudo boxes of each teacher.

    A column shows the true boxes, if a ``PartialBoxDataset`` hides them. The score maps of the
    last model, if it has an image-level head, are those of the image labels.

    Args:
        cfg (Config): config with the training data set.
        models (dict): models by name.
        count (int): number of images.
        path (Path): picture to write.

    Returns:
        bool: False, and no picture is written, if all images have boxes.
    """
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    indices = np.flatnonzero(~boxed_images(dataset))
    if not len(indices):
        return False
    count = min(count, len(indices))
    name, model = list(models.items())[-1]
    titles = ['image labels', *(f'{name}: pseudo boxes' for name in models)]
    titles += [f'{name}: score maps'] if has_maps(model) else []
    figure, grid = _make_grid(count, len(titles))
    for row, index in zip(grid, indices[np.linspace(0, len(indices) - 1, count).astype(int)]):
        _draw_train_image(row, dataset[int(index)], list(models.values()), dataset.metainfo)
    for axes, title in zip(grid[0], titles):
        axes.set_title('\n'.join(filter(None, (title, axes.get_title()))), fontsize=10)
    title = 'white: true boxes, hidden in training    green: pseudo boxes, with class and score'
    _save(figure, title, path)
    return True


def _make_grid(rows: int, width: int) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(3 * width, 3 * rows + HEADER))
    grid = figure.subplots(rows, width, squeeze=False)
    for axes in grid.flat:
        axes.axis('off')
    return figure, grid


def _save(figure: Figure, title: str, path: Path) -> None:
    figure.suptitle(title, fontsize=10)
    figure.tight_layout(rect=(0, 0, 1, 1 - HEADER / 2 / figure.get_figheight()))
    figure.savefig(path, dpi=110)


def _draw_image(
    axes: Axes, column: Column, info: dict, threshold: float, classes: tuple[str, ...]
) -> None:
    result = inference_detector(column.model, info['img_path']).cpu()
    true = [instance['bbox'] for instance in info['instances']]
    _show(axes, info['img_path'], true, 1 if column.maps else 2.5)
    if column.maps:
        # The predicted classes, at least the most likely class.
        scores = result.pred_image_scores
        labels = (scores >= min(threshold, scores.max())).nonzero().flatten()
        _draw_maps(axes, result, labels, classes)
        return
    predicted = result.pred_instances[result.pred_instances.scores >= threshold]
    for box, score, label in zip(predicted.bboxes, predicted.scores, predicted.labels):
        _draw_box(axes, box.tolist(), _colour(label), 1.5)
        _write(axes, float(box[0]), float(box[1]) - 1, label, score, classes)


def _draw_train_image(
    row: np.ndarray, data: dict, models: list[LabelGuidedTeacher], metainfo: dict
) -> None:
    sample, classes = data['data_samples'], metainfo['classes']
    true = sample.hidden_instances.bboxes.tolist() if 'hidden_instances' in sample else []
    present, unknown = image_labels(sample)
    title = ', '.join(classes[label] for label in present) or 'none'
    if len(unknown):
        title += f'; unknown: {", ".join(classes[label] for label in unknown)}'
    _show(row[0], sample.img_path, true, 2.5)
    row[0].set_title(textwrap.fill(title, 40), fontsize=9)
    for axes, model in zip(row[1:], models):
        _show(axes, sample.img_path, true, 2.5)
        for box, score, label in zip(*_find_pseudo_boxes(model, data)):
            _draw_box(axes, box.tolist(), PSEUDO_COLOUR, 1.5)
            place = float(box[0]), float(box[1]) - 1
            _write(axes, *place, label, score, classes, PSEUDO_COLOUR)
    if len(row) > 1 + len(models):
        result = inference_detector(models[-1], sample.img_path).cpu()
        _show(row[-1], sample.img_path, true, 1)
        _draw_maps(row[-1], result, present, classes)


def _find_pseudo_boxes(model: LabelGuidedTeacher, data: dict) -> tuple[Tensor, Tensor, Tensor]:
    """Return bboxes (N, 4) in pixels of the image file, scores (N, ) and labels (N, )."""
    data = model.data_preprocessor(pseudo_collate([data]), False)
    samples = data['data_samples']
    labels = batch_multi_hot(samples, model.num_classes).to(data['inputs'].device)
    (found,) = model.find_pseudo_boxes(data['inputs'], samples, labels)
    return found.bboxes.cpu(), found.scores.cpu(), found.labels.cpu()


def _show(axes: Axes, path: str, true: list[list[float]], width: float) -> None:
    axes.imshow(imfrombytes(get(path), channel_order='rgb'))
    for box in true:
        _draw_box(axes, box, 'white', width)


def _draw_maps(axes: Axes, result: DetDataSample, labels: Tensor, classes: tuple[str, ...]) -> None:
    """Overlay the maps of some classes.

    Each map is stretched to its own range, and its maximum is labelled.
    """
    if not len(labels):
        return
    maps = maps_to_image(result, result.pred_image_maps[labels]).numpy()
    low, high = (f(maps, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    maps = (maps - low) / np.maximum(high - low, 1e-12)
    axes.imshow(maps.max(axis=0), cmap='inferno', vmin=0, vmax=1, alpha=0.7)
    for label, score_map in zip(labels, maps):
        row, column = np.unravel_index(score_map.argmax(), score_map.shape)
        _write(axes, column, row, label, result.pred_image_scores[label], classes)


def _colour(label: int) -> tuple:
    return colormaps['tab10'](int(label) % 10)


def _write(
    axes: Axes,
    x: float,
    y: float,
    label: int,
    score: float,
    classes: tuple[str, ...],
    colour: Optional[str] = None,
) -> None:
    background = dict(facecolor=colour or _colour(label), pad=1, linewidth=0)
    text = f'{classes[label]} {score:.2f}'
    # Text above a box at the upper edge would be cut off.
    place = 'top' if y < 0.07 * axes.get_ylim()[0] else 'bottom'
    axes.text(x, y, text, color='white', fontsize=7, va=place, clip_on=True, bbox=background)


def _draw_box(axes: Axes, box: list[float], colour, width: float) -> None:
    x1, y1, x2, y2 = box
    axes.add_patch(
        Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=width)
    )
