"""The tests that need a GPU, and the benchmark."""

import glob
import os
import subprocess
import time
import xml.etree.ElementTree as xml

from marked_venv import REPO
from surroundings import say

RESULTS = os.path.join('work_dirs', 'gpu-check', 'tests.xml')
BENCH = os.path.join('work_dirs', 'bench')


def run_tests(env, options=()):
    """Run the tests of a GPU.

    Args:
        options (Sequence[str]): of pytest, besides.

    Returns:
        tuple[bool, str]: whether all of them ran and passed, and a line.
    """
    results = os.path.join(REPO, RESULTS)
    if os.path.exists(results):
        os.remove(results)
    # Plugins that somebody installed for other tests are no part of these.
    code = _run(
        env,
        '-m',
        'pytest',
        '-m',
        'gpu',
        '-p',
        'no:cacheprovider',
        '--junitxml',
        RESULTS,
        *options,
        PYTEST_DISABLE_PLUGIN_AUTOLOAD='1',
    )
    counts = count(results)
    if counts is None:
        return False, f'tests: pytest ended with status {code}'
    return judge(code, counts)


def count(path):
    """Read a JUnit file.

    Returns:
        dict: how many 'passed', 'skipped', 'failed'; None without a file.
    """
    try:
        cases = xml.parse(path).iter('testcase')
    except (OSError, xml.ParseError):
        return None
    counts = dict(passed=0, skipped=0, failed=0)
    for case in cases:
        kinds = {part.tag for part in case}
        counts[
            'failed'
            if kinds & {'failure', 'error'}
            else 'skipped'
            if 'skipped' in kinds
            else 'passed'
        ] += 1
    return counts


def judge(code, counts):
    """Whether every test of a GPU ran and passed, and a line that says so.

    Args:
        code (int): exit status of pytest.
        counts (dict): from :func:`count`.
    """
    if not any(counts.values()):
        return False, 'tests: none of a GPU was found'
    line = 'tests: ' + ', '.join(f'{n} {kind}' for kind, n in counts.items() if n)
    if counts['skipped']:
        line += ' (a skipped test of a GPU fails the check)'
    return code == 0 and set(k for k, n in counts.items() if n) == {'passed'}, line


def run_bench(env, options=()):
    """Run the benchmark on the GPU.

    Returns:
        tuple[bool, str]: whether it ran to its end, and a line.
    """
    start = time.time()
    code = _run(
        env,
        '-W',
        'ignore',
        os.path.join('tools', 'benchmarks'),
        '--device',
        'cuda',
        '--out',
        BENCH,
        *options,
    )
    written = [
        path
        for path in glob.glob(os.path.join(REPO, BENCH, '*.json'))
        if os.path.getmtime(path) >= start - 1
    ]
    line = 'benchmark: ' + (
        ', '.join(os.path.relpath(path, REPO) for path in written) or 'no file written'
    )
    if code:
        line += f' (ended with status {code})'
    return code == 0 and bool(written), line


def _run(env, *command, **variables):
    base = os.environ if env.variables is None else env.variables
    say('$ python ' + ' '.join(command))
    return subprocess.call(
        [env.python, *command], cwd=REPO, env=dict(base, PYTHONUNBUFFERED='1', **variables)
    )
