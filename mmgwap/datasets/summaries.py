"""What a data set says of its images, and where the images are."""

from typing import NamedTuple, Union

from mmengine.dataset import BaseDataset, ConcatDataset


class Summary(NamedTuple):
    """Labels of an image.

    Attributes:
        id: as in the annotation file.
        present: classes of its boxes.
        ignored: classes of ignored boxes (crowds, difficult objects) or of
            boxes dropped as degenerate alone.
    """

    id: Union[int, str]
    present: set[int]
    ignored: set[int]


def summarise(info: dict) -> Summary:
    """Summary of what a data set's ``get_data_info`` gives."""
    instances = info.get('instances', [])
    present = {one['bbox_label'] for one in instances if not one.get('ignore_flag')}
    ignored = {one['bbox_label'] for one in instances}
    ignored.update(info.get('dropped_labels', ()))
    return Summary(info.get('img_id'), present, ignored - present)


def leaves(dataset: Union[BaseDataset, ConcatDataset]) -> list[BaseDataset]:
    """The data sets that hold the images, in order.

    Raises:
        TypeError: if there is another wrapper than ``ConcatDataset``, or a data
            set that never had boxes.
    """
    if isinstance(dataset, ConcatDataset):
        return [leaf for part in dataset.datasets for leaf in leaves(part)]
    # One that says which images have boxes is of this package.
    if isinstance(dataset, BaseDataset) and not hasattr(dataset, 'boxed'):
        return [dataset]
    raise TypeError(
        f'PartialBoxDataset cannot wrap a {type(dataset).__name__}: it wraps '
        'data sets with boxes, or a ConcatDataset of such; others go around '
        'it, or beside it'
    )


def summaries(dataset: Union[BaseDataset, ConcatDataset]) -> list[Summary]:
    """Summaries of all images."""
    return [summarise(leaf.get_data_info(i)) for leaf in leaves(dataset) for i in range(len(leaf))]
