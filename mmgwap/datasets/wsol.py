"""Images of one class each, for localization learnt from labels alone."""

import numpy as np
from mmcv.transforms import TestTimeAug
from mmdet.datasets import BaseDetDataset
from mmengine.fileio import exists, isdir, join_path
from mmengine.logging import print_log
from mmengine.utils import is_abs

from mmgwap.argument_checks import check_flag, check_text
from mmgwap.registry import DATASETS

from .bad_images import BadImages
from .partial_pipeline import adapt_pipeline, for_labels
from .wsol_metadata import WSOLMetadata, read_wsol_metadata


@DATASETS.register_module()
class WSOLDataset(BadImages, BaseDetDataset):
    """A split in the layout of the WSOL evaluation's metadata.

    See :mod:`mmgwap.datasets.wsol_metadata` for its files.  Where the objects
    are is not read: that is for ``WSOLMetric``.

    A pipeline that ends in ``PackDetInputs`` ends in ``PackPartialInputs``
    instead; one that mixes images is refused.

    Args:
        metadata_root (str): the folder of the split, below ``data_root``
            unless it is absolute.
        check_files (bool): whether to look at the start if each image is
            there.  Else a missing one is named when its turn comes.
        on_bad_image (str): 'error' or 'skip', see :class:`BadImages`.
        data_root, data_prefix, metainfo, pipeline, indices, ...: as for
            mmdet's data sets.  ``data_prefix=dict(img=...)`` is the folder
            that the paths in the metadata begin at.  ``metainfo=dict(
            classes=...)`` names the classes in the order of their numbers;
            without it ``classes.txt`` does; without both, their numbers are
            their names, up to the largest on any image.

    Attributes:
        boxed (np.ndarray): (len(self), ) bool, all false.

    Raises:
        FileNotFoundError: if the folder of the images, ``image_ids.txt``,
            ``class_labels.txt`` or, with ``check_files``, an image is missing.
        ValueError: if a file is not as described, there is no image, or the
            classes do not fit the labels or ``classes.txt``.
    """

    def __init__(self, *args, metadata_root: str, check_files: bool = False, **kwargs) -> None:
        check_text(metadata_root, 'WSOLDataset: metadata_root')
        check_flag(check_files, 'WSOLDataset: check_files')
        self.metadata_root, self.check_files = metadata_root, check_files
        super().__init__(*args, **kwargs)

    def _join_prefix(self) -> None:
        super()._join_prefix()
        if self.data_root and not is_abs(self.metadata_root):
            self.metadata_root = join_path(self.data_root, self.metadata_root)

    def full_init(self) -> None:
        if self._fully_initialized:
            return
        super().full_init()
        if isinstance(self.pipeline.transforms[-1], TestTimeAug):
            raise ValueError(
                'WSOLDataset: test-time augmentation (--tta) is '
                'not supported, since maps of several views are '
                'not merged; test without it'
            )
        self.boxed = np.zeros(len(self), dtype=bool)
        self.pipeline = for_labels(adapt_pipeline(self.pipeline), 'the pipeline of WSOLDataset')

    def load_data_list(self) -> list[dict]:
        """Read the class of each image, and its size if that is known."""
        if 'img' not in self.data_prefix:
            raise ValueError(
                "WSOLDataset needs data_prefix=dict(img='...'), the folder of the images"
            )
        folder = self.data_prefix['img']
        if not isdir(folder or '.', backend_args=self.backend_args):
            raise FileNotFoundError(
                f"{folder}: missing, the folder of the images, data_prefix['img']"
            )
        metadata = read_wsol_metadata(self.metadata_root, self.backend_args)
        if not metadata.labels:
            raise ValueError(f'{self.metadata_root}: image_ids.txt lists no image')
        self._metainfo['classes'] = self._classes(metadata)
        data_list = [self._info(image, metadata) for image in metadata.labels]
        if self.check_files:
            self._find(data_list)
        print_log(
            f'{self.metadata_root}: {len(data_list)} images of '
            f'{len(self._metainfo["classes"])} classes',
            'current',
        )
        return data_list

    def _classes(self, metadata: WSOLMetadata) -> tuple[str, ...]:
        """The names of the classes, one for each label."""
        given = tuple(self._metainfo.get('classes') or ())
        listed = metadata.classes
        if (
            given
            and listed
            and given != listed
            and (len(given) != len(listed) or set(given) == set(listed))
        ):
            raise ValueError(
                f'{self.metadata_root}: classes.txt has {len(listed)} classes,'
                f' {listed[:10]}, and metainfo {len(given)}, {given[:10]}; '
                'give the same number in the same order, or none'
            )
        image, label = max(metadata.labels.items(), key=lambda item: item[1])
        names = given or listed
        if not names:
            names = tuple(map(str, range(label + 1)))
            print_log(
                f'{self.metadata_root}: neither classes.txt nor metainfo'
                f' names the classes; taken for 0 to {label}',
                'current',
            )
        if label >= len(names):
            raise ValueError(
                f'{self.metadata_root}: class_labels.txt gives {image} the '
                f'class {label}, and there are {len(names)} classes, counted '
                'from 0'
            )
        return names

    def _info(self, image: str, metadata: WSOLMetadata) -> dict:
        info = dict(
            img_id=image,
            img_path=join_path(self.data_prefix['img'], image, backend_args=self.backend_args),
            image_labels=[metadata.labels[image]],
            ignored_image_labels=[],
            has_boxes=False,
            instances=[],
        )
        if image in metadata.sizes:
            info['width'], info['height'] = metadata.sizes[image]
        return info

    def _find(self, data_list: list[dict]) -> None:
        missing = [
            info['img_path']
            for info in data_list
            if not exists(info['img_path'], backend_args=self.backend_args)
        ]
        if missing:
            raise FileNotFoundError(
                f'{self.metadata_root}: {len(missing)} of {len(data_list)} '
                f'images are missing, such as {missing[0]}'
            )

    def get_cat_ids(self, idx: int) -> list[int]:
        return self.get_data_info(idx)['image_labels']
