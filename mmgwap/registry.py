"""The nodes of mmgwap in mmengine's tree of registries.

Write ``type='mmgwap.RFCN'`` in a config and mmengine finds it, whatever the
default scope.
"""

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import TASK_UTILS as MMENGINE_TASK_UTILS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='mmgwap', locations=['mmgwap.models'])
TASK_UTILS = Registry(
    'task util', parent=MMENGINE_TASK_UTILS, scope='mmgwap', locations=['mmgwap.models']
)
DATASETS = Registry(
    'dataset', parent=MMENGINE_DATASETS, scope='mmgwap', locations=['mmgwap.datasets']
)
TRANSFORMS = Registry(
    'transform',
    parent=MMENGINE_TRANSFORMS,
    scope='mmgwap',
    locations=['mmgwap.datasets.transforms'],
)
DATA_SAMPLERS = Registry(
    'data sampler',
    parent=MMENGINE_DATA_SAMPLERS,
    scope='mmgwap',
    locations=['mmgwap.datasets.samplers'],
)
METRICS = Registry(
    'metric', parent=MMENGINE_METRICS, scope='mmgwap', locations=['mmgwap.evaluation']
)
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='mmgwap', locations=['mmgwap.engine'])
