"""What the submissions to all evaluation servers have in common."""

from collections.abc import Hashable, Sequence


class SubmissionError(ValueError):
    """Results that a server would refuse, or take for other ones."""


def check_tested(tested: Sequence[Hashable], wanted: Sequence[Hashable], where: str) -> None:
    """Refuse results that are not of all images of a test set.

    An image without detections counts as tested.

    Args:
        tested (sequence): ids of the images that the model saw.
        wanted (sequence): ids of the test set.
        where (str): the file that lists them, for the message.

    Raises:
        SubmissionError: if an image is missing, strange or tested twice.
    """
    missing = set(wanted) - set(tested)
    if missing:
        raise SubmissionError(
            f'{where}: {len(missing)} of its {len(set(wanted))} images were '
            f'not tested, such as {min(missing)!r}; test on the whole set, '
            'without indices or a filter'
        )
    strange = set(tested) - set(wanted)
    if strange:
        raise SubmissionError(
            f'{where}: does not list {len(strange)} images that were tested, '
            f'such as {min(strange)!r}; give the data set and the metric the '
            'same file'
        )
    if len(tested) > len(set(tested)):
        raise SubmissionError(f'{where}: {len(tested) - len(set(tested))} images were tested twice')
