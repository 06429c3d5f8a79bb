"""Make the environment that the README's commands run in: make install.

Install pinned requirements, mmcv compiled for the installed torch, and this repository. The wheel
of mmcv is kept in the user's cache. A half-made or outdated environment is made again.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
REQUIREMENTS = REPO / 'requirements'
CACHE = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'mmgwap' / 'wheels'
TORCH = '2.13.0'
MMCV = {'onedl': 'onedl-mmcv==2.3.6', 'openmmlab': 'mmcv==2.1.0'}
# The setup of mmcv needs pkg_resources, which is part of setuptools < 81.
BUILD_TOOLS = ('setuptools==80.9.0', 'wheel==0.45.1', 'ninja==1.13.0')
TORCH_FACTS = """
import json, os, torch, torch.cuda as gpu
archs = {'%d.%d' % gpu.get_device_capability(i) for i in range(gpu.device_count())}
archs = os.environ.get('TORCH_CUDA_ARCH_LIST', '').replace(' ', ';') or ';'.join(sorted(archs))
print(json.dumps([torch.__version__, torch.version.cuda if archs else None, archs, torch.__file__]))
"""


def main(environment, venv, pythons):
    if '{}.{}'.format(*sys.version_info) not in pythons:
        stop(f'{sys.executable} is Python {platform.python_version()}; set PYTHON= to {pythons}')
    parser = argparse.ArgumentParser(description=environment.__doc__)
    parser.add_argument('--stack', choices=MMCV, default='onedl', help='default: onedl')
    parser.add_argument('--venv', default=venv, metavar='DIR', help=f'default: {venv}')
    parser.add_argument('--wheels', metavar='DIR', help='install from this folder, offline')
    parser.add_argument('--save-wheels', metavar='DIR', help='fill a folder for --wheels')
    args = parser.parse_args()
    env = environment(args.venv, args.stack, args.wheels)
    return env.save_wheels(args.save_wheels) if args.save_wheels else env.install()


class Environment:
    """A virtual environment with a mark file that stays empty until everything is installed."""

    def __init__(self, path, stack, wheels=None):
        self.path = Path(path).absolute()
        self.python = self.path / 'bin' / 'python'
        self.mark = self.path / 'mmgwap-install.json'
        self.stack = stack
        self.wheels = wheels and Path(wheels).absolute()
        if wheels and not self.wheels.is_dir():
            stop(f'WHEELS={wheels}: no such folder')

    def install(self):
        """Make the environment unless it is finished and up to date. Return its Python."""
        wanted = json.dumps(self.describe())
        if self.python.exists() and self.mark.exists() and self.mark.read_text() == wanted:
            return self.python
        self.check_machine()
        self.create()
        print(f'installing into {self.path} (some minutes)', flush=True)
        self.install_requirements('install')
        options = ('--no-deps', '--no-index', '--no-build-isolation', '--ignore-installed')
        self.pip('install', *options, self.mmcv_wheel(), '-e', REPO)
        run(self.python, '-c', 'import mmgwap.ops')
        self.mark.write_text(wanted)
        return self.python

    def describe(self):
        """Return everything that decides the content of the environment."""
        files = (REQUIREMENTS / 'common.txt', REQUIREMENTS / f'{self.stack}.txt', REPO / 'setup.py')
        versions = {'stack': self.stack, 'python': sys.version, 'torch': TORCH}
        return {**versions, 'repo': str(REPO), 'files': [file.read_text() for file in files]}

    def check_machine(self):
        """Stop before minutes are spent on an installation that cannot succeed."""
        cpu = 'whl/cpu' in str([os.environ.get(f'PIP_{part}INDEX_URL') for part in ('', 'EXTRA_')])
        check_disk(self.path, 4 if cpu else 10)  # torch's CUDA build brings CUDA's libraries
        if not self.find_wheel(wheel_folder(self.stack, TORCH + '*', '*')):
            check_disk(Path(os.environ.get('TMPDIR', '/tmp')), 2)
            check_compiler()

    def create(self, *options):
        """Make an environment without packages, in place of an earlier environment."""
        if self.path.exists():
            if not self.mark.exists() and any(self.path.iterdir()):
                stop(f'{self.path} was not made by this script: remove it, or set VENV=')
            print(f'{self.path} is half-made or outdated: making it again', flush=True)
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True)
        self.mark.touch()
        run(sys.executable, '-m', 'venv', *options, self.path)

    def install_requirements(self, *command):
        self.pip(*command, '-c', REQUIREMENTS / 'common.txt', *BUILD_TOOLS, f'torch=={TORCH}')
        # The files list all dependencies: some packages ask for OpenCV's desktop build.
        files = ('-r', REQUIREMENTS / f'{self.stack}.txt')
        self.pip(*command, '--no-deps', '--no-build-isolation', *files)

    def pip(self, *args, **options):
        source = ['--no-index', '--find-links', self.wheels] if self.wheels else []
        run(self.python, '-m', 'pip', '-q', *args, *source, **options)

    def save_wheels(self, folder):
        """Fill a folder for ``--wheels`` on a machine without a network."""
        self.install()
        self.install_requirements('wheel', '-w', folder)
        self.pip('download', '-d', folder, '--no-deps', '--no-build-isolation', MMCV[self.stack])
        cached = self.mmcv_wheel().parent
        shutil.copytree(cached, Path(folder) / cached.name, dirs_exist_ok=True)

    def find_wheel(self, name):
        """Return a compiled wheel of mmcv from the cache or the wheel folder, or None."""
        roots = filter(None, (CACHE, self.wheels))
        return next((path for root in roots for path in root.glob(f'{name}/*.whl')), None)

    def mmcv_wheel(self):
        """Return the wheel of mmcv for the torch of this environment; compile it if missing."""
        torch, cuda, archs, torch_file = ask_torch(self.python)
        gpus = '-sm'.join([f'cu{cuda}', *archs.split(';')]).replace('.', '').replace('+', '')
        name = wheel_folder(self.stack, torch, gpus.lower() if cuda else 'cpu')
        return self.find_wheel(name) or self.compile_mmcv(CACHE / name, cuda, archs, torch_file)

    def compile_mmcv(self, folder, cuda, archs, torch_file):
        """Compile mmcv for the CPU, or with CUDA for GPUs of the given architectures."""
        check_compiler(cuda)
        memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
        env = {'MAX_JOBS': str(max(1, min(os.cpu_count(), memory // 2**31))), **os.environ}
        env['CFLAGS'] = env.get('CFLAGS', '') + ' -g0'  # debug symbols would quadruple the wheel
        env['PATH'] = f'{self.python.parent}{os.pathsep}{env["PATH"]}'
        env.update(FORCE_CUDA='1' if cuda else '0', TORCH_CUDA_ARCH_LIST=archs)
        if cuda:
            # Some toolkits lack the headers of CUDA's libraries; torch's packages have them.
            headers = map(str, Path(torch_file).parents[1].glob('nvidia/*/include'))
            env.update(CUDA_HOME=cuda_home(cuda), CPLUS_INCLUDE_PATH=os.pathsep.join(headers))
        folder.mkdir(parents=True, exist_ok=True)
        print(f'compiling mmcv (10 minutes on two cores), log: {folder}/build.log', flush=True)
        # pip's own cache does not tell wheels for different versions of torch apart.
        options = ('--no-cache-dir', '--no-deps', '--no-build-isolation', '-w', folder / 'out')
        with open(folder / 'build.log', 'w') as log:
            self.pip('wheel', '-vv', *options, MMCV[self.stack], env=env, stdout=log, stderr=log)
        (wheel,) = (folder / 'out').glob('*.whl')
        return wheel.rename(folder / wheel.name)


def ask_torch(python):
    """Return torch's version, CUDA version or None, GPU architectures, and file."""
    return json.loads(subprocess.check_output([python, '-c', TORCH_FACTS]).splitlines()[-1])


def wheel_folder(stack, torch, gpus):
    """Return a folder name with everything a compiled mmcv depends on."""
    name = MMCV[stack].replace('==', '-')
    python = 'cp{}{}'.format(*sys.version_info)
    return f'{name}-torch{torch}-{gpus}-{python}-{platform.machine()}'


def check_disk(path, needed):
    folder = next(folder for folder in (path, *path.parents) if folder.is_dir())
    if shutil.disk_usage(folder).free < needed * 1e9:
        stop(f'{folder} has less than {needed} GB free')


def check_compiler(cuda=None):
    """Stop without a C++ compiler, Python's headers, or nvcc for a GPU."""
    compiler = os.environ.get('CXX', 'c++').split()[0]
    header = Path(sysconfig.get_paths()['include'], 'Python.h')
    visible = os.environ.get('CUDA_VISIBLE_DEVICES') != ''
    gpu = cuda or visible and 'GPU 0:' in subprocess.getoutput('nvidia-smi -L')
    for found, missing in (
        (shutil.which(compiler), f'C++ compiler {compiler} (Debian: apt install g++)'),
        (header.exists(), f'{header} (Debian: apt install python3-dev)'),
        (not gpu or cuda_home(cuda), f'nvcc of CUDA {cuda or ""} for the GPU (set CUDA_HOME)'),
    ):
        if not found:
            stop(f'mmcv has to be compiled, and there is no {missing}')


def cuda_home(cuda):
    """Return the folder of a CUDA toolkit with the major version of torch's CUDA, or None."""
    home = os.environ.get('CUDA_HOME', '/usr/local/cuda')
    nvcc = shutil.which('nvcc', path=f'{home}/bin{os.pathsep}{os.environ["PATH"]}')
    release = f'release {cuda.split(".")[0]}.' if cuda else ''
    found = nvcc and release in subprocess.getoutput(f'{nvcc} --version')
    return str(Path(nvcc).resolve().parents[1]) if found else None


def run(*command, **options):
    if subprocess.call([str(part) for part in command], **options):
        stop('failed: ' + ' '.join(map(str, command)))


def stop(message):
    sys.exit(f'{Path(sys.argv[0]).name}: {message}')


if __name__ == '__main__':
    main(Environment, '.venv', '3.11 or 3.12')
