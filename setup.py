from pathlib import Path

from setuptools import find_packages, setup

version = {}
exec(Path('mmgwap/version.py').read_text(), version)

setup(
    name='mmgwap',
    version=version['__version__'],
    description='R-FCN, GWAP, LIP and partial-box supervision for MMDetection',
    long_description=Path('README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.8',
    packages=find_packages(include=['mmgwap', 'mmgwap.*']),
    # torch, mmengine, mmcv and mmdet are the user's own, in whichever
    # distribution; mmgwap checks them at import (mmgwap/host.py).
    install_requires=['numpy', 'packaging', 'pycocotools'],
    extras_require=dict(digits=['scikit-learn', 'tqdm']))
