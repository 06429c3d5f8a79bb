"""Stratified splits and split files."""

import numpy as np
import pytest

from mmgwap.datasets.partial_split import read_split, split_from_ids, stratified_split, write_split


def make_labels(images=400, classes=12):
    """Labels of images; higher classes are rarer, and some images have none."""
    rng = np.random.RandomState(0)
    share = 0.4 / np.arange(1, classes + 1)
    labels = [np.flatnonzero(rng.rand(classes) < share) for _ in range(images)]
    labels[7] = np.arange(classes)  # every class occurs
    return labels, classes


@pytest.mark.parametrize('percent', [4, 25.5, 99])
def test_keep_the_share_of_each_class(percent):
    labels, classes = make_labels()
    mask = stratified_split(labels, percent, classes)
    assert mask.dtype == bool and mask.shape == (400,)
    assert mask.sum() == round(percent / 100 * 400)
    for c in range(classes):
        share = percent / 100 * sum(c in of_image for of_image in labels)
        kept = sum(c in of_image for of_image, keep in zip(labels, mask) if keep)
        # A class gets more images if they are chosen for other classes too.
        assert max(1, int(0.65 * share)) <= kept <= 1.35 * share + 3
    empty = np.array([len(of_image) == 0 for of_image in labels])
    assert abs(mask[empty].mean() - percent / 100) < 0.1


def test_split_depends_on_the_seed():
    labels, classes = make_labels()
    first, same, other = (stratified_split(labels, 10, classes, seed) for seed in (3, 3, 4))
    assert (first == same).all() and (first != other).any()


def test_extreme_shares():
    labels, classes = make_labels()
    assert not stratified_split(labels, 0, classes).any()
    assert stratified_split(labels, 100, classes).all()
    assert stratified_split([], 50, classes).shape == (0,)
    # A rare class keeps its only image.
    assert all(stratified_split([[0]] * 99 + [[1]], 2, 2, seed)[99] for seed in range(5))


@pytest.mark.parametrize('percent', [0.1, 1, 2])
def test_too_few_images_for_each_class(percent):
    labels = [[i % 5] for i in range(100)]
    with pytest.raises(ValueError, match=f'percent={percent}: .*5 classes.* at least 5'):
        stratified_split(labels, percent, 5)
    assert stratified_split(labels, 5, 5).sum() == 5


@pytest.mark.parametrize('percent', [-1, 100.1, float('nan')])
def test_percent_out_of_range(percent):
    with pytest.raises(ValueError, match=f'percent .* got {percent}'):
        stratified_split([[0]], percent, 1)


def test_split_files(tmp_path):
    path = tmp_path / 'split.txt'
    write_split(path, [3, 'b', '2008_000001'], 'made by a test')
    assert path.read_text().startswith('# made by a test\n')
    assert read_split(path) == ['3', 'b', '2008_000001']
    path.write_text('# a\n\n 1  \nb#2\n # c\n')
    assert read_split(path) == ['1', 'b#2']
    path.write_text('1\n2\n1\n')
    with pytest.raises(ValueError, match=f'{path}.* 1 twice'):
        read_split(path)


def test_split_from_ids():
    assert split_from_ids([1, 2, 3], ['3', '1'], 'f').tolist() == [True, False, True]
    with pytest.raises(ValueError, match='f: 2 of its 3 ids .* such as 4'):
        split_from_ids([1, 2, 3], ['3', '4', '5'], 'f')
    with pytest.raises(ValueError, match='f: .*same id'):
        split_from_ids([1, 1, 3], ['1'], 'f')
