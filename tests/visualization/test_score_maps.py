import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.figure import Figure
from mmcv import imread

from mmgwap.visualization import Tile, draw_map, overlay, save_overlay, save_sheet


def picture(height=20, width=30):
    return np.random.RandomState(0).randint(0, 256, (height, width, 3)).astype(np.uint8)


def test_overlay_blends():
    image = picture()
    score_map = np.zeros((20, 30))
    score_map[3, 4] = 7.0
    assert np.array_equal(overlay(image, score_map, alpha=0.0), image)
    whole = overlay(image, score_map, alpha=1.0)
    for place, value in (((3, 4), 1.0), ((0, 0), 0.0)):
        colour = np.rint(255 * np.array(colormaps['inferno'](value)[:3]))
        assert np.array_equal(whole[place], colour)
    half = overlay(image, score_map, alpha=0.5).astype(float)
    assert np.abs(half - (image / 2 + whole / 2)).max() <= 1


def test_sizes_of_image_and_map_differ():
    with pytest.raises(ValueError, match=r'\(20, 30\).*\(30, 20\)'):
        overlay(picture(), np.zeros((30, 20)))


def test_boxes_are_drawn_at_the_borders_of_their_pixels():
    axes = Figure().subplots()
    draw_map(
        axes,
        Tile(
            picture(),
            'a title',
            np.eye(20, 30),
            np.array([[2, 3, 10, 12]]),
            np.array([[0, 0, 5, 5]]),
        ),
    )
    assert axes.get_title() == 'a title'
    true, found = axes.patches
    assert true.get_bbox().extents.tolist() == [-0.5, -0.5, 4.5, 4.5]
    assert found.get_bbox().extents.tolist() == [1.5, 2.5, 9.5, 11.5]
    assert true.get_edgecolor() != found.get_edgecolor()


@pytest.mark.parametrize('score_map', [np.eye(20, 30), np.full((20, 30), 3.0)])
def test_saved_pictures(tmp_path, score_map):
    tile = Tile(picture(), 'one', score_map)
    save_overlay(tile, tmp_path / 'one.png')
    save_sheet([tile, tile._replace(score_map=None), tile], tmp_path / 'sheet.png', columns=2)
    one, sheet = (imread(str(tmp_path / name)) for name in ('one.png', 'sheet.png'))
    assert one.std() > 5 and sheet.std() > 5
    # Two columns, two lines of square places and a note above.
    assert abs(sheet.shape[1] - 484) <= 1 and abs(sheet.shape[0] - 583) <= 1


def test_an_empty_sheet():
    with pytest.raises(ValueError, match='tiles.*empty'):
        save_sheet([], 'nowhere.png')
