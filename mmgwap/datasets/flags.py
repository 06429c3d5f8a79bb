"""Flags of images in annotation files."""

from typing import Optional

import numpy as np
from mmdet.datasets import CocoDataset, XMLDataset
from mmengine.dataset import BaseDataset
from mmengine.fileio import get

from .coco_file import read_entries
from .text_files import read_json
from .xml_file import parse_xml

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
    if not (isinstance(flag, str) and flag):
        raise ValueError(f'flag must be the name of a key, got {flag!r:.80}')
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    if isinstance(dataset, CocoDataset):
        where = dataset.ann_file
        images, _, _ = read_entries(read_json(where, dataset.backend_args), where, annotated=False)
        flags = {image['id']: image.get(flag) for image in images}
        values = [(f'{where}, image {info["img_id"]!r}', flags[info['img_id']]) for info in infos]
    elif isinstance(dataset, XMLDataset):
        values = [(info['xml_path'], _in_xml(dataset, info['xml_path'], flag)) for info in infos]
    else:
        raise TypeError(
            f'flag={flag!r}: {type(dataset).__name__} is neither '
            "mmdet's CocoDataset nor its XMLDataset; use "
            'split_file'
        )
    return np.array([_read(value, flag, where) for where, value in values])


def _in_xml(dataset: XMLDataset, path: str, flag: str) -> Optional[str]:
    root = parse_xml(get(path, backend_args=dataset.backend_args), path)
    try:
        found = root.findall(flag)
    except (SyntaxError, KeyError):  # the second for an unknown prefix
        raise ValueError(f'flag={flag!r}: is no path of an XML element') from None
    if len(found) > 1:
        raise ValueError(f'{path}: has {flag} {len(found)} times')
    return found[0].text if found else None


def _read(value, flag: str, where: str) -> bool:
    text = str(value).strip().lower()
    if text not in YES + NO:
        raise ValueError(f'{where}: {flag} must be true or false, got {value!r:.80}')
    return text in YES
