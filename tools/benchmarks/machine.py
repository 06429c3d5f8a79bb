"""What the numbers hold for: device, clocks, versions."""

import os
import platform
import re
import subprocess
import time
from importlib import import_module
from pathlib import Path

import torch

PACKAGES = ('triton', 'torchvision', 'mmcv', 'mmengine', 'mmdet', 'mmgwap')
CLOCKS = 'clocks.sm,clocks.mem,temperature.gpu,power.draw'
REPO = Path(__file__).resolve().parents[2]


def device_name(device: torch.device) -> str:
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    for line in _lines('/proc/cpuinfo'):
        if line.startswith('model name'):
            return line.split(':', 1)[1].strip()
    return platform.processor() or platform.machine()


def file_stem(name: str) -> str:
    """A device's name as that of a file: small letters, digits, dashes."""
    return re.sub('[^a-z0-9]+', '-', name.lower()).strip('-') or 'device'


def surroundings(device: torch.device) -> dict:
    """Device, versions, date and commit.

    A package that does not import has the reason instead of its version.
    """
    found = dict(
        date=time.strftime('%Y-%m-%d'),
        device=device_name(device),
        cores=len(os.sched_getaffinity(0)),
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        torch=torch.__version__,
        cuda=torch.version.cuda or 'none',
    )
    if device.type == 'cuda':
        found.update(
            driver=_nvidia_smi(device, 'driver_version'),
            cudnn=torch.backends.cudnn.version(),
            cudnn_benchmark=torch.backends.cudnn.benchmark,
            tf32_convolutions=torch.backends.cudnn.allow_tf32,
            tf32_products=torch.backends.cuda.matmul.allow_tf32,
        )
    found.update((name, version_of(name)) for name in PACKAGES)
    found['commit'] = _commit()
    return found


def version_of(package: str) -> str:
    """Its version, or why it does not import, in one line."""
    try:
        return import_module(package).__version__
    except Exception as error:
        first = (str(error).strip().splitlines() or [''])[0]
        return f'does not import ({type(error).__name__}: {first})'


def clocks(device: torch.device) -> dict:
    """Clocks, and what else slows a machine down, at this moment."""
    if device.type == 'cuda':
        values = _nvidia_smi(device, CLOCKS)
        return (
            dict(zip(CLOCKS.split(','), values.split(', ')))
            if ', ' in values
            else {'nvidia-smi': values}
        )
    mhz = [
        line.split(':')[1].strip() for line in _lines('/proc/cpuinfo') if line.startswith('cpu MHz')
    ]
    return dict(mhz=mhz or 'not told', load=list(os.getloadavg()))


def seconds_of_others() -> float:
    """Seconds that all cores together have worked for others until now.

    The load average would count what this process did in the last minutes.
    NaN where the system does not tell.
    """
    line = (_lines('/proc/stat') or [''])[0]
    # user, nice, system, idle, waiting for disks, interrupts, stolen
    ticks = [int(one) for one in line.split()[1:9]]
    if not ticks:
        return float('nan')
    busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf('SC_CLK_TCK')
    return busy - sum(os.times()[:4])  # its children's too, if they have ended


def _nvidia_smi(device: torch.device, query: str) -> str:
    """Values of a GPU, with their units, or why there are none."""
    index = device.index if device.index is not None else torch.cuda.current_device()
    # nvidia-smi counts all GPUs, torch those that it may see.
    visible = os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',')
    name = visible[index].strip() if len(visible) > index and visible[index] else str(index)
    try:
        done = subprocess.run(
            ['nvidia-smi', f'--query-gpu={query}', '--format=csv,noheader', f'--id={name}'],
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f'nvidia-smi does not run ({error})'
    return (done.stdout or done.stderr).strip()


def _commit() -> str:
    """Commit of the repository, and whether files differ from it."""

    def git(*command: str) -> str:
        return subprocess.run(
            ['git', *command], cwd=REPO, capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        changed = git('status', '--porcelain', '--', 'mmgwap', 'tools', 'configs')
        return git('rev-parse', '--short=12', 'HEAD') + (', with changes' if changed else '')
    except (OSError, subprocess.SubprocessError):
        return 'unknown'


def _lines(path: str) -> list:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
