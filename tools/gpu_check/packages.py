"""Which of the pinned packages the local Python lacks.

What it has is taken where it can serve, since a machine with a GPU may have
no network, and since its torch must stay what it is.
"""

import glob
import os
import re

REQUIREMENTS = os.path.join(
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), 'requirements'
)
# Each torch goes with one triton.
TORCHS_OWN = ('torch', 'triton')
# What is tested is these; of the others, what runs them.
EXACT = ('mmdet', 'mmengine', 'onedl-mmdetection', 'onedl-mmengine')
OPENCV = 'opencv-python-headless'
# The tests were tried with these, and never with older ones.
OLDEST = {
    'hypothesis': '6.100',
    'matplotlib': '3.6',
    'numpy': '1.26',
    'onnx': '1.15',
    'onnxruntime': '1.17',
    'pillow': '9.3',
    'pytest': '7.4',
    'scikit-learn': '1.3',
    'scipy': '1.11',
    'shapely': '2.0',
    'yapf': '0.40.2',
}
# Compiled against numpy, and perhaps unfit for another.
ON_NUMPY = (
    'contourpy',
    'matplotlib',
    'ml-dtypes',
    'onnx',
    'onnxruntime',
    OPENCV,
    'pycocotools',
    'scikit-image',
    'scikit-learn',
    'scipy',
    'shapely',
)
# Run in the new environment: what the packages in it ask for and don't find.
# OpenCV has four names and is pinned for its numpy's sake: not asked about.
ASK_UNMET = """
import importlib.metadata as metadata, json, sys
from packaging.requirements import Requirement
unmet = set()
for package in metadata.distributions(path=[p for p in sys.path
                                            if p.startswith(sys.prefix)]):
    for line in package.requires or []:
        wanted = Requirement(line)
        if wanted.marker and not wanted.marker.evaluate(dict(extra='')):
            continue
        try:
            there = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            unmet.add(wanted.name)
        else:
            if not wanted.specifier.contains(there, prereleases=True):
                unmet.add(wanted.name)
print(json.dumps(sorted(n for n in unmet if not n.startswith('opencv'))))
"""


def normal(name):
    """A package's name as PyPI compares it."""
    return re.sub(r'[-_.]+', '-', name).lower()


def pins(stack):
    """The pinned packages of a stack.

    Returns:
        dict: version of each, by normal name, without torch and triton.
    """
    found = {}
    for file in ('common.txt', stack + '.txt'):
        with open(os.path.join(REQUIREMENTS, file)) as lines:
            for line in lines:
                match = re.match(r'([\w.-]+)==([^\s;#]+)', line)
                if match and normal(match.group(1)) not in TORCHS_OWN:
                    found[normal(match.group(1))] = match.group(2)
    return found


def lacking(pinned, local):
    """The pinned packages that have to be installed.

    Args:
        pinned (dict): from :func:`pins`.
        local (Local): its packages and whether its OpenCV imports.

    Returns:
        set: their names.
    """
    there = {normal(name): version for name, version in local.packages.items()}
    names = {
        name for name, version in pinned.items() if not _serves(name, version, there.get(name))
    }
    names.discard(OPENCV)
    if not local.cv2:
        names.add(OPENCV)
    return with_companions(names, pinned)


def _serves(name, version, there):
    if there is None or name in EXACT:
        return there == version
    return _numbers(there) >= _numbers(OLDEST.get(name, '0'))


def _numbers(version):
    """The numbers of a version, for comparison: '2.0.1rc1' -> (2, 0, 1)."""
    return tuple(int(n) for n in re.match(r'[\d.]*\d|', version).group().split('.') if n)


def with_companions(names, pinned):
    """Names, and what can't stay if these are installed."""
    return names | (set(ON_NUMPY) & set(pinned) if 'numpy' in names else set())


def without_wheel(names, pinned, folder, python):
    """What a wheel folder lacks, sorted, as name==version.

    Args:
        names (set): packages wanted.
        folder (str): of wheels.
        python (list): version that they are for.
    """
    files = [
        os.path.basename(path) for path in glob.glob(os.path.join(glob.escape(folder), '*.whl'))
    ]
    fitting = {
        (normal(name), version)
        for name, version, *tags in (file[: -len('.whl')].split('-') for file in files)
        if _fits(tags, python)
    }
    return sorted(
        f'{name}=={pinned[name]}' for name in names if (name, pinned[name]) not in fitting
    )


def _fits(tags, python):
    """Whether a wheel's tags, [build,] python, abi, platform, suit it."""
    abi = tags[-2].split('.')
    for tag in tags[-3].split('.'):
        if tag in ('py3', 'cp{}{}'.format(*python[:2])):
            return True
        if 'abi3' in abi and int(tag[len('cp3') :]) <= python[1]:
            return True
    return False
