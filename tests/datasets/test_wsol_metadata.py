"""Reading the text files of the WSOL evaluation."""

import numpy as np
import pytest

from mmgwap.datasets.wsol_metadata import read_wsol_metadata

FILES = {
    'image_ids.txt': 'b/2.jpg\na/1.jpg\n',
    'class_labels.txt': 'a/1.jpg,4\nb/2.jpg,0\n',
    'image_sizes.txt': 'b/2.jpg,500,375\na/1.jpg,60,40\n',
    'localization.txt': 'a/1.jpg,1,2,30,40\nb/2.jpg,0.5,0,9,9\na/1.jpg,5,5,5,5\n',
    'masks.txt': 'a/1.jpg,m/1_0.png,m/1_i.png\na/1.jpg,m/1_1.png,\nb/2.jpg,m/2.png,\n',
    'classes.txt': 'cat\nbird, flying\ndog\nox\nhen\n',
}


def read(root, **changes):
    files = dict(FILES, **{f'{name}.txt': text for name, text in changes.items()})
    for name, text in files.items():
        if text is not None:
            (root / name).write_text(text)
    return read_wsol_metadata(str(root))


def test_everything(tmp_path):
    found = read(tmp_path)
    assert list(found.labels.items()) == [('b/2.jpg', 0), ('a/1.jpg', 4)]
    assert found.sizes == {'a/1.jpg': (60, 40), 'b/2.jpg': (500, 375)}
    assert found.boxes['a/1.jpg'].tolist() == [[1, 2, 30, 40], [5, 5, 5, 5]]
    assert found.boxes['b/2.jpg'].tolist() == [[0.5, 0, 9, 9]]
    assert found.boxes['b/2.jpg'].dtype == np.float64
    assert found.masks['a/1.jpg'] == (['m/1_0.png', 'm/1_1.png'], 'm/1_i.png')
    assert found.masks['b/2.jpg'] == (['m/2.png'], None)
    assert found.classes == ('cat', 'bird, flying', 'dog', 'ox', 'hen')


def test_a_training_split(tmp_path):
    rest = dict.fromkeys(('image_sizes', 'localization', 'masks', 'classes'))
    found = read(tmp_path, **rest)
    assert found.labels == {'b/2.jpg': 0, 'a/1.jpg': 4}
    assert found[1:] == ({}, {}, {}, ())


def test_masks_in_place_of_boxes(tmp_path):
    found = read(tmp_path, localization=FILES['masks.txt'], masks=None)
    assert not found.boxes
    assert found.masks['a/1.jpg'].ignore == 'm/1_i.png'


def test_blank_lines_and_spaces(tmp_path):
    found = read(tmp_path, class_labels='\r\n a/1.jpg , 4 \r\nb/2.jpg,0\r\n\n')
    assert found.labels == {'b/2.jpg': 0, 'a/1.jpg': 4}


def test_an_ignore_mask_may_come_with_any_of_the_masks(tmp_path):
    found = read(tmp_path, masks='a/1.jpg,m.png,\na/1.jpg,n.png,j.png\na/1.jpg,o.png,j.png\n')
    assert found.masks['a/1.jpg'] == (['m.png', 'n.png', 'o.png'], 'j.png')


@pytest.mark.parametrize('name', ['image_ids', 'class_labels'])
def test_files_that_are_needed(tmp_path, name):
    with pytest.raises(
        FileNotFoundError, match=f'{name}.txt: missing; .*image_ids.txt and class_labels.txt'
    ):
        read(tmp_path, **{name: None})


@pytest.mark.parametrize(
    'name, text, told',
    [
        ('class_labels', 'a/1.jpg,4\n', 'no class for 1 images.*b/2.jpg'),
        ('class_labels', 'a/1.jpg,4\na/1.jpg,4\n', 'line 2: a/1.jpg is listed twice'),
        ('class_labels', 'a/1.jpg,x\n', 'line 1: must have numbers, got x'),
        ('class_labels', 'a/1.jpg,-1\n', 'line 1: must .* from 0 to 999999, .*-1'),
        ('class_labels', 'a/1.jpg,10000000000\n', 'line 1: must .* to 999999'),
        ('class_labels', f'a/1.jpg,{10**30}\n', 'line 1: must .* to 999999'),
        ('image_sizes', 'a/1.jpg,0,4\n', 'line 1: must .* from 1 to .* 0,4'),
        ('class_labels', 'a/1.jpg\n', "line 1: must have 2 fields, got 'a/1.jpg'"),
        ('class_labels', '\na/9.jpg,1\n', 'line 2: a/9.jpg is not in image_ids'),
        ('image_sizes', 'a/1.jpg,60\n', 'line 1: must have 3 fields'),
        ('image_sizes', 'a/1.jpg,60,4.5\n', 'line 1: must have numbers'),
        ('localization', 'a/1.jpg,1,2,3\n', 'line 1: must have 3 or 5 fields'),
        ('localization', 'a/1.jpg,1,2,3,y\n', 'line 1: must have numbers'),
        ('localization', 'a/1.jpg,9,2,3,4\n', 'line 1: 9,2,3,4 is not a box'),
        ('localization', 'a/1.jpg,1,9,3,4\n', 'line 1: 1,9,3,4 is not a box'),
        ('localization', 'a/1.jpg,1,2,nan,4\n', 'line 1: .* is not a box'),
        ('localization', 'a/1.jpg,1,2,1e308,4\n', 'line 1: .* is not a box'),
        ('localization', 'c.jpg,1,2,3,4\n', 'line 1: c.jpg is not in image_ids'),
        (
            'masks',
            'a/1.jpg,m.png,i.png\na/1.jpg,n.png,j.png\n',
            'line 2: ignore mask j.png differs from i.png',
        ),
        ('masks', 'a/1.jpg,,i.png\n', 'line 1: must have the path of a mask'),
        ('image_ids', 'b/2.jpg\na/1.jpg\nb/2.jpg\n', 'line 3: b/2.jpg is listed twice'),
    ],
)
def test_faulty_lines_are_named(tmp_path, name, text, told):
    with pytest.raises(ValueError, match=f'{name}.txt.*{told}'):
        read(tmp_path, **{name: text})
