"""The classes that a config lists."""


def check_classes(metainfo: dict, who: str) -> tuple[str, ...]:
    """Names of the classes.

    Args:
        metainfo (dict): of a data set, with ``classes``.
        who (str): the data set, for errors.

    Raises:
        ValueError: if there are none, a name is not text, or comes twice.
    """
    classes = metainfo.get('classes')
    # Of a text each letter would be a class, and ('cat') is one.
    if (
        not isinstance(classes, (list, tuple))
        or not classes
        or not all(isinstance(name, str) for name in classes)
    ):
        raise ValueError(
            f"{who} needs metainfo=dict(classes=('cat', ...)), a list of names, got {classes!r:.80}"
        )
    twice = [name for name in classes if classes.count(name) > 1]
    if twice:
        raise ValueError(
            f'{who}: {twice[0]!r} comes {len(twice)} times in metainfo=dict(classes=...)'
        )
    return tuple(classes)
