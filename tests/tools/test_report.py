"""tools/analysis_tools/report.py on a run with a teacher: curves, table and pictures."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.structures import InstanceData

from tests.toy_data import tiny_rfcn_run

register_all_modules()
ROWS = [
    {'step': 2, 'loss': 3.0, 'loss_cls': 1.0, 'pseudo_loss': 0.0, 'time': 0.5},
    {'step': 4, 'pseudo_boxes/a': 0.25, 'pseudo_boxes/b': 0.5},
    {
        'step': 4,
        'loss': 2.0,
        'loss_cls': 1.0,
        'pseudo_loss_cls': 0.5,
        'pseudo_boxes_per_image': 3.0,
        'pseudo_precision': 0.75,
        'pseudo_left_out': 0.1,
        'time': 0.5,
    },
    {'step': 4, 'coco/bbox_mAP': 0.125},
    {'step': 6, 'loss': 2.0, 'loss_cls': 1.0, 'time': 0.5},
]


@pytest.fixture
def tools(repo, monkeypatch):
    """The modules report and prediction_grid of tools/analysis_tools."""
    monkeypatch.syspath_prepend(str(repo / 'tools' / 'analysis_tools'))
    import prediction_grid
    import report

    yield report, prediction_grid
    for name in ('prediction_grid', 'report'):
        sys.modules.pop(name)


@pytest.fixture
def figures(tools, monkeypatch):
    """List of the figures that are saved from now on."""
    saved, savefig = [], Figure.savefig

    def save(figure, *args, **kwargs):
        saved.append(figure)
        savefig(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, 'savefig', save)
    return saved


def write_log(work_dir, rows=ROWS):
    path = work_dir / '2026' / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(map(json.dumps, rows)))


def lines_of(axes):
    return {line.get_label(): line for line in axes.lines}


def test_rows_of_pseudo_boxes_are_no_validations(tools, tmp_path):
    report, _ = tools
    write_log(tmp_path)
    rows = report.read_scalars(tmp_path)
    assert sorted(rows, key=ROWS.index) == ROWS
    assert report._summarize(rows) == {
        'iterations': '6',
        'time in training': '0.1 min',
        'coco/bbox_mAP': '0.125',
        'pseudo_boxes_per_image': '3.000',
        'pseudo_precision': '0.750',
        'pseudo_left_out': '0.100',
    }


def test_curves_of_pseudo_boxes(tools, figures, tmp_path):
    report, _ = tools
    plain = [row for row in ROWS if 'time' in row or 'coco/bbox_mAP' in row]
    plain = [{k: v for k, v in row.items() if not k.startswith('pseudo')} for row in plain]
    report.draw_curves(dict(a=ROWS), tmp_path / 'a.png')
    losses, metrics, rates, per_image, classes = sorted(
        figures[0].axes, key=lambda axes: ' lvrbp'.index(_panel(axes))
    )
    found = lines_of(losses)
    assert set(found) == {'loss', 'loss_cls', 'pseudo_loss_cls'}  # a loss of zero has no logarithm
    assert found['loss_cls'].get_color() == found['pseudo_loss_cls'].get_color() != 'C0'
    assert found['pseudo_loss_cls'].get_linestyle() == '--'
    assert set(lines_of(metrics)) == {'coco/bbox_mAP'}
    assert lines_of(rates)['precision'].get_xydata().tolist() == [[4, 0.75]]
    assert set(lines_of(rates)) == {'precision', 'images left out'}
    assert lines_of(per_image)['boxes per image (right)'].get_xydata().tolist() == [[4, 3]]
    texts = [text.get_text() for text in rates.get_legend().get_texts()]
    assert texts == ['precision', 'images left out', 'boxes per image (right)']
    assert lines_of(classes)['b'].get_xydata().tolist() == [[4, 0.5]]

    report.draw_curves(dict(a=plain), tmp_path / 'a.png')
    assert len(figures[1].axes) == 2
    report.draw_curves(dict(a=plain, b=ROWS), tmp_path / 'a.png')
    assert [axes.get_ylabel() for axes in figures[2].axes if axes.lines] == [
        'training loss',
        'validation',
        'pseudo boxes: rates',
        'pseudo boxes per image',
    ]
    assert lines_of(figures[2].axes[2])['b: precision'].get_linestyle() == ':'


def _panel(axes):
    """Return a letter for each panel: losses, validation, rates, boxes per image, per class."""
    names = {'training loss': 'l', 'validation': 'v', 'pseudo boxes: rates': 'r'}
    return names.get(axes.get_ylabel(), 'p' if 'by class' in axes.get_ylabel() else 'b')


@pytest.mark.parametrize('count, drawn', [(1, 1), (20, 20), (21, 10)])
def test_draw_the_rarest_of_many_classes(tools, count, drawn):
    report, _ = tools
    row = {f'pseudo_boxes/c{i}': float(count - i) for i in range(count)}
    first = {key: 99.0 for key in row}
    axes = Figure().subplots()
    report._draw_classes(axes, dict(a=[dict(first, step=2), dict(row, step=4)]))
    assert set(lines_of(axes)) == {f'c{count - 1 - i}' for i in range(drawn)}
    assert len({line.get_color() for line in axes.lines}) == drawn
    assert ('10 lowest of 21' in axes.get_ylabel()) == (count > 20)


def teacher_config(repo, digits, **changes):
    """Return the config of a teacher with an image-level head, with boxes on 8 of 16 images."""
    cfg = tiny_rfcn_run(repo / 'configs', digits)
    head = dict(type='mmgwap.ImageClsHead', num_classes=10, in_channels=64)
    student = dict(type='mmgwap.MultiTaskDetector', detector=cfg.model, cls_head=head)
    cfg.model = dict(type='mmgwap.LabelGuidedTeacher', detector=student, thresholds=(0.0, 0.0))
    cfg.train_dataloader.dataset = dict(
        type='mmgwap.PartialBoxDataset', percent=50, dataset=cfg.train_dataloader.dataset
    )
    cfg.merge_from_dict(changes)
    return cfg


def write_run(cfg, work_dir):
    """Write a work directory with an untrained model."""
    torch.manual_seed(0)
    write_log(work_dir)
    cfg.dump(work_dir / 'config.py')
    model = MODELS.build(cfg.model)
    meta = dict(dataset_meta=dict(classes=tuple('0123456789')))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), work_dir / 'iter_6.pth')
    (work_dir / 'last_checkpoint').write_text('/elsewhere/iter_6.pth')


def boxes_of(axes, colour):
    """Return the rectangles of a colour, as sorted corners."""
    return sorted(
        [*patch.get_xy(), patch.get_x() + patch.get_width(), patch.get_y() + patch.get_height()]
        for patch in axes.patches
        if to_hex(patch.get_edgecolor()) == colour
    )


def test_pictures_of_a_teacher(tools, repo, digits, figures, tmp_path, monkeypatch, capsys):
    report, _ = tools
    cfg = teacher_config(repo, digits)
    for name in ('guided', 'other'):
        (tmp_path / name).mkdir()
        write_run(cfg, tmp_path / name)
    arguments = [tmp_path / 'guided', '--beside', tmp_path / 'other', '--images', '2']
    monkeypatch.setattr(sys, 'argv', ['report.py', *map(str, arguments)])
    report.main()
    printed = capsys.readouterr().out
    assert 'train_grid.png' in printed and 'pseudo_precision' in printed
    _, val, train = figures
    assert [axes.get_title() for axes in val.axes[:3]] == ['other', 'guided', 'guided: score maps']
    titles = [axes.get_title().split('\n')[0] for axes in train.axes[:4]]
    assert titles == ['image labels', 'other: pseudo boxes', 'guided: pseudo boxes'] + [
        'guided: score maps'
    ]
    assert len(train.axes) == 8
    annotations = json.loads((digits / 'annotations' / 'train.json').read_text())
    true = {}  # in whole pixels
    for obj in annotations['annotations']:
        x, y, w, h = obj['bbox']
        true.setdefault(obj['image_id'], []).append([x, y, x + w, y + h])
    true = [sorted(boxes) for boxes in true.values()]
    for row in (train.axes[:4], train.axes[4:]):
        white = boxes_of(row[0], '#ffffff')
        assert white in true
        labels = set(row[0].get_title().split('\n')[-1].split(', '))
        # A threshold of zero lets all boxes of the present classes pass.
        drawn = [text.get_text().split()[0] for text in row[2].texts]
        assert drawn and set(drawn) <= labels
        assert len(boxes_of(row[2], '#00c853')) == len(drawn)
        assert {text.get_text().split()[0] for text in row[3].texts} == labels
    assert not boxes_of(train.axes[0], '#00c853')
    assert (tmp_path / 'guided' / 'train_grid.png').read_bytes().startswith(b'\x89PNG')


def test_which_models_have_pseudo_boxes(tools, repo, digits):
    report, _ = tools
    cfg = teacher_config(repo, digits).model
    assert report._has_pseudo_boxes(MODELS.build(cfg))
    for other in (dict(cfg, pseudo_weight=0), cfg.detector, cfg.detector.detector):
        assert not report._has_pseudo_boxes(MODELS.build(other))


def test_no_picture_of_training_images_if_all_have_boxes(tools, repo, digits, tmp_path):
    _, grid = tools
    cfg = teacher_config(repo, digits, **{'train_dataloader.dataset.percent': 100})
    assert not grid.draw_train_grid(cfg, {}, 2, tmp_path / 'a.png')
    assert not (tmp_path / 'a.png').exists()


def fake_results(boxes_by_image):
    """Return a stand-in of inference_detector: boxes of a 'model' by image path."""

    def infer(model, path):
        boxes = boxes_by_image[model.name][path]
        instances = InstanceData(
            bboxes=torch.tensor([box for box, *_ in boxes]).view(-1, 4).float(),
            labels=torch.tensor([label for _, label, _ in boxes], dtype=torch.long),
            scores=torch.tensor([score for *_, score in boxes]),
        )
        return DetDataSample(pred_instances=instances)

    return infer


def test_images_that_change_most(tools, monkeypatch):
    _, grid = tools
    box, other = [0, 0, 10, 10], [20, 20, 30, 30]
    truth = {
        'a': [(box, 0, 0), (other, 1, 0)],
        'b': [(box, 0, 0)],
        'c': [(box, 0, 0)],
        'd': [],
        'e': [(box, 1, 1), (other, 1, 0)],
    }
    infos = [
        dict(
            img_path=name,
            instances=[dict(bbox=b, bbox_label=k, ignore_flag=i) for b, k, i in objects],
        )
        for name, objects in truth.items()
    ]
    dataset = type('Data', (), dict(get_data_info=lambda _, i: infos[i], __len__=lambda _: 5))()
    monkeypatch.setattr(grid.DATASETS, 'build', lambda cfg: dataset)
    before = dict(a=[], b=[(box, 0, 0.9)], c=[(box, 0, 0.9)], d=[], e=[(other, 1, 0.9)])
    after = dict(
        a=[(box, 0, 0.9), (other, 1, 0.5)],  # two more are found
        b=[(box, 1, 0.9)],  # another class: one less is found, one box is wrong
        c=[(box, 0, 0.9), (box, 0, 0.4)],  # a box below the threshold
        d=[(box, 0, 0.6)],  # one box is wrong
        e=[(other, 1, 0.7), (box, 1, 0.7)],  # a crowd is no true box
    )
    monkeypatch.setattr(grid, 'inference_detector', fake_results(dict(before=before, after=after)))
    models = [
        SimpleNamespace(name=name, dataset_meta=dict(classes=('x', 'y')))
        for name in ('before', 'after')
    ]
    cfg = SimpleNamespace(val_dataloader=SimpleNamespace(dataset=None))
    found = grid.most_changed_images(cfg, *models, 8, 0.5)
    assert found == {0: '+2', 1: '-2', 3: '-1', 4: '-1'}
    assert len(grid.most_changed_images(cfg, *models, 4, 0.5)) == 3  # two places for losses
    assert grid.most_changed_images(cfg, *models, 1, 0.5) == {0: '+2'}
    assert grid.most_changed_images(cfg, models[0], models[0], 4, 0.5) == {}
