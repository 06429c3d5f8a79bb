"""A data set of images with one class each, for weakly supervised localization."""

import numpy as np
from mmcv.transforms import TestTimeAug
from mmdet.datasets import BaseDetDataset
from mmengine.fileio import exists, isdir, join_path
from mmengine.logging import print_log
from mmengine.utils import is_abs

from mmgwap.registry import DATASETS

from .transforms import pack_image_labels, without_boxes
from .unreadable_images import UnreadableImageMixin
from .wsol_metadata import WSOLMetadata, read_wsol_metadata


@DATASETS.register_module()
class WSOLDataset(UnreadableImageMixin, BaseDetDataset):
    """A split in the layout of the WSOL evaluation's metadata.

    :mod:`mmgwap.datasets.wsol_metadata` describes the files. Boxes and masks are not loaded;
    ``WSOLMetric`` reads them.

    ``PackDetInputs`` at the end of the pipeline is replaced by ``PackPartialInputs``. Transforms
    that mix images are refused.

    Args:
        metadata_root (str): folder of the split, relative to ``data_root`` or absolute.
        check_files (bool): whether to check at loading time that each image exists. If false, a
            missing image is an error when it is loaded.
        on_bad_image (str): 'error' or 'skip', see :class:`UnreadableImageMixin`.
        data_root, data_prefix, metainfo, pipeline, indices, ...: as for mmdet's data sets.
            ``data_prefix=dict(img=...)`` is the folder to which paths in the metadata are relative.
            ``metainfo=dict(classes=...)`` names the classes in the order of their numbers. Without
            it the names are read from ``classes.txt``; without this file the names are the numbers,
            up to the largest in ``class_labels.txt``.

    Attributes:
        boxed (np.ndarray): (len(self), ) bool, all false.

    Raises:
        FileNotFoundError: if the folder of the images, ``image_ids.txt``, ``class_labels.txt`` or,
            with ``check_files``, an image is missing.
        ValueError: if a file is malformed, there are no images, or the classes do not match the
            labels or ``classes.txt``.
    """

    def __init__(self, *args, metadata_root: str, check_files: bool = False, **kwargs) -> None:
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
                'WSOLDataset: test-time augmentation (--tta) is not supported, because the maps of '
                'several views are not merged'
            )
        self.boxed = np.zeros(len(self), dtype=bool)
        self.pipeline = without_boxes(
            pack_image_labels(self.pipeline), 'the pipeline of WSOLDataset'
        )

    def load_data_list(self) -> list[dict]:
        """Read the class of each image, and its size if it is known."""
        if 'img' not in self.data_prefix:
            raise ValueError(
                "WSOLDataset: data_prefix=dict(img='...') must give the folder of the images"
            )
        folder = self.data_prefix['img']
        if not isdir(folder or '.', backend_args=self.backend_args):
            raise FileNotFoundError(
                f"{folder}: missing; data_prefix['img'] must be the folder of the images"
            )
        metadata = read_wsol_metadata(self.metadata_root, self.backend_args)
        if not metadata.labels:
            raise ValueError(f'{self.metadata_root}: image_ids.txt lists no images')
        self._metainfo['classes'] = self._class_names(metadata)
        data_list = [self._data_info(image, metadata) for image in metadata.labels]
        if self.check_files:
            self._check_files(data_list)
        print_log(
            f'{self.metadata_root}: {len(data_list)} images of '
            f'{len(self._metainfo["classes"])} classes',
            'current',
        )
        return data_list

    def _class_names(self, metadata: WSOLMetadata) -> tuple[str, ...]:
        """Return the class names of the config, of ``classes.txt``, or the numbers."""
        config = tuple(self._metainfo.get('classes') or ())
        listed = metadata.classes
        # Other names are allowed, another order of the same names is not.
        differ = config and listed and config != listed
        if differ and (len(config) != len(listed) or set(config) == set(listed)):
            raise ValueError(
                f'{self.metadata_root}: classes.txt lists {len(listed)} classes, {listed[:10]}, '
                f'and metainfo {len(config)}, {config[:10]}; metainfo must list the same number '
                'in the same order'
            )
        image, label = max(metadata.labels.items(), key=lambda item: item[1])
        names = config or listed
        if not names:
            names = tuple(map(str, range(label + 1)))
            print_log(
                f'{self.metadata_root}: neither classes.txt nor metainfo names the classes; they '
                f'are named 0 to {label}',
                'current',
            )
        if label >= len(names):
            raise ValueError(
                f'{self.metadata_root}: class_labels.txt gives {image} the class {label}, but '
                f'there are {len(names)} classes, counted from 0'
            )
        return names

    def _data_info(self, image: str, metadata: WSOLMetadata) -> dict:
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

    def _check_files(self, data_list: list[dict]) -> None:
        paths = [info['img_path'] for info in data_list]
        missing = [path for path in paths if not exists(path, backend_args=self.backend_args)]
        if missing:
            raise FileNotFoundError(
                f'{self.metadata_root}: {len(missing)} of {len(paths)} images are missing, such as '
                f'{missing[0]}'
            )

    def get_cat_ids(self, idx: int) -> list[int]:
        return self.get_data_info(idx)['image_labels']
