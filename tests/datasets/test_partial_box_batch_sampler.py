"""PartialBoxBatchSampler: batches with a fixed number of images with boxes."""

import warnings

import numpy as np
import pytest
from mmengine.dataset import DefaultSampler, InfiniteSampler

from mmgwap.datasets import PartialBoxBatchSampler


class Images:
    """A data set in which some images have boxes."""

    def __init__(self, boxed, others):
        self.boxed = np.arange(boxed + others) < boxed
        np.random.RandomState(0).shuffle(self.boxed)

    def __len__(self):
        return len(self.boxed)


def make(
    images, batch_size=5, rank=0, world=1, epoch=0, seed=1, shuffle=True, infinite=False, **options
):
    sampler = (InfiniteSampler if infinite else DefaultSampler)(images, seed=seed, shuffle=shuffle)
    sampler.rank, sampler.world_size = rank, world
    if not infinite:
        sampler.set_epoch(epoch)
    return PartialBoxBatchSampler(sampler, batch_size, **(options or dict(num_boxed=2)))


@pytest.mark.parametrize(
    'boxed, others, world', [(20, 100, 1), (20, 101, 2), (21, 60, 3), (100, 13, 2), (4, 6, 2)]
)
def test_batches_of_an_epoch(boxed, others, world):
    images = Images(boxed, others)
    for epoch in range(4):
        ranks = [list(make(images, rank=rank, world=world, epoch=epoch)) for rank in range(world)]
        lengths = {len(batches) for batches in ranks}
        assert lengths == {min(boxed // (2 * world), others // (3 * world))}
        assert lengths == {len(make(images, world=world))}
        for batch in sum(ranks, []):
            assert images.boxed[batch].tolist() == [True] * 2 + [False] * 3
        everything = np.concatenate(sum(ranks, []))
        assert len(set(everything.tolist())) == len(everything)


def test_continue_the_larger_kind_in_the_next_epoch():
    images = Images(20, 95)  # 10 batches per epoch: 30 of 95, three times
    epochs = [np.concatenate(list(make(images, epoch=e))) for e in range(4)]
    unboxed = [set(epoch[~images.boxed[epoch]].tolist()) for epoch in epochs]
    assert len(set.union(*unboxed[:3])) == 90
    assert unboxed[3] & set.union(*unboxed[:3])
    for epoch in epochs:
        assert len(set(epoch[images.boxed[epoch]].tolist())) == 20


def test_the_order_depends_on_seed_and_epoch_only():
    images = Images(20, 100)
    first = list(make(images, epoch=5))
    assert first == list(make(images, epoch=5))
    assert first != list(make(images, epoch=6))
    assert first != list(make(images, epoch=5, seed=2))
    again = make(images)
    for epoch in (3, 4, 5):
        again.sampler.set_epoch(epoch)
        last = list(again)
    assert last == first


def test_without_shuffling():
    images = Images(20, 100)
    batches = list(make(images, shuffle=False))
    boxed = np.flatnonzero(images.boxed)
    assert [batch[:2] for batch in batches] == boxed.reshape(-1, 2).tolist()


def test_infinite_sampler():
    images = Images(4, 100)
    endless = iter(make(images, infinite=True, batch_size=4))
    batches = [next(endless) for _ in range(5)]
    epochs = [batch for epoch in range(3) for batch in make(images, batch_size=4, epoch=epoch)]
    assert batches == epochs[:5]


@pytest.mark.parametrize('num_boxed', [0, 5, True, 2.0])
def test_num_boxed_out_of_range(num_boxed):
    with pytest.raises(ValueError, match=f'num_boxed .* 1 to .* 4, got {num_boxed!r}'):
        make(Images(20, 20), num_boxed=num_boxed)


def test_deprecated_name_of_num_boxed():
    images = Images(20, 100)
    with pytest.warns(DeprecationWarning, match='num_boxed='):
        old = make(images, boxed=2)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert list(old) == list(make(images, num_boxed=2))
    for options in (dict(boxed=2, num_boxed=2), dict(boxed=None)):
        with pytest.raises(ValueError, match=f'num_boxed={options.get("num_boxed")}'):
            make(images, **options)


@pytest.mark.parametrize(
    'boxed, others, message',
    [
        (0, 20, '0 images with boxes'),
        (3, 20, '3 images with boxes'),
        (20, 5, '5 images with image labels'),
    ],
)
def test_too_few_images(boxed, others, message):
    with pytest.raises(ValueError, match=f'{message}.*2 processes'):
        make(Images(boxed, others), world=2)
