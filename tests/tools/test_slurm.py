"""Slurm scripts: arguments of srun, and a run of two tasks."""

import os
import stat
import subprocess
import sys

import pytest

from tests.checkpoints import read_checkpoint
from tests.processes import free_port

# Prints its arguments.
PRINT = """#!/usr/bin/env bash
printf '%s\\n' "$@"
"""

# Runs the command that follows the options in two tasks.
RUN_TWICE = """#!/usr/bin/env bash
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
    """Run a script of tools/ with replacements of srun and scontrol."""

    def run(script, *args, srun=PRINT, **variables):
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
    'variables, ntasks, per_node',
    [
        ({}, 8, 8),
        ({'GPUS': '16'}, 16, 8),
        ({'GPUS': '4'}, 4, 4),
        ({'GPUS': '6', 'GPUS_PER_NODE': '3'}, 6, 3),
    ],
)
def test_train(srun, repo, variables, ntasks, per_node):
    args = ['gpus', 'my job', 'a config.py', 'out dir', '--resume', '--cfg-options', 'a=[1, 2]']
    variables = dict(variables, SRUN_ARGS='--quiet --mem=10G', PYTHON='python3.11')
    code, printed, _ = srun('slurm_train.sh', *args, **variables)
    assert code == 0
    assert {f'--ntasks={ntasks}', f'--ntasks-per-node={per_node}'} <= set(printed)
    assert {f'--gres=gpu:{per_node}', '--partition=gpus', '--job-name=my job'} <= set(printed)
    assert {'--quiet', '--mem=10G', '--kill-on-bad-exit=1', '--cpus-per-task=5'} <= set(printed)
    command = ['python3.11', '-u', str(repo / 'tools' / 'train.py'), 'a config.py']
    command += ['--work-dir', 'out dir', '--launcher', 'slurm', *args[4:]]
    assert printed[printed.index('python3.11') :] == command


def test_test(srun, repo):
    args = 'gpus job config.py a.pth --tta'.split()
    code, printed, _ = srun('slurm_test.sh', *args, GPUS='2', CPUS_PER_TASK='3')
    assert code == 0 and '--cpus-per-task=3' in printed
    command = ['-u', str(repo / 'tools' / 'test.py')]
    command += 'config.py a.pth --launcher slurm --tta'.split()
    assert printed[printed.index('-u') :] == command


@pytest.mark.parametrize('script', ['slurm_train.sh', 'slurm_test.sh'])
@pytest.mark.parametrize('count', [0, 3])
def test_missing_arguments(srun, script, count):
    code, printed, error = srun(script, *['a'] * count)
    assert code == 1 and not printed
    assert f'usage: tools/{script} PARTITION' in error


@pytest.mark.slow
def test_two_tasks_train_and_test(srun, config, tmp_path):
    variables = dict(srun=RUN_TWICE, PYTHON=sys.executable, GPUS='2', OMP_NUM_THREADS='1')
    variables['MASTER_PORT'] = str(free_port())
    job, work_dir = ['gpus', 'job', config], tmp_path / 'run'
    options = ['--cfg-options', 'train_cfg.max_iters=4']
    code, _, error = srun('slurm_train.sh', *job, work_dir, *options, **variables)
    assert code == 0, error[-3000:]
    checkpoint = work_dir / 'iter_4.pth'
    assert read_checkpoint(checkpoint)['meta']['iter'] == 4
    options = ['--work-dir', work_dir]
    code, lines, error = srun('slurm_test.sh', *job, checkpoint, *options, **variables)
    assert code == 0, error[-3000:]
    # Each task tests one of the two batches, and the first task reports.
    text = '\n'.join(lines) + error
    assert 'Iter(test) [1/1]' in text and '[2/2]' not in text
    assert 'coco/bbox_mAP' in text
