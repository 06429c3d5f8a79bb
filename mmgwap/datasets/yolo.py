"""Images with boxes or polygons in YOLO layout, see :mod:`mmgwap.datasets.yolo_files`."""

import logging

from mmdet.datasets import BaseDetDataset
from mmengine.fileio import get_local_path
from mmengine.logging import print_log
from PIL import ExifTags, Image

from mmgwap.registry import DATASETS

from .annotation_checks import AnnotationChecks, check_classes, is_degenerate
from .unreadable_images import UNKNOWN_SIDE, why_unreadable
from .yolo_files import (
    YOLOObject,
    drop_repeated,
    find_images,
    is_share,
    label_path,
    labels_without_image,
    read_data_yaml,
    read_labels,
)

TRANSPOSED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height


@DATASETS.register_module()
class YOLODataset(AnnotationChecks, BaseDetDataset):
    """A split of a data set in YOLO layout, with the checks of :class:`AnnotationChecks`.

    The id of an image is its path relative to the root of the data set, such as
    'images/train/a.jpg'. Sizes are read from the headers of the image files, turned by the EXIF
    orientation as the pipelines load the images.

    * An image without a label file, or with an empty label file, is background, as in
      Ultralytics. One line of the log counts them; it is a warning if most images have no label
      file. If none has, training is refused.
    * Label files without an image are counted in one warning.
    * Lines that repeat an earlier line of their file are dropped, with one warning.
    * Coordinates outside of [-0.01, 1.01] are an error. Boxes across the border are not clipped.
    * A polygon gives its tight box, and ``mask`` for ``LoadAnnotations(with_mask=True)``.

    To measure with mmdet's ``CocoMetric()`` without an ``ann_file``, add 'instances' to the
    ``meta_keys`` of ``PackDetInputs`` in the test pipeline.

    Data infos have ``dropped_labels``: classes of degenerate boxes. The image may show these
    classes.

    Args:
        ann_file (str): data.yaml, relative to ``data_root``.
        split (str): key of data.yaml that gives the images.
        metainfo (dict): its ``classes`` are names of data.yaml, in any order. By default all
            names, in the order of data.yaml.
        filter_cfg (dict): ``filter_empty_gt`` leaves out background, ``min_size`` images with a
            shorter side, in training.

    Raises:
        FileNotFoundError: if data.yaml, or a folder or list in it, does not exist.
        ValueError: if data.yaml or a label file is malformed, a class of the config is not in
            ``names``, or the header of an image cannot be read. The message has the path, and the
            line of a label file.
    """

    def __init__(self, ann_file: str = 'data.yaml', *args, split: str = 'train', **kwargs) -> None:
        self.split = split
        self._background = dict(missing=[], empty=[])  # images
        self._repeated = []  # label file and line of each repeated line
        self._outside = []  # label file and object with coordinates outside of [0, 1]
        super().__init__(ann_file, *args, **kwargs)

    def load_data_list(self) -> list[dict]:
        content = read_data_yaml(self.ann_file, self.backend_args)
        self._names = content['names']
        self._metainfo.setdefault('classes', tuple(self._names))
        classes = check_classes(self._metainfo, type(self).__name__)
        for name in classes:
            if name not in self._names:
                raise ValueError(
                    f'{self.ann_file}: names lacks {name!r}, a class of the config; it has '
                    f'{tuple(self._names)}'
                )
        self.cat2label = {name: label for label, name in enumerate(classes)}
        images = find_images(content, self.split, self.ann_file, self.backend_args)
        data_list = [
            self.parse_data_info(dict(img_id=name, img_path=path))
            for name, path in images.paths.items()
        ]
        self._check_range()
        self._report_background(len(data_list))
        self._report_dropped(labels_without_image(images, self.backend_args))
        return data_list

    def parse_data_info(self, raw_data_info: dict) -> dict:
        img_path = raw_data_info['img_path']
        path = label_path(img_path)
        objects = self._read_objects(path, img_path)
        width, height = self._size_of_image(img_path)
        boxes = [obj.box(width, height) for obj in objects]
        bad = is_degenerate(boxes, width, height)
        if bad.any():
            self._dropped[path] = int(bad.sum())
        instances, dropped = [], set()
        for obj, box, is_bad in zip(objects, boxes, bad):
            name = self._names[obj.category]
            if name not in self.cat2label:
                self._check_category(name, f'{path}, line {obj.line}')
            elif is_bad:
                dropped.add(self.cat2label[name])
            else:
                instance = dict(bbox=box, bbox_label=self.cat2label[name], ignore_flag=0)
                if obj.is_polygon():
                    instance['mask'] = [obj.polygon(width, height)]
                instances.append(instance)
        return dict(
            raw_data_info,
            width=width,
            height=height,
            instances=instances,
            dropped_labels=sorted(dropped),
        )

    def _read_objects(self, path: str, img_path: str) -> list[YOLOObject]:
        """Return the objects of a label file, and keep record of what is to be reported."""
        try:
            objects = read_labels(path, len(self._names), self.backend_args)
        except FileNotFoundError:
            self._background['missing'].append(img_path)
            return []
        if not objects:
            self._background['empty'].append(img_path)
        self._check_box_count(len(objects), path)
        self._outside += [(path, obj) for obj in objects if obj.is_outside()]
        objects, repeated = drop_repeated(objects)
        self._repeated += [(path, line) for line in repeated]
        return objects

    def _size_of_image(self, path: str) -> tuple[int, int]:
        """Return width and height as the pipelines load the image.

        An unreadable image that may be skipped has the size of the blank image that replaces it.
        """
        try:
            with get_local_path(path, backend_args=self.backend_args) as local:
                with Image.open(local) as image:
                    size = image.size
                    # The method of PNG images would decode the whole image.
                    exif = Image.Image.getexif(image)
                    turned = exif.get(ExifTags.Base.Orientation) in TRANSPOSED
                    # Pillow turns the size of a TIFF itself.
                    return size[::-1] if turned and image.format != 'TIFF' else size
        except Exception:  # each format has its own exceptions
            reason = why_unreadable(path, self.backend_args)
            if reason is None:
                raise
        message = f'{path} cannot be read, so that its size is unknown: {reason}'
        if self.on_bad_image != 'skip':
            raise ValueError(f"{message}; repair the file, or set on_bad_image='skip'")
        print_log(message, 'current', logging.WARNING)
        return UNKNOWN_SIDE, UNKNOWN_SIDE

    def _check_range(self) -> None:
        """Raise ValueError if coordinates are outside of the image, or in pixels."""
        if not self._outside:
            return
        path, obj = self._outside[0]
        value = next(value for value in obj.values if not is_share(value))
        count, files = len(self._outside), len({path for path, _ in self._outside})
        raise ValueError(
            f'{path}, line {obj.line}: coordinates must be in [0, 1], shares of width and height, '
            f'not pixels, got {value:g}; {count} lines in {files} label files have such coordinates'
        )

    def _report_background(self, count: int) -> None:
        missing, empty = self._background.values()
        message = f'{self.ann_file}, {self.split}: {count} images'
        if missing:
            message += (
                f', {len(missing)} without a label file, such as {missing[0]}, which would have '
                f'{label_path(missing[0])}'
            )
        if empty:
            message += f', {len(empty)} with an empty label file, such as {label_path(empty[0])}'
        if missing and len(missing) == count and not self.test_mode:
            raise ValueError(message)
        if missing or empty:
            message += '; these count as background'
        level = logging.WARNING if 2 * len(missing) > count else logging.INFO
        print_log(message, 'current', level)

    def _report_dropped(self, orphans: list[str]) -> None:
        where = f'{self.ann_file}, {self.split}'
        if orphans:
            print_log(
                f'{where}: {len(orphans)} label files have no image, such as {orphans[0]}',
                'current',
                logging.WARNING,
            )
        if self._repeated:
            path, line = self._repeated[0]
            print_log(
                f'{where}: dropped {len(self._repeated)} repeated lines in '
                f'{len({path for path, _ in self._repeated})} label files, the first in {path}, '
                f'line {line}',
                'current',
                logging.WARNING,
            )

    def filter_data(self) -> list[dict]:
        if self.filter_cfg and not self.test_mode:
            keeps_empty = not self.filter_cfg.get('filter_empty_gt', False)
            min_size = self.filter_cfg.get('min_size', 0)
            self.data_list = [
                info
                for info in self.data_list
                if (keeps_empty or info['instances'])
                and min(info['width'], info['height']) >= min_size
            ]
        return super().filter_data()
