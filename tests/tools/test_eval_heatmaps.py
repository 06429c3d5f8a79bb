"""Tests of tools/analysis_tools/eval_heatmaps.py."""

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
    for i, (image, one) in enumerate(samples().items()):
        path = tmp_path / 'maps' / image
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(f'{path}.npy' if i % 2 else path.with_suffix('.npy'), on_image(one, LABELS[image]))
    return tmp_path


def samples():
    return {image: sample(image, seed) for seed, image in enumerate(SIZES)}


@pytest.fixture
def measure(repo, monkeypatch, capsys):
    """Run the command in this process; return its report, its output and its exit message."""

    def run(split, *options):
        monkeypatch.setattr(
            sys,
            'argv',
            [
                TOOL,
                *map(
                    str, (split / 'maps', split / 'metadata', '--out', split / 'out.json', *options)
                ),
            ],
        )
        (split / 'out.json').unlink(missing_ok=True)
        error = None
        try:
            runpy.run_path(str(repo / TOOL), run_name='__main__')
        except SystemExit as exit:
            error = str(exit)
        report = (
            json.loads((split / 'out.json').read_text()) if (split / 'out.json').exists() else None
        )
        return report, capsys.readouterr(), error

    return run


def map_figures(found):
    return {name: value for name, value in found.items() if name.startswith(('max_box', 'px_ap'))}


@pytest.mark.parametrize(
    'options, settings',
    [
        ([], {}),
        (['--size', 50, 70, '--interval', 0.01], dict(size=(50, 70), interval=0.01)),
        (['--original-size'], dict(size=None)),
    ],
)
def test_results_equal_those_of_the_metric(split, measure, options, settings):
    report, said, error = measure(split, '--mask-root', split / 'masks', *options)
    assert error is None
    wanted = map_figures(evaluate(build(split, **settings), list(samples().values())))
    assert len(wanted) == 7 and report['results'] == wanted
    assert report['images'] == 4
    assert '4 images' in said.out and f'{wanted["px_ap"]:.2f}' in said.out
    assert '4/4' in said.err  # the progress bar


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


def test_chunks_are_merged(split, measure):
    few, _, _ = measure(split)
    write_many(split)
    many, said, _ = measure(split)
    assert many['images'] == 80 and '80/80' in said.err
    assert_same(many['results'], few['results'])


@pytest.mark.slow
def test_several_processes(split, measure, tool):
    few, _, _ = measure(split)
    write_many(split)
    tool(TOOL, split / 'maps', split / 'metadata', '--jobs', 2, '--out', split / 'two.json')
    assert_same(json.loads((split / 'two.json').read_text())['results'], few['results'])


def test_maps_of_the_measured_size_are_not_resized(split, measure):
    for image in SIZES:
        score_map = np.zeros((224, 224), np.float16)
        score_map[::2] = 1  # resizing would blur the rows
        (split / 'maps' / image).with_suffix('.npy').unlink(missing_ok=True)
        np.save(f'{split / "maps" / image}.npy', score_map)
    report, _, error = measure(split)
    assert error is None and 'px_ap' not in report['results']
    assert report['results']['max_box_acc_threshold'] == 0


def test_constant_maps_have_no_box(split, measure):
    for image in SIZES:
        (split / 'maps' / image).with_suffix('.npy').unlink(missing_ok=True)
        np.save(f'{split / "maps" / image}.npy', np.full((7, 9), 0.1, np.float32))
    report, _, _ = measure(split, '--mask-root', split / 'masks')
    assert report['results']['max_box_acc_v2'] == 0
    pixels = [
        cv2.resize(true_mask(image), (224, 224), interpolation=cv2.INTER_NEAREST) for image in SIZES
    ]
    objects, background = (np.sum(np.array(pixels) == i) for i in (1, 0))
    assert report['results']['px_ap'] == pytest.approx(100 * objects / (objects + background))


def test_missing_files_are_named_before_any_is_read(split, measure):
    (split / 'maps' / 'a' / '1.npy').unlink()
    (split / 'maps' / 'b' / '4.jpg.npy').write_text('unused')
    report, said, error = measure(split)
    assert report is None and 'image/s' not in said.err
    assert '1 of 4 heatmaps are missing, such as a/1.jpg.npy' in error


@pytest.mark.parametrize(
    'content, message',
    [
        (np.zeros((1, 4, 4)), r'(1, 4, 4) float64'),
        (np.zeros((4, 4), complex), r'(4, 4) complex'),
        (np.zeros((0, 4)), r'(0, 4)'),
        (np.full((4, 4), np.nan), '16 values of the score map are NaN'),
        (np.full((4, 4), np.inf), '16 values of the score map are NaN or inf'),
        (np.array([[None]]), 'allow_pickle'),
    ],
)
def test_faulty_maps_are_named(split, measure, content, message):
    np.save(split / 'maps' / 'a' / '1.npy', content, allow_pickle=True)
    report, _, error = measure(split)
    assert report is None
    assert ('a/1.jpg' in error or 'a/1.npy' in error) and message in error


def test_other_files_are_named(split, measure):
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
    for name, rest in (
        ('image_ids.txt', ''),
        ('class_labels.txt', ',0'),
        ('image_sizes.txt', ',60,40'),
        ('localization.txt', ',1,1,5,5'),
    ):
        with (metadata / name).open('a') as file:
            file.write(f'a/1.png{rest}\n')
    (metadata / 'masks.txt').unlink()
    _, _, error = measure(split)
    assert 'a/1.jpg and to a/1.png' in error


def test_metrics_without_truth_are_left_out(split, measure):
    report, said, _ = measure(split)
    assert 'left out: px_ap' in said.out
    (split / 'metadata' / 'localization.txt').unlink()
    assert 'neither boxes nor masks' in measure(split)[2]
    report, _, _ = measure(split, '--mask-root', split / 'masks')
    assert set(report['results']) == {'px_ap'}


def test_sizes_are_needed_for_boxes(split, measure):
    (split / 'metadata' / 'image_sizes.txt').unlink()
    _, _, error = measure(split)
    assert 'a/1.jpg: no size in image_sizes.txt' in error


@pytest.mark.parametrize(
    'options',
    [
        ['--interval', '0'],
        ['--jobs', '0'],
        ['--size', '0', '5'],
        ['--size', '5', '5', '--original-size'],
    ],
)
def test_wrong_options(split, measure, options):
    report, said, error = measure(split, *options)
    assert report is None and error == '2'
    assert options[0] in said.err or 'not allowed with' in said.err
