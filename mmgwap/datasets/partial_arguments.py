"""What PartialBoxDataset may be given."""

from typing import Any

from mmgwap.argument_checks import check_config, check_flag, check_number, check_text, check_whole

from .reports import UNLABELLED


def check_partial_arguments(
    dataset: Any, choices: dict, seed: Any, label_pipeline: Any, unlabelled: Any, **flags
) -> None:
    """Refuse what is of another kind, or outside of its range.

    Args:
        choices (dict): ``percent``, ``split_file`` and ``flag``.
        **flags: true or false, by name.
        dataset, seed, label_pipeline, unlabelled: of ``PartialBoxDataset``.

    Raises:
        ValueError: with the argument's name.
    """
    if sum(value is not None for value in choices.values()) != 1:
        raise ValueError(
            f'PartialBoxDataset needs exactly one of percent, split_file and flag, got {choices}'
        )
    if unlabelled not in UNLABELLED:
        raise ValueError(f'unlabelled must be one of {UNLABELLED}, got {unlabelled!r}')
    if isinstance(dataset, dict):
        check_config(dataset, 'PartialBoxDataset: dataset')
    elif not hasattr(dataset, 'full_init'):
        raise ValueError(
            'PartialBoxDataset: dataset must be a data set, or '
            f'a dict(type=...), got {dataset!r:.80}'
        )
    if choices['percent'] is not None:
        check_number(choices['percent'], 'PartialBoxDataset: percent', 0, 100)
    for name in ('split_file', 'flag'):
        if choices[name] is not None:
            check_text(choices[name], f'PartialBoxDataset: {name}')
    check_whole(seed, 'PartialBoxDataset: seed', 0, 2**32 - 1)
    for name, value in flags.items():
        check_flag(value, f'PartialBoxDataset: {name}')
    if label_pipeline is not None and not (
        isinstance(label_pipeline, (list, tuple))
        and label_pipeline
        and all(callable(one) or isinstance(one, dict) and 'type' in one for one in label_pipeline)
    ):
        raise ValueError(
            'PartialBoxDataset: label_pipeline must be a list of '
            f'dict(type=...), got {label_pipeline!r:.80}'
        )
