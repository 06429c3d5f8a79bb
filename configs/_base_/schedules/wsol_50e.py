# The schedule of wsol_10e.py with 50 epochs, for small data sets.
_base_ = 'wsol_10e.py'

max_epochs = 50
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
param_scheduler = [
    dict(type='StepLR', step_size=15, gamma=0.1, begin=0, end=max_epochs, by_epoch=True)
]
