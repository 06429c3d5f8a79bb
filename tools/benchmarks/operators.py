"""Time position-sensitive voting against pooling the bins and averaging.

Each contender's result and gradient are checked against the others' before
the clock starts.
"""
import argparse
from pathlib import Path

import torch
from timing import measure, report

from mmgwap.ops import ps_roi_align, ps_roi_pool, ps_roi_vote

BINS, SCALE = 7, 1 / 16


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--rois', type=int, nargs='+', default=[300])
    parser.add_argument('--classes', type=int, nargs='+', default=[81],
                        help='with the background')
    parser.add_argument('--size', type=int, nargs=2, default=[38, 63],
                        metavar=('H', 'W'), help='of the map, in cells')
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--runs', type=int, default=15)
    parser.add_argument('--threads', type=int, default=0,
                        help='0 leaves it to torch')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--out', type=Path,
                        default=Path('work_dirs/bench/operators.json'))
    return parser.parse_args()


def make_rois(count: int, batch: int, height: int, width: int) -> torch.Tensor:
    """RoIs of all sizes within the image, (K, 5)."""
    size = torch.tensor([width, height]) / SCALE
    start = torch.rand(count, 2) * (size - 32)
    end = start + 16 + torch.rand(count, 2) * (size - start - 16)
    index = torch.arange(count)[:, None] % batch
    return torch.cat([index, start, end], dim=1)


def contenders(maps: torch.Tensor, rois: torch.Tensor, mode: str) -> dict:
    """Functions from nothing to the votes, (K, C)."""
    pool = ps_roi_align if mode == 'align' else ps_roi_pool
    return {
        f'ps_roi_vote({mode!r})':
        lambda: ps_roi_vote(maps, rois, BINS, SCALE, mode),
        f'ps_roi_{mode}, then the mean':
        lambda: pool(maps, rois, BINS, SCALE).mean((2, 3)),
    }


def with_backward(function, maps: torch.Tensor, weight: torch.Tensor):
    def run() -> None:
        maps.grad = None
        function().backward(weight)
    return run


def check_equal(functions: dict, maps: torch.Tensor,
                weight: torch.Tensor) -> None:
    """Refuse to time contenders that do not compute the same."""
    seen = []
    for function in functions.values():
        votes = function()
        grad, = torch.autograd.grad(votes, maps, weight)
        seen.append((votes.detach(), grad))
    for votes, grad in seen[1:]:
        torch.testing.assert_close(votes, seen[0][0], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(grad, seen[0][1], rtol=1e-3, atol=1e-4)


def main() -> None:
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = torch.device(args.device)
    height, width = args.size
    results = {}
    for classes in args.classes:
        maps = torch.randn(args.batch, classes * BINS**2, height, width,
                           device=device, requires_grad=True)
        for count in args.rois:
            rois = make_rois(count, args.batch, height, width).to(device)
            weight = torch.randn(count, classes, device=device)
            for mode in ('align', 'pool'):
                functions = contenders(maps, rois, mode)
                check_equal(functions, maps, weight)
                title = (f'{mode}, {count} RoIs, {classes} classes, '
                         f'{args.batch} x {height} x {width}')
                with torch.no_grad():
                    results[f'{title}, forward'] = measure(
                        functions, device, runs=args.runs)
                results[f'{title}, forward + backward'] = measure(
                    {name: with_backward(function, maps, weight)
                     for name, function in functions.items()}, device,
                    runs=args.runs)
    report(results, device, args.out)


if __name__ == '__main__':
    main()
