# Boxes for 10 % of the images, labels for the others: a teacher finds pseudo boxes. This is
# the second stage after rfcn_r18_digits-p10-boxes-only.
_base_ = [
    '../_base_/models/rfcn_r18_small.py',
    '../_base_/datasets/digits_two_views.py',
    '../_base_/schedules/adamw_1500.py',
    '../_base_/default_runtime.py',
]

load_from = 'work_dirs/rfcn_r18_digits-p10-boxes-only/iter_1000.pth'
detector = _base_.model
detector.roi_head.bbox_head.num_classes = 10
# After the first stage, the best box of a present class may have a low score.
detector.test_cfg.rcnn.score_thr = 0.001
model = dict(_delete_=True, type='mmgwap.LabelGuidedTeacher', detector=detector, best_score=0.01)
custom_hooks = [*_base_.custom_hooks, dict(type='mmgwap.MeanTeacherHook', momentum=0.01)]
default_hooks = dict(checkpoint=dict(interval=500), logger=dict(interval=50))
auto_scale_lr = dict(base_batch_size=8)
