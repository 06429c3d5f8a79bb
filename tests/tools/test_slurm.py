"""What the Slurm scripts ask for, and what runs where it is granted."""

import os
import stat
import subprocess
import sys

import pytest

from tests.checkpoints import read_checkpoint
from tests.processes import free_port

# Prints what it was asked for.
ASKED = """#!/usr/bin/env bash
printf '%s\\n' "$@"
"""

# Runs the command, which its own options come before, in two tasks.
GRANTED = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
export SLURM_NTASKS=2 SLURM_NODELIST="nodes[1-2]" CUDA_VISIBLE_DEVICES=
SLURM_PROCID=1 SLURM_LOCALID=1 "$@" & other=$!
SLURM_PROCID=0 SLURM_LOCALID=0 "$@" && wait $other
"""
SCONTROL = """#!/usr/bin/env bash
[ "$*" = "show hostnames nodes[1-2]" ] && printf 'localhost\\nelsewhere\\n'
"""


@pytest.fixture
def srun(repo, tmp_path):
    """Run a script beside commands that stand for Slurm's."""

    def run(script, *args, srun=ASKED, **variables):
        for name, text in dict(srun=srun, scontrol=SCONTROL).items():
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(stat.S_IRWXU)
        path = f'{tmp_path}:{os.environ["PATH"]}'
        done = subprocess.run(
            [repo / 'tools' / script, *args],
            capture_output=True,
            text=True,
            env=dict(os.environ, PATH=path, **variables),
        )
        return done.returncode, done.stdout.splitlines(), done.stderr

    return run


@pytest.mark.parametrize(
    'gpus, nodes, per_node', [(None, None, 8), ('16', None, 8), ('4', None, 4), ('6', '3', 3)]
)
def test_train(srun, repo, gpus, nodes, per_node):
    variables = dict(GPUS=gpus, GPUS_PER_NODE=nodes)
    code, asked, _ = srun(
        'slurm_train.sh',
        'gpus',
        'my job',
        'a config.py',
        'out dir',
        '--resume',
        '--cfg-options',
        'a=[1, 2]',
        **{key: value for key, value in variables.items() if value},
        SRUN_ARGS='--quiet --mem=10G',
        PYTHON='python3.11',
    )
    assert code == 0
    assert f'--ntasks={gpus or 8}' in asked
    assert f'--ntasks-per-node={per_node}' in asked
    assert f'--gres=gpu:{per_node}' in asked
    assert {
        '--partition=gpus',
        '--job-name=my job',
        '--quiet',
        '--mem=10G',
        '--kill-on-bad-exit=1',
        '--cpus-per-task=5',
    } <= set(asked)
    assert asked[asked.index('python3.11') :] == [
        'python3.11',
        '-u',
        str(repo / 'tools' / 'train.py'),
        'a config.py',
        '--work-dir',
        'out dir',
        '--launcher',
        'slurm',
        '--resume',
        '--cfg-options',
        'a=[1, 2]',
    ]


def test_test(srun, repo):
    code, asked, _ = srun(
        'slurm_test.sh', 'gpus', 'job', 'config.py', 'a.pth', '--tta', GPUS='2', CPUS_PER_TASK='3'
    )
    assert code == 0 and '--cpus-per-task=3' in asked
    assert asked[asked.index('-u') :] == [
        '-u',
        str(repo / 'tools' / 'test.py'),
        'config.py',
        'a.pth',
        '--launcher',
        'slurm',
        '--tta',
    ]


@pytest.mark.parametrize('script', ['slurm_train.sh', 'slurm_test.sh'])
@pytest.mark.parametrize('count', range(4))
def test_missing_arguments(srun, script, count):
    code, asked, error = srun(script, *['one'] * count)
    assert code == 1 and not asked
    assert f'usage: tools/{script} PARTITION' in error


@pytest.mark.slow
def test_two_tasks_train_and_test(srun, config, tmp_path):
    variables = dict(
        srun=GRANTED,
        PYTHON=sys.executable,
        GPUS='2',
        MASTER_PORT=str(free_port()),
        OMP_NUM_THREADS='1',
    )
    work_dir = tmp_path / 'run'
    code, _, error = srun(
        'slurm_train.sh',
        'gpus',
        'job',
        str(config),
        str(work_dir),
        '--cfg-options',
        'train_cfg.max_iters=4',
        **variables,
    )
    assert code == 0, error[-3000:]
    state = read_checkpoint(work_dir / 'iter_4.pth')
    assert state['meta']['iter'] == 4
    code, lines, error = srun(
        'slurm_test.sh',
        'gpus',
        'job',
        str(config),
        str(work_dir / 'iter_4.pth'),
        '--work-dir',
        str(work_dir),
        **variables,
    )
    assert code == 0, error[-3000:]
    # Each task tests its half of two batches, and one of them reports.
    text = '\n'.join(lines) + error
    assert 'Iter(test) [1/1]' in text and '[2/2]' not in text
    assert 'coco/bbox_mAP' in text
