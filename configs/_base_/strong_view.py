# Augmentations between the teacher's view and the student's, those of mmdet's Soft Teacher:
# one change of colour, one geometric transform, and erased patches.
# A transform that moves pixels has to record `homography_matrix`, which places pseudo boxes.
strong_view = [
    dict(
        type='RandomOrder',
        transforms=[
            dict(
                type='RandAugment',
                aug_space=[
                    [dict(type='ColorTransform')],
                    [dict(type='AutoContrast')],
                    [dict(type='Equalize')],
                    [dict(type='Sharpness')],
                    [dict(type='Posterize')],
                    [dict(type='Solarize')],
                    [dict(type='Color')],
                    [dict(type='Contrast')],
                    [dict(type='Brightness')],
                ],
                aug_num=1,
            ),
            dict(
                type='RandAugment',
                aug_space=[
                    [dict(type='Rotate')],
                    [dict(type='ShearX')],
                    [dict(type='ShearY')],
                    [dict(type='TranslateX')],
                    [dict(type='TranslateY')],
                ],
                aug_num=1,
            ),
        ],
    ),
    dict(type='RandomErasing', n_patches=(1, 5), ratio=(0, 0.2)),
]
