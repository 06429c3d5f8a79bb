"""tools/analysis_tools/eval_heatmaps.py: results, chunks and faulty files."""

import json
import runpy
import sys

import cv2
import numpy as np
import pytest

from ..evaluation.test_wsol_metric import build, evaluate, on_image, sample
from ..evaluation.wsol_split import LABELS, SIZES, true_mask, write_split

TOOL = 'tools/analysis_tools/eval_heatmaps.py'


@pytest.fixture
def split(tmp_path):
    """Write metadata, masks, and heatmaps with both kinds of names."""
    write_split(tmp_path)
    for i, (image, found) in enumerate(samples().items()):
        path = tmp_path / 'maps' / image
        path.parent.mkdir(parents=True, exist_ok=True)
        path = f'{path}.npy' if i % 2 else path.with_suffix('.npy')
        np.save(path, on_image(found, LABELS[image]))
    return tmp_path


def samples():
    return {image: sample(image, seed) for seed, image in enumerate(SIZES)}


@pytest.fixture
def measure(repo, monkeypatch, capsys):
    """Run the command in this process; return its report, its output and its exit message."""

    def run(split, *options):
        out = split / 'out.json'
        out.unlink(missing_ok=True)
        args = (split / 'maps', split / 'metadata', '--out', out, *options)
        monkeypatch.setattr(sys, 'argv', [TOOL, *map(str, args)])
        error = None
        try:
            runpy.run_path(str(repo / TOOL), run_name='__main__')
        except SystemExit as exit:
            error = str(exit)
        report = json.loads(out.read_text()) if out.exists() else None
        return report, capsys.readouterr(), error

    return run


def write_maps(split, score_map):
    """Replace the heatmap of each image."""
    for image in SIZES:
        (split / 'maps' / image).with_suffix('.npy').unlink(missing_ok=True)
        np.save(f'{split / "maps" / image}.npy', score_map)


@pytest.mark.parametrize(
    'options, settings',
    [
        ([], {}),
        (['--size', 50, 70, '--interval', 0.01], dict(size=(50, 70), interval=0.01)),
        (['--original-size'], dict(size=None)),
    ],
)
def test_same_results_as_the_metric(split, measure, options, settings):
    report, output, error = measure(split, '--mask-root', split / 'masks', *options)
    assert error is None
    figures = evaluate(build(split, **settings), list(samples().values()))
    figures = {key: value for key, value in figures.items() if key.startswith(('max_box', 'px_ap'))}
    assert len(figures) == 7 and report['results'] == figures
    assert report['images'] == 4
    assert '4 images' in output.out and f'{figures["px_ap"]:.2f}' in output.out
    assert '4/4' in output.err  # the progress bar


def write_many(split):
    """Repeat each image twenty times: more than one chunk."""
    for name in ('image_ids.txt', 'class_labels.txt', 'image_sizes.txt', 'localization.txt'):
        path = split / 'metadata' / name
        lines = path.read_text().split()
        path.write_text('\n'.join(f'{i}/{line}' for line in lines for i in range(20)))
    (split / 'metadata' / 'masks.txt').unlink()
    for i in range(20):
        (split / 'maps' / str(i)).symlink_to(split / 'maps')


def assert_same(many, few):
    assert many.pop('max_box_acc') == few['max_box_acc']
    for name, value in many.items():
        assert value == pytest.approx(few[name])


def test_merge_chunks(split, measure):
    few, _, _ = measure(split)
    write_many(split)
    many, output, _ = measure(split)
    assert many['images'] == 80 and '80/80' in output.err
    assert_same(many['results'], few['results'])


@pytest.mark.slow
def test_several_processes(split, measure, tool):
    few, _, _ = measure(split)
    write_many(split)
    tool(TOOL, split / 'maps', split / 'metadata', '--jobs', 2, '--out', split / 'two.json')
    assert_same(json.loads((split / 'two.json').read_text())['results'], few['results'])


def test_keep_maps_of_the_measured_size(split, measure):
    score_map = np.zeros((224, 224), np.float16)
    score_map[::2] = 1  # resizing would blur the rows
    write_maps(split, score_map)
    report, _, error = measure(split)
    assert error is None and 'px_ap' not in report['results']
    assert report['results']['max_box_acc_threshold'] == 0


def test_constant_maps_have_no_box(split, measure):
    write_maps(split, np.full((7, 9), 0.1, np.float32))
    report, _, _ = measure(split, '--mask-root', split / 'masks')
    assert report['results']['max_box_acc_v2'] == 0
    nearest = dict(interpolation=cv2.INTER_NEAREST)
    pixels = np.array([cv2.resize(true_mask(image), (224, 224), **nearest) for image in SIZES])
    objects, background = (pixels == 1).sum(), (pixels == 0).sum()
    assert report['results']['px_ap'] == pytest.approx(100 * objects / (objects + background))


def test_name_missing_files_before_reading(split, measure):
    (split / 'maps' / 'a' / '1.npy').unlink()
    (split / 'maps' / 'b' / '4.jpg.npy').write_text('unused')
    report, output, error = measure(split)
    assert report is None and 'image/s' not in output.err
    assert '1 of 4 heatmaps are missing, such as a/1.jpg.npy' in error


@pytest.mark.parametrize(
    'content, message',
    [
        (np.zeros((1, 4, 4)), r'(1, 4, 4) float64'),
        (np.zeros((4, 4), complex), r'(4, 4) complex'),
        (np.zeros((0, 4)), r'(0, 4)'),
        (np.full((4, 4), np.inf), '16 values'),
        (np.array([[None]]), 'allow_pickle'),
    ],
)
def test_name_the_faulty_map(split, measure, content, message):
    np.save(split / 'maps' / 'a' / '1.npy', content, allow_pickle=True)
    report, _, error = measure(split)
    assert report is None
    assert ('a/1.jpg' in error or 'a/1.npy' in error) and message in error


def test_name_files_of_another_format(split, measure):
    path = split / 'maps' / 'a' / '1.npy'
    for content in (b'', b'text', path.read_bytes()[:200]):
        path.write_bytes(content)
        report, _, error = measure(split)
        assert report is None and 'a/1.npy: ' in error
    with path.open('wb') as file:
        np.savez(file, np.zeros((4, 4)))
    assert 'several arrays' in measure(split)[2]


def test_two_images_with_one_file(split, measure):
    metadata = split / 'metadata'
    rows = dict(image_ids='', class_labels=',0', image_sizes=',60,40', localization=',1,1,5,5')
    for name, row in rows.items():
        with (metadata / f'{name}.txt').open('a') as file:
            file.write(f'a/1.png{row}\n')
    (metadata / 'masks.txt').unlink()
    _, _, error = measure(split)
    assert 'a/1.jpg and to a/1.png' in error


def test_leave_out_metrics_without_truth(split, measure):
    report, output, _ = measure(split)
    assert 'left out: px_ap' in output.out
    (split / 'metadata' / 'localization.txt').unlink()
    assert 'neither boxes nor masks' in measure(split)[2]
    report, _, _ = measure(split, '--mask-root', split / 'masks')
    assert set(report['results']) == {'px_ap'}


def test_boxes_without_image_sizes(split, measure):
    (split / 'metadata' / 'image_sizes.txt').unlink()
    _, _, error = measure(split)
    assert 'a/1.jpg: no size in image_sizes.txt' in error


@pytest.mark.parametrize(
    'options', ['--interval 0', '--jobs 0', '--size 0 5', '--size 5 5 --original-size']
)
def test_wrong_options(split, measure, options):
    report, output, error = measure(split, *options.split())
    assert report is None and error == '2'
    assert options.split()[0] in output.err.splitlines()[-1]
