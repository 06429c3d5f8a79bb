"""A virtual environment of this project: made, and marked when finished."""

import fcntl
import glob
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

import surroundings
from surroundings import say, stop

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# mmcv's setup needs pkg_resources, which setuptools 81 dropped.
BUILD_TOOLS = ['setuptools==80.9.0', 'wheel==0.45.1', 'ninja==1.13.0']


class MarkedVenv:
    """A virtual environment of this project.

    ``mmgwap-install.json`` in it says for what it was made and whether it is
    finished, so that an interrupted installation is seen for what it is, and
    nobody's own environment is ever removed.

    Args:
        path (str): folder, made if missing.
        wanted (dict): all that decides what is in it, of JSON's types.
        wheels (str): folder to install from without a network, or ''.
        variables (dict, optional): environment variables of what is run in
            it; those of this process by default.
    """

    def __init__(self, path, wanted, wheels, variables=None):
        self.path = os.path.abspath(path)
        self.name = path
        self.wheels = os.path.abspath(wheels) if wheels else ''
        self.python = os.path.join(self.path, 'bin', 'python')
        self.variables = variables
        self._mark = os.path.join(self.path, 'mmgwap-install.json')
        self._wanted = wanted

    def is_finished(self):
        """Whether what is wanted is there already."""
        return self._read_mark() == dict(self._wanted, finished=True) and os.path.exists(
            self.python
        )

    def _read_mark(self):
        try:
            with open(self._mark) as file:
                return json.load(file)
        except (OSError, ValueError):
            return None

    def _write_mark(self, finished):
        draft = self._mark + '.tmp'
        with open(draft, 'w') as file:
            json.dump(dict(self._wanted, finished=finished), file)
        os.replace(draft, self._mark)

    @contextmanager
    def locked(self):
        """Let one installation at a time work on the environment."""
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(self.path + '.lock', 'w') as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                say('waiting for another ' + surroundings.PROGRAM)
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def create(self, *options):
        """Make the environment anew, in place of a half-made one.

        Args:
            *options (str): of ``python -m venv``.
        """
        if os.path.lexists(self.path):
            self._remove()
        os.makedirs(self.path)
        self._write_mark(finished=False)
        self._call([sys.executable, '-m', 'venv', *options, self.path], f'create {self.name}')

    def _remove(self):
        """Remove an environment of this project, or what is left of one."""
        mark = self._read_mark()
        if mark is None and not self._is_remnant():
            stop(
                f'{self.name} is there and was not made by {surroundings.PROGRAM}; move it away, or name '
                f'another place: {surroundings.PROGRAM} VENV=.venv-mmgwap'
            )
        say(
            '{} is {}: making it again'.format(
                self.name, 'out of date' if (mark or {}).get('finished') else 'half-made'
            )
        )
        # Out of the way in one stroke: what is left of an interrupted removal
        # is never taken for an environment.
        doomed = self.path + '.removed'
        shutil.rmtree(doomed, ignore_errors=True)
        os.rename(self.path, doomed)
        shutil.rmtree(doomed)

    def _is_remnant(self):
        """Whether there is nothing but parts of a broken environment."""
        if not os.path.isdir(self.path) or os.path.islink(self.path):
            return False
        parts = {
            'bin',
            'include',
            'lib',
            'lib64',
            'share',
            'pyvenv.cfg',
            '.gitignore',
            os.path.basename(self._mark),
            os.path.basename(self._mark) + '.tmp',
        }
        if not set(os.listdir(self.path)) <= parts:
            return False
        installed = glob.glob(
            os.path.join(glob.escape(self.path), 'lib', '*', 'site-packages', '*')
        )
        if any(not os.path.basename(path).startswith(('pip', 'setuptools')) for path in installed):
            return False
        try:
            return (
                subprocess.call(
                    [self.python, '-m', 'pip', '--version'],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                != 0
            )
        except OSError:
            return True

    def install_wheel(self, wheel):
        self.pip('install', '--no-deps', '--no-index', wheel)

    def install_project(self):
        self.pip('install', '--no-deps', '--no-index', '--no-build-isolation', '-e', REPO)

    def finish(self):
        """Try the result, and mark it."""
        self._call([self.python, '-c', 'import mmgwap.ops'], f'import mmgwap in {self.name}')
        self._write_mark(finished=True)

    def pip(self, command, *args):
        source = ['--no-index', '--find-links', self.wheels] if self.wheels else []
        self._call(
            [self.python, '-m', 'pip', command, '-q', '--disable-pip-version-check']
            + source
            + list(args),
            'pip ' + command,
        )

    def ask(self, code):
        """Run code in the environment and read the JSON that it prints."""
        return json.loads(subprocess.check_output([self.python, '-c', code], env=self.variables))

    def _call(self, command, what):
        if subprocess.call(command, env=self.variables) != 0:
            stop(f'could not {what}; what failed stands above')
