"""Annotation files with faults: each is named, or put right and told."""

import json
import math

import pytest
from mmdet.utils import register_all_modules

from mmgwap.datasets import CheckedCocoDataset, CheckedXMLDataset, ImageLabelDataset
from mmgwap.datasets.coco import check_coco

from .test_checked import CLASSES, GOOD, write_images

register_all_modules()


def coco(**changes):
    """Two images of 64 x 48, a cat and two dogs."""
    boxes = [[10, 10, 30, 20], [0.5, 1, 5, 6], [1, 2, 3, 4]]
    content = dict(
        images=[dict(id=i, file_name=f'{i}.jpg', width=64, height=48) for i in (7, 8)],
        annotations=[
            dict(id=i, image_id=image, category_id=category, bbox=box, area=20.0, iscrowd=0)
            for i, (image, category, box) in enumerate(zip((7, 7, 8), (5, 6, 6), boxes))
        ],
        categories=[dict(id=5, name='cat'), dict(id=6, name='dog')],
    )
    return dict(content, **changes)


def changed(place, number, **changes):
    """One entry with other values; None takes a key away."""
    content = coco()
    entry = content[place][number]
    for key, value in changes.items():
        entry[key] = value
        if value is None:
            del entry[key]
    return content


def load_coco(root, content, **options):
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (root / 'coco.json').write_bytes(data)
    return CheckedCocoDataset(
        **dict(
            dict(
                data_root=str(root),
                ann_file='coco.json',
                metainfo=CLASSES,
                data_prefix=dict(img='img/'),
                serialize_data=False,
            ),
            **options,
        )
    )


def refused(function, *args, error=ValueError, **options):
    """The message, which has to be of one line."""
    with pytest.raises(error) as caught:
        function(*args, **options)
    message = str(caught.value)
    assert '\n' not in message and len(message) < 600
    return message


NUMBER = 'must be four numbers, x, y, width and height'
TEXT = 'must be a non-empty string'
ID = 'must be an int or a string'
AND_MISSING = ', but is missing'


@pytest.mark.parametrize(
    'content, told',
    [
        (b'', ': invalid JSON: Expecting value: line 1 column 1'),
        (json.dumps(coco()).encode()[:-50], ': invalid JSON: '),
        (json.dumps(coco()).replace('cat', 'chät').encode('latin-1'), ': not UTF-8 text: '),
        (json.dumps(coco()).encode('utf-16'), ': not UTF-8 text: '),
        (b'[' * 10**6, ': invalid JSON: maximum recursion depth'),
        (b'{"images": ' + b'9' * 5000 + b'}', ': invalid JSON: Exceeds the limit'),
        (b'{"images": [], "images": []}', ": invalid JSON: an object has the key 'images' twice"),
        ([], ': must be a JSON object with images, categories and annotations, got list'),
        ({}, ': images must be a list, but is missing'),
        (coco(images={}), ': images must be a list, got {}'),
        (coco(categories=None), ': categories must be a list, got None'),
        (coco(annotations='no'), ": annotations must be a list, got 'no'"),
        (coco(images=[5]), ', image number 0: must be an object, got 5'),
        (coco(annotations=[[]]), ', annotation number 0: must be an object'),
        (changed('images', 1, id=None), f', image number 1: id {ID}{AND_MISSING}'),
        (changed('images', 1, id=2.0), f', image number 1: id {ID}, got 2.0'),
        (changed('images', 1, id=True), f', image number 1: id {ID}, got True'),
        (changed('images', 1, id=[1]), f', image number 1: id {ID}, got [1]'),
        (changed('images', 1, id=7), ', image 7: 2 entries have this id'),
        (changed('images', 1, id='8'), ', image: the ids must have one type, got int and str'),
        (changed('images', 1, file_name=None), f', image 8: file_name {TEXT}{AND_MISSING}'),
        (changed('images', 1, file_name=''), f', image 8: file_name {TEXT}'),
        (changed('images', 1, file_name=3), f', image 8: file_name {TEXT}, got 3'),
        (
            changed('images', 1, width=None),
            ', image 8: width must be a number of pixels above 0, but is missing',
        ),
        *(
            (
                changed('images', 0, height=bad),
                f', image 7: height must be a number of pixels above 0, got {told}',
            )
            for bad, told in (
                (0, '0'),
                (-48, '-48'),
                ('48', "'48'"),
                (math.nan, 'nan'),
                (1e308, '1e+308'),
                (True, 'True'),
                ([48], '[48]'),
            )
        ),
        (changed('categories', 0, id=None), ', category number 0: id'),
        (changed('categories', 0, id=6), ', category 6: 2 entries have this id'),
        (changed('categories', 0, name='dog'), ", category 'dog': 2 entries have this name"),
        (changed('categories', 0, name=None), f', category 5: name {TEXT}'),
        (changed('annotations', 2, id=None), ', annotation number 2: id'),
        (changed('annotations', 2, id=1), ', annotation 1: 2 entries have this id'),
        (changed('annotations', 2, image_id=None), f', annotation 2: image_id {ID}{AND_MISSING}'),
        (changed('annotations', 2, image_id=7.0), ', annotation 2: image_id'),
        (changed('annotations', 2, category_id=None), ', annotation 2: category_'),
        (changed('annotations', 2, category_id={}), ', annotation 2: category_id'),
        (
            changed('annotations', 2, category_id=9),
            ", annotation 2: category 'id 9' is not among the classes",
        ),
        (changed('annotations', 2, bbox=None), f', annotation 2: bbox {NUMBER}{AND_MISSING}'),
        *(
            (
                changed('annotations', 2, bbox=bad),
                f', annotation 2: bbox {NUMBER}, got {bad!r}'[:80],
            )
            for bad in (
                [1, 2, 3],
                [1, 2, 3, 4, 5],
                [1, 2, 3, '4'],
                [1, 2, 3, True],
                [1, 2, 3, [4]],
                '1234',
                {},
                5,
                [1, 2, 3, 10**400],
            )
        ),
        (
            changed('annotations', 1, area='9'),
            ", annotation 1: area must be a number of pixels, got '9'",
        ),
        (changed('annotations', 1, area=False), ', annotation 1: area must be a'),
        (changed('annotations', 1, iscrowd='0'), ", annotation 1: iscrowd must be 0 or 1, got '0'"),
        (changed('annotations', 1, iscrowd=2), ', annotation 1: iscrowd must be'),
        (changed('annotations', 1, ignore='no'), ', annotation 1: ignore must be'),
        (
            changed('annotations', 1, segmentation=5),
            ', annotation 1: segmentation must be polygons or an RLE, got 5',
        ),
        (
            coco(images=[dict(id='7', file_name='7.jpg', width=64, height=48)]),
            ': 3 of 3 annotations belong to no image of the file, such as '
            "annotation 0 of image 7; the images have ids such as '7'",
        ),
    ],
)
def test_a_faulty_coco_file_is_named(content, told, tmp_path):
    message = refused(load_coco, tmp_path, content)
    assert message.startswith(f'{tmp_path}/coco.json{told}')


def test_a_missing_coco_file_is_named(tmp_path):
    message = refused(
        CheckedCocoDataset,
        ann_file=str(tmp_path / 'no.json'),
        metainfo=CLASSES,
        error=FileNotFoundError,
    )
    assert str(tmp_path / 'no.json') in message


def boxes_of(dataset):
    return [
        [one['bbox'] for one in dataset.get_data_info(i)['instances']] for i in range(len(dataset))
    ]


BOXES = [[[10, 10, 40, 30], [0.5, 1, 5.5, 7]], [[1, 2, 4, 6]]]


@pytest.mark.parametrize(
    'content',
    [
        coco(),
        changed('annotations', 0, iscrowd=False, ignore=0),
        changed('annotations', 0, segmentation=[[1, 2, 3, 4, 5, 6]]),
        b'\xef\xbb\xbf' + json.dumps(coco()).encode(),
        coco(info='what you like', licenses=5),
    ],
)
def test_what_may_differ_gives_no_warning(content, tmp_path, warnings):
    assert boxes_of(load_coco(tmp_path, content)) == BOXES
    assert warnings == []


def test_ids_may_be_text(tmp_path, warnings):
    content = json.loads(json.dumps(coco()))
    for place in ('images', 'annotations', 'categories'):
        for entry in content[place]:
            for key in ('id', 'image_id', 'category_id'):
                if key in entry:
                    entry[key] = f'x{entry[key]}'
    dataset = load_coco(tmp_path, content)
    assert boxes_of(dataset) == BOXES
    assert dataset.get_data_info(1)['img_id'] == 'x8'
    assert warnings == []


def test_missing_areas_are_those_of_the_boxes(tmp_path, warnings):
    content = coco()
    for one in content['annotations'][1:]:
        del one['area']
    content['annotations'][2]['bbox'] = [1, 2, 3, 0]  # without area after all
    assert boxes_of(load_coco(tmp_path, content)) == [BOXES[0], []]
    assert len(warnings) == 2
    check_coco(content, 'coco.json')
    assert [one['area'] for one in content['annotations']] == [20, 30, 0]
    assert 'coco.json: 2 annotations have no area, such as 1;' in warnings[0]
    assert 'CocoMetric needs it' in warnings[0]
    assert 'dropped 1 boxes without area' in warnings[1]


def test_a_missing_iscrowd_is_that_of_a_single_object(tmp_path, warnings):
    content = changed('annotations', 0, iscrowd=None)
    assert boxes_of(load_coco(tmp_path, content)) == BOXES
    assert len(warnings) == 1
    assert (
        'coco.json: 1 annotations have no iscrowd, such as 0;' in warnings[0]
        and 'CocoMetric needs it' in warnings[0]
    )
    check_coco(content, 'coco.json')
    assert content['annotations'][0]['iscrowd'] == 0


def test_annotations_of_other_images_are_told(tmp_path, warnings):
    content = changed('annotations', 1, image_id=9)
    assert boxes_of(load_coco(tmp_path, content)) == [BOXES[0][:1], BOXES[1]]
    assert len(warnings) == 1 and warnings[0].endswith(
        'coco.json: 1 of 3 annotations belong to no image of the file, '
        'such as annotation 1 of image 9; they are left out'
    )


def test_images_of_the_same_file_are_told(tmp_path, warnings):
    content = changed('images', 1, file_name='7.jpg')
    assert boxes_of(load_coco(tmp_path, content)) == BOXES
    assert len(warnings) == 1
    assert "1 images repeat a file_name, such as '7.jpg'; each" in warnings[0]


def test_huge_boxes_are_dropped(tmp_path, warnings):
    content = coco()
    for one, bbox in zip(
        content['annotations'], ([-1e30, 0, 2e30, 20], [1e308, 1, 1e308, 5], [0, 0, 2**25, 9])
    ):
        one['bbox'] = bbox
    assert boxes_of(load_coco(tmp_path, content)) == [[], []]
    assert len(warnings) == 1 and 'dropped 3 boxes' in warnings[0]


def test_a_side_just_below_a_pixel_is_dropped_with_a_warning(tmp_path, warnings):
    """Which mmdet drops, and x + w - x may round up to a pixel."""
    below = math.nextafter(1, 0)
    content = changed('annotations', 2, bbox=[3, 3, below, 5])
    assert 3 + below - 3 == 1
    assert boxes_of(load_coco(tmp_path, content)) == [BOXES[0], []]
    assert len(warnings) == 1 and 'dropped 1 boxes' in warnings[0]


def test_images_without_annotations_can_be_tested(tmp_path):
    content = coco()
    del content['annotations']
    dataset = load_coco(tmp_path, content, test_mode=True)
    assert boxes_of(dataset) == [[], []]
    message = refused(load_coco, tmp_path, content)
    assert message.endswith('annotations must be a list, but is missing')


def test_an_unknown_category_may_be_ignored(tmp_path):
    content = changed('annotations', 2, category_id=9)
    dataset = load_coco(tmp_path, content, unlisted_categories='ignore')
    assert boxes_of(dataset) == [BOXES[0], []]


@pytest.mark.parametrize(
    'classes, told',
    [
        (('cat', 'cat', 'dog'), "lists 'cat' 2 times"),
        ('cat', "a list of names, got 'cat'"),
        (('cat', 5), 'a list of names'),
        ((), 'a list of names, got ()'),
        (7, 'a list of names, got 7'),
    ],
)
@pytest.mark.parametrize('kind', [load_coco, None])
def test_classes_are_names(kind, classes, told, tmp_path):
    metainfo = dict(classes=classes)
    if kind:
        message = refused(kind, tmp_path, coco(), metainfo=metainfo)
        assert message.startswith('CheckedCocoDataset')
    else:
        message = refused(load_voc, tmp_path, metainfo=metainfo)
        assert message.startswith('CheckedXMLDataset')
    assert told in message


def test_too_many_boxes_on_an_image_are_refused(tmp_path):
    content = coco()
    content['annotations'] = [
        dict(id=i, image_id=8, category_id=5, area=9, bbox=[1, 2, 3, 4]) for i in range(10001)
    ]
    assert ', image 8: has 10001 boxes, more than max_boxes_per_image=10000' in refused(
        load_coco, tmp_path, content
    )
    content['annotations'].pop()
    assert len(boxes_of(load_coco(tmp_path, content))[1]) == 10000
    assert 'has 10000 boxes, more than max_boxes_per_image=9999' in refused(
        load_coco, tmp_path, content, max_boxes_per_image=9999
    )


XML = """<annotation><size><width>64</width><height>48</height></size>
<object><name>cat</name><difficult>0</difficult><bndbox><xmin>11</xmin>
<ymin>11</ymin><xmax>41</xmax><ymax>31</ymax></bndbox></object></annotation>"""


def load_voc(root, xml=XML, lines='0\n', images=1, **options):
    write_images(root / 'JPEGImages', images)
    (root / 'Annotations').mkdir(exist_ok=True)
    (root / 'Annotations' / '0.xml').write_bytes(xml if isinstance(xml, bytes) else xml.encode())
    (root / 'voc.txt').write_bytes(lines if isinstance(lines, bytes) else lines.encode())
    return CheckedXMLDataset(
        **dict(
            dict(
                data_root=str(root),
                ann_file='voc.txt',
                metainfo=CLASSES,
                data_prefix=dict(sub_data_root=''),
                serialize_data=False,
            ),
            **options,
        )
    )


LAUGHS = (
    '<!DOCTYPE a [<!ENTITY l0 "lol">'
    + ''.join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(12))
    + ']><annotation>&l12;</annotation>'
)
BOX = (
    '<bndbox>'
    + ''.join(
        f'<{side}>{place}</{side}>'
        for side, place in (('xmin', 1), ('ymin', 1), ('xmax', 4), ('ymax', 4))
    )
    + '</bndbox>'
)


@pytest.mark.parametrize(
    'xml, told',
    [
        ('', ': invalid XML: no element found'),
        ('{"images": []}', ': invalid XML: '),
        (XML[:-20], ': invalid XML: '),
        (XML.replace('cat', 'chät').encode('latin-1'), ': invalid XML: '),
        ('<?xml version="1.0" encoding="klingon"?>' + XML, ': invalid XML: '),
        ('<?xml version="1.0" encoding="utf-7"?>' + XML, ': invalid XML: '),
        (LAUGHS, ': invalid XML: limit on input amplification'),
        ('<annotation>&no;</annotation>', ': invalid XML: undefined entity'),
        *(
            (XML.replace('<width>64</width>', bad), f': {told}')
            for bad, told in (
                ('', '<size> must have one <width>, got none'),
                ('<width>64</width><width>64</width>', '<size> must have one <width>, got 2'),
                ('<width/>', '<width> must be a number, got None'),
                ('<width>wide</width>', "<width> must be a number, got 'wide'"),
                ('<width>-64</width>', '<size> must be 1 pixel or more, got -64 x 48'),
                ('<width>1e308</width>', '<size> must be 1 pixel or more'),
                ('<width>nan</width>', '<size> must be 1 pixel or more, got nan'),
            )
        ),
        *(
            (XML.replace('<name>cat</name>', bad), f', object 1: {told}')
            for bad, told in (
                ('', '<object> must have one <name>, got none'),
                ('<name/>', '<name> is empty'),
                ('<name>cat</name><name>dog</name>', '<object> must have one <name>, got 2'),
            )
        ),
        *(
            (XML.replace('>0<', f'>{bad}<'), f', object 1: <difficult> must be 0 or 1, got {bad!r}')
            for bad in ('no', '2', '0.5', '-1')
        ),
        (
            XML.replace('<difficult>0</difficult>', '<difficult/>'),
            ', object 1: <difficult> must be 0 or 1, got None',
        ),
        (XML.replace('bndbox', 'box'), ', object 1: <object> must have one <bndbox>, got none'),
        (
            XML.replace('</name>', f'</name>{BOX}'),
            ', object 1: <object> must have one <bndbox>, got 2',
        ),
        *(
            (XML.replace('<xmax>41</xmax>', bad), f', object 1: {told}')
            for bad, told in (
                ('', '<bndbox> must have one <xmax>, got none'),
                ('<xmax/>', '<xmax> must be a number, got None'),
                ('<xmax>41px</xmax>', "<xmax> must be a number, got '41px'"),
                ('<xmax>41</xmax><xmax>4</xmax>', '<bndbox> must have one <xmax>, got 2'),
            )
        ),
        (XML.replace('cat', 'bird'), ": category 'bird' is not among"),
        (XML.replace('cat', 'ca'), ": category 'ca' is not among"),
    ],
)
def test_a_faulty_xml_file_is_named(xml, told, tmp_path):
    message = refused(load_voc, tmp_path, xml)
    assert message.startswith(f'{tmp_path}/Annotations/0.xml{told}')


def test_deep_nesting_does_no_harm(tmp_path):
    deep = '<a>' * 10**5 + '</a>' * 10**5
    dataset = load_voc(tmp_path, XML.replace('<object>', f'<object>{deep}'))
    assert boxes_of(dataset) == [[GOOD]]


def test_too_many_objects_are_refused(tmp_path):
    box = '<object><name>cat</name>' + BOX + '</object>'
    xml = XML.replace('</annotation>', box * 10000 + '</annotation>')
    assert refused(load_voc, tmp_path, xml).startswith(
        f'{tmp_path}/Annotations/0.xml: has 10001 boxes, more than'
    )
    load_voc(tmp_path, xml, max_boxes_per_image=10001)


@pytest.mark.parametrize(
    'size',
    [
        '',
        '<size><width>0</width><height>0</height></size>',
        '<size><width>64.0</width><height> 48\n</height></size>',
    ],
)
def test_a_size_that_is_missing_is_that_of_the_image(size, tmp_path):
    start, end = XML.index('<size>'), XML.index('</size>') + len('</size>')
    info = load_voc(tmp_path, XML[:start] + size + XML[end:]).get_data_info(0)
    assert (info['width'], info['height']) == (64, 48)
    assert [one['bbox'] for one in info['instances']] == [GOOD]


@pytest.mark.parametrize('damage', [b'', b'text', None])
def test_a_size_that_nothing_tells(damage, tmp_path):
    xml = XML.replace('<width>64</width>', '<width>0</width>')
    load_voc(tmp_path, xml)
    image = tmp_path / 'JPEGImages' / '0.jpg'
    options = dict(
        data_root=str(tmp_path),
        ann_file='voc.txt',
        metainfo=CLASSES,
        data_prefix=dict(sub_data_root=''),
    )
    if damage is None:
        image.unlink()
        message = refused(CheckedXMLDataset, **options, error=FileNotFoundError)
        assert str(image) in message
        return
    image.write_bytes(damage)
    message = refused(CheckedXMLDataset, **options)
    assert message.startswith(
        f'{tmp_path}/Annotations/0.xml: has no size, and {image} cannot be read: '
    )
    info = CheckedXMLDataset(**options, on_bad_image='skip').get_data_info(0)
    assert (info['width'], info['height']) == (0, 0)
    assert [one['bbox'] for one in info['instances']] == [GOOD]


@pytest.mark.parametrize('lines', ['0', '\n 0\t\r\n\r\n\n', '\ufeff0\n'])
def test_image_sets_may_have_blanks(lines, tmp_path):
    assert load_voc(tmp_path, lines=lines).get_data_info(0)['img_id'] == '0'


@pytest.mark.parametrize(
    'lines, error, told',
    [
        ('0\n\n0\n', ValueError, 'voc.txt, line 3: 0 is listed twice'),
        (b'0\n\xff\xfe', ValueError, 'voc.txt: not UTF-8 text'),
        ('0\n1\n', FileNotFoundError, 'Annotations/1.xml: missing; '),
        ('0 1\n', FileNotFoundError, 'Annotations/0 1.xml: missing; '),
        ('', ValueError, 'voc.txt: no image left to train on'),
    ],
)
def test_a_faulty_image_set_is_named(lines, error, told, tmp_path):
    message = refused(load_voc, tmp_path, lines=lines, error=error)
    assert message.startswith(f'{tmp_path}/{told}')


@pytest.mark.parametrize(
    'files, suffix',
    [
        (['0.jpg'], '.jpg'),
        (['0.png'], '.png'),
        (['0.JPG'], '.JPG'),
        (['0.jpeg'], '.jpeg'),
        (['0.Png', '0.txt'], '.Png'),
        (['0.png', '0.jpg'], '.jpg'),
        (['0.JPG', '0.jpg'], '.jpg'),
        (['0.bmp', '0.png'], '.png'),
        (['00.png', '0.gif'], '.jpg'),
        ([], '.jpg'),
    ],
)
def test_images_may_have_any_suffix(files, suffix, tmp_path):
    folder = tmp_path / 'JPEGImages'
    load_voc(tmp_path, images=1)
    data = (folder / '0.jpg').read_bytes()
    (folder / '0.jpg').unlink()
    for file in files:
        (folder / file).write_bytes(data)
    dataset = load_voc(tmp_path, images=0)
    assert dataset.get_data_info(0)['img_path'] == f'{folder}/0{suffix}'


def test_ids_may_have_folders(tmp_path):
    load_voc(tmp_path)
    for folder, suffix in (('Annotations', '.xml'), ('JPEGImages', '.jpg')):
        (tmp_path / folder / 'a').mkdir()
        (tmp_path / folder / f'0{suffix}').rename(tmp_path / folder / 'a' / f'b c{suffix}')
    dataset = load_voc(tmp_path, lines='a/b c\n', images=0)
    assert dataset.get_data_info(0)['img_path'] == (f'{tmp_path}/JPEGImages/a/b c.jpg')


@pytest.mark.parametrize(
    'low, high, kept',
    [(64, 66, [[63, 10, 65, 30]]), (65, 70, []), (-5, 1, []), (-5, 2, [[-6, 10, 1, 30]])],
)
def test_pixels_of_voc_are_counted_from_one(low, high, kept, tmp_path):
    """64 is the last of 64."""
    xml = XML.replace('<xmin>11<', f'<xmin>{low}<').replace('<xmax>41<', f'<xmax>{high}<')
    assert boxes_of(load_voc(tmp_path, xml)) == [kept]


@pytest.mark.parametrize(
    'lines, told',
    [
        ('0 1\n\n0 -1\n', 'cat.txt, line 3: 0 is listed twice'),
        ('0\n', "cat.txt, line 1: must have an id and 1, 0 or -1, got '0'"),
        ('0 yes\n', 'cat.txt, line 1: must have an id and 1, 0 or -1'),
    ],
)
def test_a_faulty_set_of_a_class_is_named(lines, told, tmp_path):
    (tmp_path / 'cat.txt').write_text(lines)
    (tmp_path / 'dog.txt').write_text('0 -1\n')
    message = refused(
        ImageLabelDataset,
        ann_file=str(tmp_path / '{}.txt'),
        format='voc',
        metainfo=CLASSES,
        data_prefix=dict(img='img'),
    )
    assert message.startswith(f'{tmp_path}/{told}')
