import pytest
import torch

from mmgwap.localization import resize_maps


def test_maxima_keep_their_position():
    # An image of 60 x 90, resized to 40 x 60, padded to 48 x 64, stride 4.
    maps = torch.zeros(3, 12, 16)
    positions = [(0, 0), (9, 14), (5, 7)]
    for i, (row, column) in enumerate(positions):
        maps[i, row, column] = 1
    on_image = resize_maps(maps, (48, 64), (40, 60), (60, 90))
    assert on_image.shape == (3, 60, 90)
    for resized, (row, column) in zip(on_image, positions):
        peak = torch.nonzero(resized == resized.max()).float().mean(dim=0)
        expected = torch.tensor([row + 0.5, column + 0.5]) * 4 * 1.5 - 0.5
        # Values at a border are constant up to the edge.
        assert (peak - expected).abs().max() < (1.5 if (row, column) == (5, 7) else 4)
        # Bilinear upsampling by 4 keeps (7/8)**2 of a single peak, by 1.5 a little less.
        assert resized.max() > 0.7


def test_removes_padding():
    maps = torch.zeros(1, 12, 16)
    maps[0, 11, 15] = 1  # in the padding
    assert resize_maps(maps, (48, 64), (40, 56), (40, 56)).max() == 0


def test_constant_map_stays_constant():
    maps = torch.full((2, 3, 5), 0.7)
    on_image = resize_maps(maps, (33, 47), (31, 40), (62, 81))
    assert torch.equal(on_image, torch.full((2, 62, 81), 0.7))


def test_same_size_is_the_identity():
    maps = torch.rand(2, 6, 7)
    assert torch.equal(resize_maps(maps, (6, 7), (6, 7), (6, 7)), maps)


def test_refuses_an_image_larger_than_the_input():
    with pytest.raises(ValueError, match=r'\(7, 7\).*\(6, 7\)'):
        resize_maps(torch.zeros(1, 2, 2), (6, 7), (7, 7), (7, 7))


@pytest.mark.parametrize('direction', ['horizontal', 'vertical', 'diagonal'])
def test_undoes_the_flip(direction):
    image = torch.rand(1, 8, 12)
    axes = dict(horizontal=[2], vertical=[1], diagonal=[1, 2])[direction]
    padded = torch.zeros(1, 16, 16)
    padded[:, :8, :12] = image.flip(axes)
    back = resize_maps(padded, (16, 16), (8, 12), (8, 12), direction)
    assert torch.equal(back, image)


def test_refuses_an_unknown_flip():
    with pytest.raises(ValueError, match="'left'"):
        resize_maps(torch.zeros(1, 2, 2), (2, 2), (2, 2), (2, 2), 'left')


def test_no_maps():
    assert resize_maps(torch.zeros(0, 2, 2), (8, 8), (8, 8), (4, 6)).shape == (0, 4, 6)
