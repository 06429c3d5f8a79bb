# mmgwap's registered classes and the hooks of every run. In this order they check the
# number of classes, make a resumed run equal to an uninterrupted run, stop at a loss
# that is not finite, and count unreadable images.
custom_imports = dict(imports=['mmgwap'], allow_failed_imports=False)

custom_hooks = [
    dict(type='NumClassCheckHook'),
    dict(type='mmgwap.ExactResumeHook'),
    dict(type='mmgwap.StopAtInvalidLossHook'),
    dict(type='mmgwap.BadImagesHook'),
]
