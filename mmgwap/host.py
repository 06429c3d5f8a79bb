"""What mmgwap needs of the environment that it is installed into.

It depends on torch, mmengine, mmcv and mmdet without installing them: they
come in several distributions, and replacing somebody's would break what they
have.  So they are checked at import, and the error says what to install.
"""

import importlib
from typing import NamedTuple, Optional

from packaging.version import Version


class Requirement(NamedTuple):
    """A package, the first version that serves and the first that may not."""

    package: str
    first: str
    last: Optional[str]
    fix: str


REQUIREMENTS = (
    # The first that can tell weights from code in a checkpoint.
    Requirement('torch', '2.6', None, 'see https://pytorch.org/get-started/locally'),
    Requirement('mmengine', '0.10', '1', 'pip install "mmengine>=0.10,<1" (or onedl-mmengine)'),
    Requirement(
        'mmcv',
        '2.1',
        '3',
        'pip install mmcv==2.1.0 (or onedl-mmcv) with '
        '--no-build-isolation, to compile it for your torch',
    ),
    Requirement('mmdet', '3.3', '4', 'pip install "mmdet>=3.3,<4" (or onedl-mmdetection)'),
)


def check_host() -> None:
    """Check that the host's packages are there and fit.

    Raises:
        ImportError: with one line that names the package and the fix.
    """
    for requirement in REQUIREMENTS:
        _check(requirement)
    try:
        importlib.import_module('mmcv._ext')
    except ImportError as error:
        raise ImportError(
            'mmgwap needs the compiled operators of mmcv, and they do not load'
            f' ({error}): they are missing (mmcv-lite) or were compiled for '
            f'another torch. {REQUIREMENTS[2].fix}'
        ) from error


def _check(requirement: Requirement) -> None:
    wanted = f'{requirement.package}>={requirement.first}' + (
        f',<{requirement.last}' if requirement.last else ''
    )
    try:
        module = importlib.import_module(requirement.package)
    except (ImportError, AssertionError) as error:
        # mmdet asserts the versions of mmcv and mmengine.
        raise ImportError(
            f'mmgwap needs {wanted}, which does not import ({error}). {requirement.fix}'
        ) from error
    version = Version(module.__version__)
    if version < Version(requirement.first) or (
        requirement.last and version >= Version(requirement.last)
    ):
        raise ImportError(f'mmgwap needs {wanted}, and {version} is installed. {requirement.fix}')
