"""Compile mmcv for the GPU of this machine, run the tests that need a GPU, and benchmark.

Run this script with a Python whose torch has CUDA: make gpu-check PYTHON=path. That Python is not
changed. The packages it lacks go into a virtual environment on top of it, without torch and triton.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import distributions
from importlib.util import find_spec
from xml.etree import ElementTree

import install

BENCH_OPTIONS = os.environ.get('GPU_BENCH', '').split()
VERSIONS = """import mmcv, mmdet, mmengine, sys, torch, triton
for module in (mmcv, mmdet, mmengine, torch, triton): print(module.__name__, module.__version__)
print('Python', sys.version, torch.cuda.get_device_name())"""


class TorchEnvironment(install.Environment):
    """An environment on top of the packages of the running Python."""

    def describe(self):
        if not find_spec('torch'):
            install.stop(f'{sys.executable} has no torch: set PYTHON=')
        self.torch, self.cuda, archs, file = install.ask_torch(sys.executable)
        if not self.cuda:
            install.stop(f'torch {self.torch} of {sys.executable} finds no GPU: set PYTHON=')
        os.environ.pop('PYTHONPATH', None)  # it would precede the packages of the environment
        return {**super().describe(), 'torch': [self.torch, self.cuda, archs, file]}

    def check_machine(self):
        install.check_disk(self.path, 3)
        if not self.find_wheel(install.wheel_folder(self.stack, self.torch, 'cu*')):
            install.check_compiler(self.cuda)

    def create(self):
        super().create(*['--without-pip'] if find_spec('pip') else [])
        # --system-site-packages would not show the packages of a virtual environment.
        lines = [f'import site; site.addsitedir({p!r})\n' for p in sys.path if '-packages' in p]
        (folder,) = self.path.glob('lib/python*/site-packages')
        (folder / 'mmgwap.pth').write_text(''.join(lines))

    def install_requirements(self, *command):
        self.pip(*command, '--no-deps', '--ignore-installed', *install.BUILD_TOOLS)
        missing = list(filter(is_missing, pins(self.stack)))
        if missing:
            self.pip(*command, '--no-deps', '--no-build-isolation', *missing)

    def save_wheels(self, folder):
        """Fill a folder for ``--wheels``. Neither torch nor a GPU is needed."""
        with tempfile.TemporaryDirectory() as work:
            env = install.Environment(f'{work}/venv', self.stack)
            env.create()
            env.pip('install', '--no-deps', *install.BUILD_TOOLS)
            options = (folder, '--no-deps', '--no-build-isolation')
            env.pip('wheel', '-w', *options, *install.BUILD_TOOLS, *pins(self.stack))
            env.pip('download', '-d', *options, install.MMCV[self.stack])


def pins(stack):
    """Return the pinned requirements, without torch's own triton."""
    text = ''.join((install.REQUIREMENTS / f'{name}.txt').read_text() for name in ('common', stack))
    return re.findall(r'^(?!triton)[\w.-]+==[\w.]+', text, re.MULTILINE)


def is_missing(pin):
    """Return whether this Python lacks a package; only mmdet and mmengine need their version."""
    name, version = pin.split('==')
    found = next((package.version for package in distributions(name=name)), None)
    return found != version if re.search('mm(det|engine)', name) else found is None


def run_checks(python):
    """Run the tests marked gpu and the benchmark. Return the exit status."""
    report, start = install.REPO / 'work_dirs' / 'gpu-check.xml', time.time()
    report.unlink(missing_ok=True)
    tests = ['-m', 'pytest', '-m', 'gpu', '--junitxml', report]
    bench = ['-W', 'ignore', 'tools/benchmarks', '--device', 'cuda', *BENCH_OPTIONS]
    statuses = [subprocess.call([python, *args], cwd=install.REPO) for args in (tests, bench)]
    suite = ElementTree.parse(report).find('testsuite').attrib if report.exists() else {}
    files = (install.REPO / 'work_dirs' / 'bench').glob('*.json')
    written = [str(file) for file in files if file.stat().st_mtime >= start]
    subprocess.call([python, '-c', VERSIONS])
    print(*(f'{suite.get(kind)} {kind}' for kind in ('tests', 'failures', 'errors', 'skipped')))
    print('benchmark:', *written or ['no file'])
    passed = statuses == [0, 0] and suite['skipped'] == '0' and written
    print('gpu-check', 'passed' if passed else f'FAILED: exit statuses {statuses}')
    return 0 if passed else 1


if __name__ == '__main__':
    made = install.main(TorchEnvironment, '.venv-gpu', '3.11, 3.12 or 3.13')
    sys.exit(made and run_checks(made))
