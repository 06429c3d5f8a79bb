"""The environment of ``make install``: all that is pinned, and torch."""

import hashlib
import os
import platform

from marked_venv import BUILD_TOOLS, REPO, MarkedVenv
from surroundings import say

CONSTRAINTS = os.path.join(REPO, 'requirements', 'common.txt')


class Environment(MarkedVenv):
    """A virtual environment that needs nothing of the machine's packages.

    Args:
        path (str): folder, made if missing.
        stack (str): 'onedl' or 'openmmlab'.
        torch (str): version.
        wheels (str): folder to install from without a network, or ''.
    """

    def __init__(self, path, stack, torch, wheels):
        self.stack = stack
        self.torch = torch
        super().__init__(
            path,
            dict(
                stack=stack,
                python=platform.python_version(),
                repo=REPO,
                requirements=self._fingerprint(),
            ),
            wheels,
        )

    @property
    def requirements(self):
        return os.path.join(REPO, 'requirements', self.stack + '.txt')

    def _fingerprint(self):
        """Hash of all that decides what is installed."""
        digest = hashlib.sha256(self.torch.encode())
        for name in ('common.txt', self.stack + '.txt'):
            with open(os.path.join(REPO, 'requirements', name), 'rb') as file:
                digest.update(file.read())
        with open(os.path.join(REPO, 'setup.py'), 'rb') as file:
            digest.update(file.read())
        return digest.hexdigest()

    def install_dependencies(self):
        say(
            f'installing torch {self.torch} and the other dependencies (some minutes, '
            'with what has to be downloaded)'
        )
        # With its dependencies: a CUDA build needs libraries that a CPU build
        # does not.
        self.pip('install', '-c', CONSTRAINTS, *BUILD_TOOLS, 'torch==' + self.torch)
        # Without: the file lists them all, and some distributions ask for
        # OpenCV's windowed build, which needs libraries of a desktop.
        self.pip('install', '--no-deps', '--no-build-isolation', '-r', self.requirements)

    def save_wheels(self, folder):
        """Fill ``folder`` with all but mmcv."""
        self.pip('wheel', '-w', folder, '-c', CONSTRAINTS, *BUILD_TOOLS, 'torch==' + self.torch)
        self.pip(
            'wheel', '-w', folder, '--no-deps', '--no-build-isolation', '-r', self.requirements
        )
