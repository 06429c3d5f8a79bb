"""Which command lines create a process group of CPU processes."""

import sys

import pytest
import torch

from tools.run_mmdet_tool import run_tool


class GroupCreated(Exception):
    pass


@pytest.mark.parametrize(
    'options, creates_group',
    [
        (['--launcher', 'slurm'], True),
        (['--launcher=slurm'], True),
        (['--launcher', 'pytorch'], True),
        (['--launcher', 'none'], False),
        (['--work-dir', 'slurm'], False),
        (['--cfg-options', 'work_dir=slurm'], False),
        ([], False),
    ],
)
def test_launcher_is_read_from_its_option_only(monkeypatch, options, creates_group):
    def init_process_group(backend):
        raise GroupCreated

    for name in ('SLURM_PROCID', 'SLURM_LOCALID', 'LOCAL_RANK', 'RANK'):
        monkeypatch.setenv(name, '0')
    for name in ('SLURM_NTASKS', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.setenv(name, '1')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.distributed, 'init_process_group', init_process_group)
    monkeypatch.setattr(sys, 'argv', ['tools/train.py', 'missing_config.py', *options])
    # mmdet's tool itself fails on the config.
    with pytest.raises(GroupCreated if creates_group else FileNotFoundError):
        run_tool('train.py')
