"""A test set of VOC as its server gives it: images without annotations."""

import os.path as osp

from mmgwap.registry import DATASETS

from .voc import CheckedVOCDataset


@DATASETS.register_module()
class UnannotatedVOCDataset(CheckedVOCDataset):
    """The images of a list; no XML file is read, if there are any.

    Args:
        ann_file, data_prefix, pipeline, ...: as for mmdet's ``VOCDataset``.

    Raises:
        ValueError: unless ``test_mode``.
    """

    def __init__(self, *args, test_mode: bool = False, **kwargs) -> None:
        if not test_mode:
            raise ValueError('UnannotatedVOCDataset has no boxes to train on; set test_mode=True')
        super().__init__(*args, test_mode=test_mode, **kwargs)

    def parse_data_info(self, img_info: dict) -> dict:
        return dict(
            img_id=img_info['img_id'],
            instances=[],
            img_path=osp.join(self.sub_data_root, img_info['file_name']),
        )
