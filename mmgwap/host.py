"""Check that the installed torch, mmengine, mmcv and mmdet are supported.

mmgwap does not install these packages: each exists in several distributions, and replacing an
installed distribution would break the user's environment. They are checked at import instead, and
the error names the package to install.
"""

import importlib
from typing import NamedTuple, Optional

from packaging.version import Version


class Requirement(NamedTuple):
    """A package with its first supported and first unsupported version."""

    package: str
    first: str
    end: Optional[str]
    fix: str


REQUIREMENTS = (
    # torch 2.6 is the first version that reads only weights by default.
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
    """Check the packages that mmgwap extends.

    Raises:
        ImportError: with a one-line message that names the package and the fix.
    """
    for requirement in REQUIREMENTS:
        _check(requirement)
    try:
        importlib.import_module('mmcv._ext')
    except ImportError as error:
        raise ImportError(
            f'mmgwap needs the compiled operators of mmcv, which do not load ({error}): they are '
            f'missing (mmcv-lite) or were compiled for another torch. {REQUIREMENTS[2].fix}'
        ) from error


def _check(requirement: Requirement) -> None:
    upper_bound = f',<{requirement.end}' if requirement.end else ''
    supported = f'{requirement.package}>={requirement.first}{upper_bound}'
    try:
        module = importlib.import_module(requirement.package)
    except (ImportError, AssertionError) as error:
        # mmdet asserts the versions of mmcv and mmengine.
        raise ImportError(
            f'mmgwap needs {supported}, which does not import ({error}). {requirement.fix}'
        ) from error
    version = Version(module.__version__)
    if version < Version(requirement.first) or (
        requirement.end and version >= Version(requirement.end)
    ):
        raise ImportError(
            f'mmgwap needs {supported}, but {version} is installed. {requirement.fix}'
        )
