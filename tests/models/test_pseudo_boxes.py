"""Pseudo boxes, their thresholds and their statistics, compared with loops over plain numbers."""

import math

import pytest
import torch
from mmengine.structures import InstanceData

from mmgwap.models.task_modules.pseudo_boxes import (
    PseudoBoxStatistics,
    ScoreThresholds,
    count_matches,
    select_boxes,
)

CLASSES = 4


def make_boxes(labels, scores, bboxes=None) -> InstanceData:
    labels = torch.tensor(labels, dtype=torch.int64)
    if bboxes is None:
        bboxes = torch.arange(4.0 * len(labels))
    return InstanceData(
        bboxes=torch.as_tensor(bboxes, dtype=torch.float32).reshape(-1, 4),
        labels=labels,
        scores=torch.tensor(scores, dtype=torch.float32),
    )


def iou(a, b) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    inter = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return inter / max(sum(areas) - inter, 1e-9)


def select_by_loop(boxes, thresholds, known, best_score, max_overlap) -> list[int]:
    """Return the indices of the boxes that pass, in the order in which they are selected."""
    bboxes, labels, scores = (boxes[key].tolist() for key in ('bboxes', 'labels', 'scores'))
    states = [-1] * CLASSES if known is None else known
    order = sorted(range(len(labels)), key=lambda i: (-scores[i], i))
    selected = []

    def select(i) -> bool:
        if any(iou(bboxes[i], bboxes[j]) > max_overlap for j in selected):
            return False
        selected.append(i)
        return True

    if best_score is not None:
        full = set()
        for i in order:
            if states[labels[i]] == 1 and scores[i] >= best_score and labels[i] not in full:
                if select(i):
                    full.add(labels[i])
    for i in order:
        if states[labels[i]] != 0 and scores[i] >= thresholds[labels[i]] and i not in selected:
            select(i)
    return selected


@pytest.mark.parametrize('seed', range(4))
def test_selection_equals_a_loop(seed):
    """Scores are multiples of 1/8, so they are often equal to each other and to a threshold."""
    generator = torch.Generator().manual_seed(seed)

    def draw(high, *shape):
        return torch.randint(0, high, shape, generator=generator)

    for count in [0, 1, 2, 5, 12] * 8:
        corner = draw(3, count, 2) * 8
        bboxes = torch.cat([corner, corner + 8 * (1 + draw(2, count, 2))], dim=1)
        boxes = make_boxes(draw(CLASSES, count).tolist(), (draw(9, count) / 8).tolist(), bboxes)
        thresholds, known = draw(10, CLASSES) / 8, draw(3, CLASSES) - 1
        best_score = [None, 0.125, 0.5, 1.0][draw(4)]
        max_overlap = [0.0, 0.5, 0.6, 1.0][draw(4)]  # an IoU of exactly 0.5 is frequent
        for state in (None, known):
            listed = None if state is None else state.tolist()
            expected = select_by_loop(boxes, thresholds.tolist(), listed, best_score, max_overlap)
            state = None if state is None else state.float()
            found = select_boxes(boxes, thresholds, state, best_score, max_overlap)
            for key in ('bboxes', 'labels', 'scores'):
                assert torch.equal(found[key], boxes[key][torch.tensor(expected).long()])


FAR = [[20 * i, 0, 20 * i + 9, 9] for i in range(4)]


@pytest.mark.parametrize(
    'known, best_score, bboxes, expected',
    [
        (None, 0.1, FAR, [0]),  # without labels, only the thresholds count
        ([1, 1, -1], 0.1, FAR, [0, 1]),  # the first of equal scores is the best
        ([1, 1, -1], 0.25, FAR, [0, 1]),
        ([1, 1, -1], 0.26, FAR, [0]),  # the best box is too bad
        ([1, 1, -1], None, FAR, [0]),
        ([0, 1, 1], 0.1, FAR, [1, 3]),  # an absent class, whatever its score
        ([1, -1, -1], 0.0, FAR, [0]),  # no exception for unknown classes
        # Present classes choose before an unknown class, whose score is higher.
        ([-1, 1, -1], 0.1, [FAR[0], FAR[0], FAR[2], FAR[3]], [1]),
        # The second box of a class replaces the first, whose object is taken.
        ([1, 1, -1], 0.1, [FAR[0], FAR[0], FAR[2], FAR[3]], [0, 2]),
        (None, None, [FAR[0]] * 4, [0]),
    ],
)
def test_selected_boxes(known, best_score, bboxes, expected):
    boxes = make_boxes([0, 1, 1, 2], [0.75, 0.25, 0.25, 0.125], bboxes)
    known = None if known is None else torch.tensor(known).float()
    found = select_boxes(boxes, torch.tensor([0.75, 0.5, 0.5]), known, best_score)
    assert torch.equal(found.scores, boxes.scores[expected])
    assert torch.equal(found.bboxes, boxes.bboxes[expected])


def thresholds_by_loop(steps, limits, ratio, window) -> list[float]:
    """Return the thresholds after steps of (labels of boxes, labels and scores of detections)."""
    boxes, detections = [0.0] * CLASSES, []  # detections as (label, hundredths, weight)
    boxed_images = other_images = 0.0
    for boxed, others in steps:
        decay = math.exp(-len(boxed) / window)
        boxes = [count * decay for count in boxes]
        boxed_images = boxed_images * decay + len(boxed)
        for label in sum(boxed, []):
            boxes[label] += 1
        decay = math.exp(-len(others) / window)
        detections = [(label, score, weight * decay) for label, score, weight in detections]
        other_images = other_images * decay + len(others)
        detections += [(label, score, 1.0) for label, score in sum(others, [])]
    if min(boxed_images, other_images) < window / 10:
        return [limits[1]] * CLASSES
    thresholds = []
    for label in range(CLASSES):
        wanted = ratio * boxes[label] / boxed_images * other_images
        passing = (
            edge
            for edge in range(101)
            if sum(w for own, score, w in detections if own == label and score >= edge)
            <= wanted + 1e-4
        )
        thresholds.append(min(max(next(passing) / 100, limits[0]), limits[1]))
    return thresholds


@pytest.mark.parametrize('limits', [(0.0, 1.0), (0.3, 0.9), (0.5, 0.5), (2.0, 2.0)])
@pytest.mark.parametrize('ratio, window', [(1.0, 50), (0.5, 8), (2.0, 1000)])
def test_thresholds_equal_a_loop(limits, ratio, window):
    generator = torch.Generator().manual_seed(window)
    module, steps = ScoreThresholds(CLASSES, limits, ratio, window), []
    differ = 0
    for _ in range(16):
        # Steps without images of a kind, images without boxes, classes without boxes.
        counts = torch.randint(0, 4, (2,), generator=generator).tolist()
        labels = [
            torch.randint(0, CLASSES - 1, (n % 4,), generator=generator).tolist()
            for n in range(counts[0])
        ]
        # Scores lie within bins, the last in the bin that includes 1.
        others = [
            torch.randint(0, 100, (12, 2), generator=generator).remainder(
                torch.tensor([CLASSES, 100])
            )
            for _ in range(counts[1])
        ]
        steps.append((labels, [pairs.tolist() for pairs in others]))
        module.update(
            [make_boxes(row, [0] * len(row)) for row in labels],
            [
                make_boxes(
                    pairs[:, 0].tolist(),
                    [1.0 if s == 99 else (s + 0.5) / 100 for s in pairs[:, 1].tolist()],
                )
                for pairs in others
            ],
        )
        expected = thresholds_by_loop(steps, limits, ratio, window)
        assert module().tolist() == pytest.approx(expected, abs=1e-6)
        differ += len(set(expected)) > 1
    assert (differ > 3) == (limits[0] < limits[1] and window < 1000)


def test_thresholds_count_detections_at_or_above():
    """Detections score 0.05, 0.15, ... 0.95; as many pass as the other image has boxes."""
    module = ScoreThresholds(1, (0.0, 1.0), 1.0, window=10)
    detections = make_boxes([0] * 10, [i / 10 + 0.05 for i in range(10)])
    for boxes in (3, 10, 0):
        module.boxes.zero_(), module.scores.zero_(), module.images.zero_()
        module.update([make_boxes([0] * boxes, [0] * boxes)], [detections])
        threshold = float(module())
        assert int((detections.scores >= threshold).sum()) == boxes


@pytest.mark.parametrize('boxed, others, begun', [(5, 4, False), (4, 5, False), (5, 5, True)])
def test_thresholds_begin_after_a_tenth_of_the_window(boxed, others, begun):
    module = ScoreThresholds(CLASSES, (0.3, 0.9), 1.0, window=50)
    # Without decay, since all images come at once.
    module.update([make_boxes([0], [0])] * boxed, [make_boxes([0], [0.5])] * others)
    assert module().tolist() == pytest.approx([0.3 if begun else 0.9] * CLASSES)


def matches_by_loop(pseudo, true) -> list[int]:
    matched, free = [0] * CLASSES, set(range(len(true)))
    order = sorted(range(len(pseudo)), key=lambda i: -float(pseudo.scores[i]))
    for i in order:
        label = int(pseudo.labels[i])
        candidates = [
            (iou(pseudo.bboxes[i].tolist(), true.bboxes[j].tolist()), -j)
            for j in sorted(free)
            if int(true.labels[j]) == label
        ]
        if candidates and max(candidates)[0] >= 0.5:
            free.remove(-max(candidates)[1])
            matched[label] += 1
    return matched


@pytest.mark.parametrize('equal_scores', [False, True])
def test_matches_equal_a_loop(equal_scores):
    """Boxes crowd on a coarse grid, so that some overlaps are equal, and some are exactly 0.5."""
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(CLASSES)
    for trial in range(60):
        boxes = []
        for count in (trial % 9, (trial // 3) % 7):
            corner = torch.randint(0, 2, (count, 2), generator=generator) * 4.0
            size = torch.randint(1, 4, (count, 2), generator=generator) * 4.0
            labels = torch.randint(0, CLASSES - 1, (count,), generator=generator).tolist()
            scores = torch.rand(count, generator=generator).tolist()
            scores = [0.5] * count if equal_scores else scores
            boxes.append(make_boxes(labels, scores, torch.cat([corner, corner + size], dim=1)))
        found = count_matches(*boxes, CLASSES)
        assert found.tolist() == matches_by_loop(*boxes)
        total += found
    assert total[: CLASSES - 1].min() > 5 and total[-1] == 0


def test_matches_are_greedy_in_the_order_of_the_scores():
    true = make_boxes([1, 1], [0, 0], [[0, 0, 10, 10], [0, 0, 10, 6]])
    # The better box takes the first true box. Only the first is close to the other pseudo box.
    pseudo = make_boxes([1, 1], [0.2, 0.9], [[0, 0, 10, 20], [0, 0, 10, 9]])
    assert count_matches(pseudo, true, 2).tolist() == [0, 1]
    pseudo.scores = pseudo.scores.flip(0)
    assert count_matches(pseudo, true, 2).tolist() == [0, 2]
    half = make_boxes([1], [0.5], [[0, 0, 10, 5]])  # IoU 0.5 with the first alone
    assert count_matches(half, true[:1], 2).tolist() == [0, 1]
    assert count_matches(half, make_boxes([0], [0], [[0, 0, 10, 5]]), 2).tolist() == [0, 0]
    empty = make_boxes([], [])
    assert (
        count_matches(empty, true, 2).tolist() == count_matches(half, empty, 2).tolist() == [0, 0]
    )


def test_statistics_equal_a_loop():
    window, module = 20, PseudoBoxStatistics(CLASSES, 20)
    assert module.summary()['pseudo_boxes_per_image'] == 0
    generator = torch.Generator().manual_seed(0)
    counts, images = [[0.0] * CLASSES for _ in range(5)], [0.0] * 4
    for step in range(12):
        new = torch.randint(0, 9, (5, CLASSES), generator=generator).float()
        # Steps without images leave the counts as they are.
        new_images = torch.tensor([step % 4, 2, 1, 1]).float()
        module.update(new.clone(), new_images.clone())
        decay = math.exp(-(step % 4) / window)
        images = [old * decay + float(value) for old, value in zip(images, new_images)]
        counts = [
            [old * decay + float(value) for old, value in zip(*rows)] for rows in zip(counts, new)
        ]
    pseudo, _, true, matched, judged = map(sum, counts)
    expected = dict(
        pseudo_boxes_per_image=pseudo / images[0],
        pseudo_left_out=images[1] / images[0],
        pseudo_masked=images[2] / images[0],
        pseudo_precision=matched / judged,
        pseudo_recall=matched / true,
    )
    assert module.summary() == pytest.approx(expected, rel=1e-5)
    module.counts[module.TRUE] = 0
    assert not {'pseudo_precision', 'pseudo_recall'} & set(module.summary())
