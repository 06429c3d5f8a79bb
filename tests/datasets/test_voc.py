"""Faulty XML files, image sets and image suffixes in VOC layout."""

import pytest

from mmgwap.datasets import CheckedXMLDataset

from .helpers import CLASSES, GOOD, infos, write_images

XML = """<annotation><size><width>64</width><height>48</height></size>
<object><name>cat</name><difficult>0</difficult><bndbox><xmin>11</xmin>
<ymin>11</ymin><xmax>41</xmax><ymax>31</ymax></bndbox></object></annotation>"""
BOX = '<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>4</ymax></bndbox>'
ENTITIES = ''.join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(12))
BILLION_LAUGHS = f'<!DOCTYPE a [<!ENTITY l0 "lol">{ENTITIES}]><annotation>&l12;</annotation>'


def load(root, xml=XML, lines='0\n', images=1, **options):
    write_images(root / 'JPEGImages', images)
    (root / 'JPEGImages').mkdir(exist_ok=True)
    (root / 'Annotations').mkdir(exist_ok=True)
    for path, data in (('Annotations/0.xml', xml), ('voc.txt', lines)):
        (root / path).write_bytes(data if isinstance(data, bytes) else data.encode())
    return CheckedXMLDataset(
        data_root=str(root),
        ann_file='voc.txt',
        metainfo=CLASSES,
        data_prefix=dict(sub_data_root=''),
        serialize_data=False,
        **options,
    )


def boxes_of(dataset):
    return [[obj['bbox'] for obj in info['instances']] for info in infos(dataset)]


REPLACED = [
    ('<width>64</width>', '', ': <size> must have one <width>, got none'),
    ('<width>64</width>', '<width>64</width>' * 2, ': <size> must have one <width>, got 2'),
    ('<width>64</width>', '<width>wide</width>', ": <width> must be a number, got 'wide'"),
    ('>64<', '>-64<', ': <size> .* got -64 x 48'),
    ('>64<', '>1e308<', ': <size> .* got 1e.308 x 48'),
    ('<name>cat</name>', '', ', object 1: <object> must have one <name>, got none'),
    ('<name>cat</name>', '<name/>', ', object 1: <name> is empty'),
    ('<name>cat</name>', '<name>a</name><name>b</name>', ', object 1: .* one <name>, got 2'),
    *(('>0<', f'>{bad}<', f", object 1: <difficult> .* '{bad}'") for bad in ('no', '2', '0.5')),
    ('bndbox', 'box', ', object 1: .* one <bndbox>, got none'),
    ('</name>', f'</name>{BOX}', ', object 1: .* one <bndbox>, got 2'),
    ('<xmax>41</xmax>', '', ', object 1: <bndbox> must have one <xmax>, got none'),
    ('>41<', '>41px<', ", object 1: <xmax> must be a number, got '41px'"),
    ('cat', 'bird', ": category 'bird' is not among"),
]


@pytest.mark.parametrize(
    'xml, message',
    [
        ('', ': invalid XML: no element found'),
        (XML[:-20], ': invalid XML'),
        ('<?xml version="1.0" encoding="klingon"?>' + XML, ': invalid XML'),
        ('<?xml version="1.0" encoding="utf-7"?>' + XML, ': invalid XML'),
        (BILLION_LAUGHS, ': invalid XML: limit on input amplification'),
        ('<annotation>&no;</annotation>', ': invalid XML: undefined entity'),
        *((XML.replace(old, new), message) for old, new, message in REPLACED),
    ],
)
def test_name_the_fault(xml, message, tmp_path):
    with pytest.raises(ValueError, match=f'^{tmp_path}/Annotations/0.xml{message}') as caught:
        load(tmp_path, xml)
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 600


def test_deep_nesting(tmp_path):
    deep = '<a>' * 10**5 + '</a>' * 10**5
    assert boxes_of(load(tmp_path, XML.replace('<object>', f'<object>{deep}'))) == [[GOOD]]


@pytest.mark.parametrize('size', [None, ('0', '0'), ('64.0', ' 48\n')])
def test_read_a_missing_size_from_the_image(size, tmp_path):
    text = '<size><width>{}</width><height>{}</height></size>'.format(*size) if size else ''
    end = XML.index('</size>') + len('</size>')
    (info,) = infos(load(tmp_path, '<annotation>' + text + XML[end:]))
    assert (info['width'], info['height']) == (64, 48)
    assert [obj['bbox'] for obj in info['instances']] == [GOOD]


@pytest.mark.parametrize('content', [b'', b'text', None])
def test_missing_size_of_an_unreadable_image(content, tmp_path):
    xml = XML.replace('>64<', '>0<')
    image = tmp_path / 'JPEGImages' / '0.jpg'
    image.parent.mkdir()
    if content is None:
        with pytest.raises(FileNotFoundError, match=str(image)):
            load(tmp_path, xml, images=0)
        return
    image.write_bytes(content)
    message = f'^{tmp_path}/Annotations/0.xml: has no size, and {image}'
    with pytest.raises(ValueError, match=message):
        load(tmp_path, xml, images=0)
    (info,) = infos(load(tmp_path, xml, images=0, on_bad_image='skip'))
    assert (info['width'], info['height']) == (0, 0)
    assert [obj['bbox'] for obj in info['instances']] == [GOOD]


@pytest.mark.parametrize('lines', ['0', '\n 0\t\r\n\r\n\n', '\ufeff0\n'])
def test_image_sets_with_blanks(lines, tmp_path):
    assert load(tmp_path, lines=lines).get_data_info(0)['img_id'] == '0'


@pytest.mark.parametrize(
    'lines, error, message',
    [
        ('0\n\n0\n', ValueError, 'voc.txt, line 3: 0 '),
        (b'0\n\xff\xfe', ValueError, 'voc.txt: not UTF-8 text'),
        ('0\n1\n', FileNotFoundError, "Annotations/1.xml: missing.* '1'"),
        ('', ValueError, 'voc.txt: no image left'),
    ],
)
def test_name_the_fault_of_an_image_set(lines, error, message, tmp_path):
    with pytest.raises(error, match=f'^{tmp_path}/{message}'):
        load(tmp_path, lines=lines)


@pytest.mark.parametrize(
    'files, suffix',
    [
        (['0.jpg'], '.jpg'),
        (['0.Png', '0.txt'], '.Png'),
        (['0.png', '0.jpg'], '.jpg'),
        (['0.JPG', '0.jpg'], '.jpg'),
        (['0.bmp', '0.png'], '.png'),
        (['00.png', '0.gif'], '.jpg'),
        ([], '.jpg'),
    ],
)
def test_image_suffixes(files, suffix, tmp_path):
    folder = tmp_path / 'JPEGImages'
    folder.mkdir()
    for file in files:
        (folder / file).touch()
    (info,) = infos(load(tmp_path, images=0))
    assert info['img_path'] == f'{folder}/0{suffix}'


def test_ids_with_folders(tmp_path):
    load(tmp_path)
    for folder, suffix in (('Annotations', '.xml'), ('JPEGImages', '.jpg')):
        (tmp_path / folder / 'a').mkdir()
        (tmp_path / folder / f'0{suffix}').rename(tmp_path / folder / 'a' / f'b c{suffix}')
    (info,) = infos(load(tmp_path, lines='a/b c\n', images=0))
    assert info['img_path'] == f'{tmp_path}/JPEGImages/a/b c.jpg'


@pytest.mark.parametrize(
    'low, high, kept',
    [(64, 66, [[63, 10, 65, 30]]), (65, 70, []), (-5, 1, []), (-5, 2, [[-6, 10, 1, 30]])],
)
def test_count_pixels_from_1(low, high, kept, tmp_path):
    """Pixel 64 is the last of an image of 64 pixels."""
    xml = XML.replace('<xmin>11<', f'<xmin>{low}<').replace('<xmax>41<', f'<xmax>{high}<')
    assert boxes_of(load(tmp_path, xml)) == [kept]
