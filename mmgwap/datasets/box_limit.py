"""A bound on the boxes of an image."""


class BoxLimit:
    """Mixin for a data set: an image with too many boxes is an error.

    Training compares each box of an image with each anchor.  A million boxes,
    as a faulty export gives them all to one image, would have the process
    killed for want of memory, without a word.

    Args:
        max_boxes_per_image (int): the largest data sets of detection have some
            thousands.
    """

    def __init__(self, *args, max_boxes_per_image: int = 10000, **kwargs) -> None:
        if type(max_boxes_per_image) is not int or max_boxes_per_image < 1:
            raise ValueError(
                f'max_boxes_per_image must be a whole number from 1, got {max_boxes_per_image!r}'
            )
        self.max_boxes_per_image = max_boxes_per_image
        super().__init__(*args, **kwargs)

    def _check_count(self, count: int, where: str) -> None:
        """Refuse the number of boxes of an image."""
        if count > self.max_boxes_per_image:
            raise ValueError(
                f'{where}: has {count} boxes, more than max_boxes_per_image='
                f'{self.max_boxes_per_image}; training would need memory for '
                'each of them and each anchor; correct the file, or raise '
                'that'
            )
