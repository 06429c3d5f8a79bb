"""Timing for the benchmarks: warm-up, alternation, median and quartiles."""
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Callable, Dict

import torch


def measure(contenders: Dict[str, Callable[[], None]], device: torch.device,
            warm_up: int = 3, runs: int = 15) -> Dict[str, dict]:
    """Time functions side by side.

    They take turns, so that a machine that slows down slows all of them, and
    their ratios stay good where their times do not.

    Returns:
        dict: for each name the median and the quartiles in milliseconds, and
        how often the first contender's median it took.
    """
    times = {name: [] for name in contenders}
    for run in range(warm_up + runs):
        for name, function in contenders.items():
            seconds = _once(function, device)
            if run >= warm_up:
                times[name].append(seconds * 1e3)
    result = {}
    for name, values in times.items():
        low, median, high = statistics.quantiles(values, n=4)
        result[name] = dict(median_ms=median, quartiles_ms=[low, high],
                            runs=runs, warm_up=warm_up)
    first = next(iter(result.values()))['median_ms']
    for values in result.values():
        values['times_the_first'] = values['median_ms'] / first
    return result


def _once(function: Callable[[], None], device: torch.device) -> float:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    function()
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def surroundings(device: torch.device) -> dict:
    """Device and versions that the numbers hold for."""
    import mmcv
    import mmdet
    import mmengine

    import mmgwap
    name = torch.cuda.get_device_name(device) if device.type == 'cuda' \
        else _cpu_name()
    return dict(
        date=time.strftime('%Y-%m-%d'), device=name,
        threads=torch.get_num_threads(), python=platform.python_version(),
        torch=torch.__version__, mmcv=mmcv.__version__,
        mmengine=mmengine.__version__, mmdet=mmdet.__version__,
        mmgwap=mmgwap.__version__)


def _cpu_name() -> str:
    try:
        for line in Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith('model name'):
                return line.split(':', 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def report(results: Dict[str, Dict[str, dict]], device: torch.device,
           out: Path) -> None:
    """Print a table and write everything as JSON."""
    content = dict(surroundings=surroundings(device), results=results)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content, indent=1))
    print(', '.join(f'{k} {v}' for k, v in content['surroundings'].items()))
    for title, contenders in results.items():
        print(f'\n{title}')
        for name, row in contenders.items():
            low, high = row['quartiles_ms']
            print(f'  {name:<38} {row["median_ms"]:>9.1f} ms '
                  f'[{low:.1f}, {high:.1f}]  {row["times_the_first"]:>6.2f}x')
    print(f'\nwritten to {out}')
