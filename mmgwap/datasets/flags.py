"""Flags of images in annotation files."""
from xml.etree import ElementTree

import numpy as np
from mmdet.datasets import CocoDataset, XMLDataset
from mmengine.dataset import BaseDataset
from mmengine.fileio import get_text, load

YES, NO = ('1', 'true', 'yes'), ('0', 'false', 'no')


def read_flags(dataset: BaseDataset, flag: str) -> np.ndarray:
    """A yes or no of each image, out of the annotation file.

    Args:
        dataset: mmdet's COCO or VOC-layout data set.
        flag (str): key in the entries of ``images``, or element of the XML.

    Returns:
        np.ndarray: (len(dataset), ) bool.

    Raises:
        TypeError: if the data set is of another kind.
        ValueError: if an image has not got the flag, or another value than
            1, true, yes, 0, false or no.
    """
    backend = dataset.backend_args
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    if isinstance(dataset, CocoDataset):
        entries = {entry['id']: entry.get(flag)
                   for entry in load(dataset.ann_file, backend_args=backend)[
                       'images']}
        values = [(dataset.ann_file + f', image {info["img_id"]}',
                   entries[info['img_id']]) for info in infos]
    elif isinstance(dataset, XMLDataset):
        values = [(info['xml_path'], ElementTree.fromstring(
            get_text(info['xml_path'], backend_args=backend)).findtext(flag))
                  for info in infos]
    else:
        raise TypeError(f'flag={flag!r}: {type(dataset).__name__} is neither '
                        "mmdet's CocoDataset nor its XMLDataset; use "
                        'split_file')
    return np.array([_read(value, flag, where) for where, value in values])


def _read(value, flag: str, where: str) -> bool:
    text = str(value).strip().lower()
    if text not in YES + NO:
        raise ValueError(f'{where}: {flag} must be true or false, got '
                         f'{value!r}')
    return text in YES
