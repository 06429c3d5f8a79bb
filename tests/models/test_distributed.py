"""Two processes whose batches differ in what they have of boxes."""
import os
import socket
import subprocess
import sys

import pytest

from mmgwap.testing import DETECTORS


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


@pytest.mark.parametrize('name, steps', [
    (name, 200 if name == 'rfcn' else 25) for name in DETECTORS])
def test_every_combination_of_batches(repo, name, steps):
    variables = dict(os.environ, WORLD_SIZE='2', MASTER_ADDR='127.0.0.1',
                     MASTER_PORT=str(free_port()), OMP_NUM_THREADS='1')
    processes = [
        subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-m',
             'tests.models.distributed_steps', name, str(steps)],
            cwd=repo, env=dict(variables, RANK=str(rank)), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for rank in range(2)]
    outputs = [process.communicate(timeout=600) for process in processes]
    for process, (text, errors) in zip(processes, outputs):
        assert process.returncode == 0, errors[-3000:]
        assert float(text.split()[-1]) > 0
