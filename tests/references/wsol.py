"""The WSOL evaluation's measures, threshold by threshold, pixel by pixel."""

import cv2
import numpy as np


def normalized(score_map: np.ndarray) -> np.ndarray:
    score_map = score_map.copy()
    if score_map.min() == score_map.max():
        return np.zeros_like(score_map)
    score_map -= score_map.min()
    score_map /= score_map.max()
    return score_map


def iou(a: list, b: list) -> float:
    """Return the IoU of two boxes whose corner pixels both belong to the box."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    overlap = width * height if width > 0 and height > 0 else 0
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return overlap / (areas[0] + areas[1] - overlap)


def contour_boxes(image: np.ndarray, level: int) -> list:
    """Area and box of each contour above a level of a whole uint8 image."""
    height, width = image.shape
    _, mask = cv2.threshold(image, level, 255, cv2.THRESH_BINARY)
    contours = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[-2]
    found = []
    for contour in contours:
        x, y, w, h = cv2.boundingRect(contour)
        found.append(
            (cv2.contourArea(contour), [x, y, min(x + w, width - 1), min(y + h, height - 1)])
        )
    return found or [(0, [0, 0, 0, 0])]


def box_accuracies(maps: list, boxes: list, interval: float, ious: tuple) -> dict:
    """V1, its threshold, V2 and each IoU's share, in percent."""
    thresholds = np.arange(0, 1, interval)
    single = np.zeros(len(thresholds))
    multiple = np.zeros((len(ious), len(thresholds)))
    for score_map, truth in zip(maps, boxes):
        image = (normalized(score_map) * 255).astype(np.uint8)
        for i, threshold in enumerate(thresholds):
            found = contour_boxes(image, int(threshold * np.max(image)))
            overlaps = [max(iou(box, true) for true in truth) for _, box in found]
            areas = [area for area, _ in found]
            single[i] += overlaps[areas.index(max(areas))] >= 0.5
            for j, wanted in enumerate(ious):
                multiple[j, i] += max(overlaps) >= wanted
    single, multiple = (100 * hits / len(maps) for hits in (single, multiple))
    bests = [max(row) for row in multiple]
    return dict(
        max_box_acc=max(single),
        max_box_acc_threshold=thresholds[list(single).index(max(single))],
        max_box_acc_v2=sum(bests) / len(bests),
        **{f'max_box_acc_v2_{round(100 * j)}': best for j, best in zip(ious, bests)},
    )


def px_ap(maps: list, masks: list, interval: float) -> float:
    """In percent; at each threshold all pixels are counted anew."""
    scores = np.concatenate([normalized(one).ravel().astype(np.float64) for one in maps])
    truth = np.concatenate([mask.ravel() for mask in masks])
    positives, total, last = (truth == 1).sum(), 0.0, 0.0
    for threshold in [1.0, *np.arange(0, 1, interval)[::-1]]:
        taken = scores >= threshold
        true, false = (taken & (truth == 1)).sum(), (taken & (truth == 0)).sum()
        recall = true / positives
        if true + false:
            total += true / (true + false) * (recall - last)
        last = recall
    return 100 * total
