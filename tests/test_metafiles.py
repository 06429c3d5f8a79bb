"""Entries of the model index: real configs, and the numbers that the READMEs list."""

import re
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config

from tests.test_every_config import nodes

REPO = Path(__file__).resolve().parents[1]
INDEX = yaml.safe_load((REPO / 'model-index.yml').read_text())
METAFILES = [yaml.safe_load((REPO / path).read_text()) for path in INDEX['Import']]
MODELS = {model['Name']: model for metafile in METAFILES for model in metafile['Models']}
COLLECTIONS = [entry for metafile in METAFILES for entry in metafile['Collections']]
MEASURED = {name: model for name, model in MODELS.items() if 'Results' in model}
# Configs without results so far, neither measured nor of a paper.
UNMEASURED = {'rfcn_r18_blind-teacher_cards-p20', 'rfcn_r18_teacher_cards-p20'}
# Name of the data set by the folder below data/.
DATA = dict(
    coco='COCO 2017',
    VOCdevkit='VOC 2007',
    cards='Playing cards',
    digits='Digits in clutter',
    ILSVRC='ILSVRC CLS-LOC',
    **{'digits-single': 'Single digits in clutter'},
)
# Per file with a table: the column of each metric, the factor to percent, and the first
# cells of each config's row.
TABLES = {
    'configs/gwap/README.md': (
        {'box AP': 'AP', 'box AP50': 'AP50'},
        100,
        {
            'rfcn_r18_digits-p10-boxes-only': ('10 %', 'boxes only'),
            'rfcn_r18_gwap_digits-p10': ('10 %', 'boxes + labels, GWAP'),
            'rfcn_r18_gap_digits-p10': ('10 %', 'boxes + labels, GAP'),
            'rfcn_r18_digits-all-boxes': ('all', 'all boxes'),
        },
    ),
    'docs/compare/digits.md': (
        {'box AP': 'AP', 'box AP50': 'AP50'},
        100,
        {
            'rfcn_r18_blind-teacher_digits-p10': ('10 %', 'label-blind teacher'),
            'rfcn_r18_teacher_digits-p10': ('10 %', 'label-guided teacher'),
            'rfcn_r18_gwap-teacher_digits-p10': ('10 %', 'both'),
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


def test_names_and_collections():
    assert len(MODELS) == sum(len(metafile['Models']) for metafile in METAFILES)
    names = [entry['Name'] for entry in COLLECTIONS]
    assert len(set(names)) == len(names)
    assert {model['In Collection'] for model in MODELS.values()} == set(names)
    for entry in COLLECTIONS:
        readme = re.sub(r'\s+', ' ', (REPO / entry['README']).read_text())
        assert entry['Paper']['URL'] in readme and entry['Paper']['Title'] in readme


@pytest.mark.parametrize('name', MODELS)
def test_entry(name):
    model = MODELS[name]
    path, metadata = REPO / model['Config'], model['Metadata']
    assert path.stem == name
    assert set(model) <= {'Name', 'In Collection', 'Config', 'Metadata', 'Results'}
    cfg = Config.fromfile(path)
    assert metadata.get('Epochs') == cfg.train_cfg.get('max_epochs')
    assert metadata.get('Iterations') == cfg.train_cfg.get('max_iters')
    root = next(node['data_root'] for node in nodes(cfg.train_dataloader) if 'data_root' in node)
    assert metadata['Training Data'].startswith(DATA[root.split('/')[1]])
    if name in MEASURED:
        assert 'Paper Result' not in metadata
        assert re.search(r'20\d\d-\d\d-\d\d.*cores.*torch', metadata['Measured'])
        (result,) = model['Results']
        assert set(result) == {'Task', 'Dataset', 'Metrics'}
        assert result['Dataset'] == metadata['Training Data']
    elif name in UNMEASURED:
        assert not {'Paper Result', 'Measured'} & set(metadata)
    else:
        readme = (path.parent / 'README.md').read_text()
        numbers = re.findall(r'\d+\.\d+', metadata['Paper Result'])
        assert numbers and all(number in readme for number in numbers)


@pytest.mark.parametrize('file', TABLES)
def test_results_are_in_the_tables(file):
    columns, factor, configs = TABLES[file]
    for name, cells in configs.items():
        (row,) = (
            row
            for row in rows(REPO / file)
            if tuple(row.values())[: len(cells)] == cells and set(columns.values()) <= set(row)
        )
        assert MEASURED[name]['Results'][0]['Metrics'] == {
            metric: pytest.approx(factor * float(row[column].split()[0]))
            for metric, column in columns.items()
        }


def test_every_result_is_in_a_table_or_text():
    in_tables = {name for *_, configs in TABLES.values() for name in configs}
    assert set(MEASURED) - in_tables == {'rfcn_r18_cards'}  # in the text of the README
    metrics = MEASURED['rfcn_r18_cards']['Results'][0]['Metrics']
    readme = (REPO / 'configs/rfcn/README.md').read_text()
    assert metrics == {'mAP': 60.6} and '0.606 after 250, 500' in readme


def rows(path):
    """Read the rows of a file's Markdown tables as dicts."""
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


def test_mim_reads_the_index():
    load = pytest.importorskip('modelindex.load_model_index').load
    index = load(str(REPO / 'model-index.yml'))
    index.build_models_with_collections()
    assert [model.name for model in index.models] == list(MODELS)
