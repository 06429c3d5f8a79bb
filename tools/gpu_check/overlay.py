"""An environment on top of the local Python: sees its packages, changes none.

``--system-site-packages`` would show those of the Python that the local one
was made from, which are other ones where the local one is an environment
itself.
"""

import glob
import hashlib
import os

import packages
from marked_venv import BUILD_TOOLS, REPO, MarkedVenv
from surroundings import say, stop


class Overlay(MarkedVenv):
    """The local Python, and beside it what it lacks.

    Args:
        path (str): folder, made if missing.
        stack (str): 'onedl' or 'openmmlab'.
        wheels (str): folder to install from without a network, or ''.
        local (Local): what it goes on top of.
        archs (str): GPUs that its mmcv is compiled for.
    """

    def __init__(self, path, stack, wheels, local, archs):
        self.stack = stack
        self._local = local
        self._pins = packages.pins(stack)
        self._names = packages.lacking(self._pins, local)
        # The paths of PYTHONPATH are among the local ones: in front they
        # would hide what is installed here.
        variables = {
            name: value
            for name, value in os.environ.items()
            if name not in ('PYTHONPATH', 'PYTHONHOME')
        }
        super().__init__(
            path,
            dict(
                purpose='gpu-check',
                stack=stack,
                python=local.executable,
                version=local.version,
                torch=local.torch,
                archs=archs,
                paths=local.paths,
                repo=REPO,
                packages=self._requirements(self._names),
                setup=_hash('setup.py'),
            ),
            wheels,
            variables,
        )

    def _requirements(self, names):
        return [f'{n}=={self._pins[n]}' for n in sorted(names)]

    def check_wheels(self):
        """Stop, before anything is made, where the wheel folder can't serve."""
        if self.wheels:
            tools = dict(tool.split('==') for tool in BUILD_TOOLS)
            self._demand(self._names | set(tools), dict(self._pins, **tools))

    def _demand(self, names, pins):
        lacking = packages.without_wheel(names, pins, self.wheels, self._local.version)
        if lacking:
            stop(
                '{0} has no wheel for Python {1}.{2} of {3}, which {4} lacks '
                'or has in another version; fill it with: make gpu-wheels '
                'WHEELS={0} GPU_PYTHON={1}.{2}'.format(
                    self.wheels,
                    *self._local.version[:2],
                    ', '.join(lacking),
                    self._local.executable,
                )
            )

    def fill(self):
        """Make the environment, with all but mmcv and this repository."""
        # The local pip serves, and Debian's Python may have nothing to make
        # another with.
        self.create(*(['--without-pip'] if self._local.pip else []))
        self._see_local()
        say(f'{self.name}: on top of {self._local.executable}, which stays as it is')
        self.pip('install', '--no-deps', *BUILD_TOOLS)
        names, done = self._names, set()
        while names - done:
            self._install(names - done)
            done |= names
            # What was installed may ask for more than the local one has.
            unmet = {packages.normal(name) for name in self.ask(packages.ASK_UNMET)}
            names = packages.with_companions(unmet & set(self._pins), self._pins)

    def _install(self, names):
        if self.wheels:
            self._demand(names, self._pins)
        say('installing ' + ', '.join(self._requirements(names)))
        self.pip('install', '--no-deps', '--no-build-isolation', *self._requirements(names))

    def _see_local(self):
        """Put the local packages behind the environment's own."""
        (folder,) = glob.glob(
            os.path.join(glob.escape(self.path), 'lib', 'python*', 'site-packages')
        )
        with open(os.path.join(folder, 'mmgwap-local.pth'), 'w') as file:
            # As a site folder, whose own .pth files count too.
            file.writelines(
                f'import site; site.addsitedir({path!r})\n' for path in self._local.paths
            )

    def pip(self, command, *args):
        # What is there outside is neither removed nor taken for installed.
        super().pip(command, *(['--ignore-installed'] if command == 'install' else []), *args)


def _hash(name):
    with open(os.path.join(REPO, name), 'rb') as file:
        return hashlib.sha256(file.read()).hexdigest()
