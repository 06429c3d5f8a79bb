"""The model index: an entry of each config, and numbers that were measured."""

import re
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config

REPO = Path(__file__).resolve().parents[1]
FOLDER = REPO / 'configs'
INDEX = yaml.safe_load((REPO / 'model-index.yml').read_text())
METAFILES = [yaml.safe_load((REPO / path).read_text()) for path in INDEX['Import']]
MODELS = [model for metafile in METAFILES for model in metafile['Models']]
COLLECTIONS = [one for metafile in METAFILES for one in metafile['Collections']]
MEASURED = {model['Name']: model for model in MODELS if 'Results' in model}
DATA = dict(
    coco='COCO 2017',
    VOCdevkit='VOC 2007',
    cards='Playing cards',
    digits='Digits in clutter',
    ILSVRC='ILSVRC CLS-LOC',
    CUB_200_2011='CUB-200-2011',
    OpenImages='OpenImages30k',
    **{'digits-single': 'Single digits in clutter'},
)
# By table: columns of the measures, and the configs of the rows, which begin
# with these cells.  An AP of 0.1 is 10 % in metafiles.
TABLES = {
    'README.md': (
        {'box AP': 'AP', 'box AP50': 'AP50'},
        100,
        {
            'rfcn_r18_digits-p10-boxes-only': ('10 %', 'boxes only'),
            'rfcn_r18_gwap_digits-p10': ('10 %', 'boxes + labels, GWAP'),
            'rfcn_r18_gap_digits-p10': ('10 %', 'boxes + labels, GAP'),
            'rfcn_r18_digits-all-boxes': ('all', 'all boxes'),
        },
    ),
    'docs/compare/cards.md': (
        {'mAP': 'mAP'},
        100,
        {
            'rfcn_r18_cards-p20-boxes-only': ('20 %', 'boxes only'),
            'rfcn_r18_gwap_cards-p20': ('20 %', 'boxes + labels, GWAP'),
            'rfcn_r18_gap_cards-p20': ('20 %', 'boxes + labels, GAP'),
            'rfcn_r18_cards-all-boxes': ('all', 'all boxes'),
        },
    ),
    'configs/lip/README.md': (
        {'box AP': 'AP', 'box AP50': 'AP50'},
        100,
        {'rfcn_r18_digits': ('ResNet-18',), 'rfcn_lip-r18_digits': ('LIP-ResNet-18',)},
    ),
    'configs/wsol/README.md': (
        {
            'Top 1 Accuracy': 'top-1',
            'MaxBoxAccV2': 'MaxBoxAccV2',
            'GT-known Localization': 'GT-known at 20 %',
            'PxAP': 'PxAP',
        },
        1,
        {
            'r18_gap_digits-single': ('GAP',),
            'r18_gmp_digits-single': ('GMP',),
            'r18_lse_digits-single': ('LSE',),
            'r18_ca-gwap_digits-single': ('GWAP, class-agnostic',),
            'r18_cs-gwap_digits-single': ('GWAP, class-specific',),
        },
    ),
}


def test_every_config_has_an_entry_and_every_entry_a_config():
    listed = [model['Config'] for model in MODELS]
    there = [
        path.relative_to(REPO).as_posix()
        for path in FOLDER.glob('[!_]*/*.py')
        if path.parent.name != 'own_data'
    ]
    assert sorted(listed) == sorted(there)
    for model in MODELS:
        assert model['Name'] == Path(model['Config']).stem
    for path, metafile in zip(INDEX['Import'], METAFILES):
        folders = {Path(model['Config']).parent for model in metafile['Models']}
        assert folders == {Path(path).parent}


def test_names_are_unique():
    for entries in (MODELS, COLLECTIONS):
        names = [one['Name'] for one in entries]
        assert len(set(names)) == len(names)


def test_collections():
    assert {model['In Collection'] for model in MODELS} == {one['Name'] for one in COLLECTIONS}
    for one in COLLECTIONS:
        assert set(one['Paper']) == {'URL', 'Title'}
        readme = (REPO / one['README']).read_text()
        assert one['Paper']['URL'] in readme
        title = re.sub(r'\s+', ' ', readme)
        assert one['Paper']['Title'] in title


@pytest.mark.parametrize('model', MODELS, ids=lambda model: model['Name'])
def test_an_entry(model):
    assert set(model) <= {'Name', 'In Collection', 'Config', 'Metadata', 'Results'}
    cfg = Config.fromfile(REPO / model['Config'])
    length = {
        key: model['Metadata'].get(name)
        for key, name in (('max_epochs', 'Epochs'), ('max_iters', 'Iterations'))
    }
    assert length == {key: cfg.train_cfg.get(key) for key in length}
    root = next(node['data_root'] for node in nodes(cfg.train_dataloader) if 'data_root' in node)
    data = model['Metadata']['Training Data']
    assert data.startswith(DATA[root.split('/')[1]])
    check_paper_result(model)


def nodes(value):
    """All dicts inside of a config."""
    if isinstance(value, dict):
        yield value
    if isinstance(value, (dict, list)):
        for child in value.values() if isinstance(value, dict) else value:
            yield from nodes(child)


def check_paper_result(model):
    """The paper's numbers are in a README, and are not among the results."""
    text = model['Metadata'].get('Paper Result', '')
    folder = (REPO / model['Config']).parent
    readmes = (folder / 'README.md').read_text()
    for number in re.findall(r'\d+\.\d+', text):
        assert number in readmes
    assert not (text and 'Results' in model)
    assert ('Results' in model) == ('Measured' in model['Metadata'])


def test_what_is_measured_says_when_and_on_what():
    for model in MEASURED.values():
        measured = model['Metadata']['Measured']
        assert re.search(r'20\d\d-\d\d-\d\d', measured)
        assert 'torch' in measured and 'cores' in measured
        (result,) = model['Results']
        assert set(result) == {'Task', 'Dataset', 'Metrics'}
        assert result['Dataset'] == model['Metadata']['Training Data']


@pytest.mark.parametrize('file', list(TABLES))
def test_results_are_those_of_the_tables(file):
    columns, factor, configs = TABLES[file]
    for name, cells in configs.items():
        (row,) = (
            row
            for row in rows(REPO / file)
            if tuple(row.values())[: len(cells)] == cells and set(columns.values()) <= set(row)
        )
        metrics = MEASURED[name]['Results'][0]['Metrics']
        assert metrics == {
            metric: pytest.approx(factor * float(row[column].split()[0]))
            for metric, column in columns.items()
        }


def test_no_result_is_out_of_the_blue():
    in_tables = {name for *_, configs in TABLES.values() for name in configs}
    assert set(MEASURED) - in_tables == {'rfcn_r18_cards'}
    metrics = MEASURED['rfcn_r18_cards']['Results'][0]['Metrics']
    text = (FOLDER / 'rfcn/README.md').read_text()
    assert metrics == {'mAP': 60.6} and '0.606 after 250, 500' in text


def rows(path):
    """The rows of a file's Markdown tables, as dicts."""
    found, names = [], None
    for line in path.read_text().splitlines():
        if not line.startswith('|'):
            names = None
            continue
        cells = [cell.strip() for cell in line.strip('|').split('|')]
        if names is None:
            names = cells
        elif not set(line) <= set('|-: '):
            found.append(dict(zip(names, cells)))
    return found


def test_mim_reads_it():
    load = pytest.importorskip('modelindex.load_model_index').load
    index = load(str(REPO / 'model-index.yml'))
    index.build_models_with_collections()
    assert [model.name for model in index.models] == [model['Name'] for model in MODELS]
