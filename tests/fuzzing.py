"""Settings and values that the fuzz tests share.

``MMGWAP_FUZZ=5000 python -m pytest tests/datasets/test_fuzz_annotations.py``
tries other and more examples than the few of each ordinary run, which are
always the same.
"""

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get('MMGWAP_FUZZ', 0))
fuzz = settings(
    max_examples=EXAMPLES or 100,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

NUMBERS = st.one_of(
    st.integers(-3, 70),
    st.floats(-3, 70),
    st.sampled_from(
        [
            10**9,
            -(10**9),
            2**24,
            10**30,
            10**400,
            1e30,
            1e308,
            -1e308,
            float('nan'),
            float('inf'),
            -float('inf'),
            0.5,
            -0.0,
            1e-308,
        ]
    ),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    st.text(max_size=4),
    st.sampled_from(['1', 'nan', '5', 'cat', '\n', '\x00', '\ud800', '../..']),
)
JUNK = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=5),
    st.lists(NUMBERS, min_size=4, max_size=4),
    st.dictionaries(st.sampled_from(['id', 'bbox', 'x']), SCALARS, max_size=2),
)


def damaged(data):
    """Bytes of which some are others, missing, or doubled."""

    def damage(place, kind, byte):
        place = place % max(len(data), 1)
        if kind == 'cut':
            return data[:place]
        if kind == 'other':
            return data[:place] + bytes([byte]) + data[place + 1 :]
        if kind == 'less':
            return data[:place] + data[place + 1 + byte % 8 :]
        return data[:place] + data[max(place - byte, 0) :]

    return st.builds(
        damage,
        st.integers(0, 10**6),
        st.sampled_from(['cut', 'other', 'less', 'twice']),
        st.integers(0, 255),
    )
