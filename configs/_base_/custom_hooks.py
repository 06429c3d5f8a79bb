# A wrong number of classes is found, interrupted runs end as others do, NaN stops
# a run before it reaches the weights, and unreadable images are counted.
custom_hooks = [
    dict(type='NumClassCheckHook'),
    dict(type='mmgwap.ExactResumeHook'),
    dict(type='mmgwap.StopAtInvalidLossHook'),
    dict(type='mmgwap.BadImagesHook'),
]
