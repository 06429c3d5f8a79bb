"""A split of four images in the metadata layout of the WSOL evaluation."""

import cv2
import numpy as np

SIZES = {'a/1.jpg': (60, 40), 'a/2.jpg': (50, 50), 'b/3.jpg': (30, 64), 'b/4.jpg': (60, 40)}
LABELS = dict(zip(SIZES, (0, 1, 2, 1)))
BOXES = {
    'a/1.jpg': [[10, 5, 40, 30]],
    'a/2.jpg': [[0, 0, 24, 24], [30, 30, 49, 49]],
    'b/3.jpg': [[4, 20, 25, 60]],
    'b/4.jpg': [[20, 10, 59, 39]],
}


def write_split(root, boxes=BOXES, masks=True):
    """Write metadata/ and masks/ below a folder."""
    files = {
        'image_ids.txt': SIZES,
        'class_labels.txt': [f'{image},{label}' for image, label in LABELS.items()],
        'image_sizes.txt': [
            f'{image},{width},{height}' for image, (width, height) in SIZES.items()
        ],
    }
    if boxes:
        files['localization.txt'] = [
            ','.join(map(str, (image, *box))) for image, each in boxes.items() for box in each
        ]
    if masks:
        files['masks.txt' if boxes else 'localization.txt'] = write_masks(root)
    (root / 'metadata').mkdir(exist_ok=True)
    for name, lines in files.items():
        (root / 'metadata' / name).write_text('\n'.join(lines) + '\n')
    return root / 'metadata'


def write_masks(root):
    """Write a mask per box, and for the first image a mask of pixels to ignore."""
    (root / 'masks').mkdir(exist_ok=True)
    lines = []
    for i, (image, each) in enumerate(BOXES.items()):
        for j, (x1, y1, x2, y2) in enumerate(each):
            mask = np.zeros(SIZES[image][::-1], np.uint8)
            mask[y1 : y2 + 1, x1 : x2 + 1] = 255
            cv2.imwrite(str(root / 'masks' / f'{i}_{j}.png'), mask)
            ignore = 'ignore.png' if i == j == 0 else ''
            lines.append(f'{image},{i}_{j}.png,{ignore}')
    mask = np.zeros((40, 60), np.uint8)
    mask[:, 35:50] = 255
    cv2.imwrite(str(root / 'masks' / 'ignore.png'), mask)
    return lines


def true_mask(image):
    """Draw the mask of an image: 1 object, 0 background, 255 ignored."""
    mask = np.zeros(SIZES[image][::-1], np.uint8)
    if image == 'a/1.jpg':
        mask[:, 35:50] = 255
    for x1, y1, x2, y2 in BOXES[image]:
        mask[y1 : y2 + 1, x1 : x2 + 1] = 1
    return mask
