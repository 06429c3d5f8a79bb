"""What the Slurm scripts ask for."""
import os
import stat
import subprocess

import pytest

SRUN = '''#!/usr/bin/env bash
printf '%s\\n' "$@"
'''


@pytest.fixture
def srun(repo, tmp_path):
    """Run a script beside an ``srun`` that prints what it was asked for."""
    fake = tmp_path / 'srun'
    fake.write_text(SRUN)
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)

    def run(script, *args, **variables):
        path = f'{tmp_path}:{os.environ["PATH"]}'
        done = subprocess.run(
            [repo / 'tools' / script, *args], capture_output=True, text=True,
            env=dict(os.environ, PATH=path, **variables))
        return done.returncode, done.stdout.splitlines(), done.stderr
    return run


@pytest.mark.parametrize('gpus, nodes, per_node', [
    (None, None, 8), ('16', None, 8), ('4', None, 4), ('6', '3', 3)])
def test_train(srun, repo, gpus, nodes, per_node):
    variables = dict(GPUS=gpus, GPUS_PER_NODE=nodes)
    code, asked, _ = srun(
        'slurm_train.sh', 'gpus', 'my job', 'a config.py', 'out dir',
        '--resume', '--cfg-options', 'a=[1, 2]',
        **{key: value for key, value in variables.items() if value},
        SRUN_ARGS='--quiet --mem=10G', PYTHON='python3.11')
    assert code == 0
    assert f'--ntasks={gpus or 8}' in asked
    assert f'--ntasks-per-node={per_node}' in asked
    assert f'--gres=gpu:{per_node}' in asked
    assert {'--partition=gpus', '--job-name=my job', '--quiet', '--mem=10G',
            '--kill-on-bad-exit=1', '--cpus-per-task=5'} <= set(asked)
    assert asked[asked.index('python3.11'):] == [
        'python3.11', '-u', str(repo / 'tools' / 'train.py'), 'a config.py',
        '--work-dir', 'out dir', '--launcher', 'slurm', '--resume',
        '--cfg-options', 'a=[1, 2]']


def test_test(srun, repo):
    code, asked, _ = srun('slurm_test.sh', 'gpus', 'job', 'config.py', 'a.pth',
                          '--tta', GPUS='2', CPUS_PER_TASK='3')
    assert code == 0 and '--cpus-per-task=3' in asked
    assert asked[asked.index('-u'):] == [
        '-u', str(repo / 'tools' / 'test.py'), 'config.py', 'a.pth',
        '--launcher', 'slurm', '--tta']


@pytest.mark.parametrize('script', ['slurm_train.sh', 'slurm_test.sh'])
@pytest.mark.parametrize('count', range(4))
def test_missing_arguments(srun, script, count):
    code, asked, error = srun(script, *['one'] * count)
    assert code == 1 and not asked
    assert f'usage: tools/{script} PARTITION' in error
