"""Time lip2d against the two average poolings that define it.

In training, what each keeps for the backward pass is weighed too.  Results
and gradients are checked against each other before the clock starts.
"""
import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from timing import measure, report

from mmgwap.ops import lip2d

# Channels, height and width of what LIP-ResNet-50 pools for an image of 800 x
# 1333, in the stem, res3 (shortcut) and res5 (block).
MAPS = [(64, 400, 667), (256, 200, 334), (512, 50, 84)]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--maps', type=int, nargs='+',
                        default=sum(MAPS, ()), metavar='C H W',
                        help='sizes of maps, three numbers each (default: '
                        'three of LIP-ResNet-50 at 800 x 1333)')
    parser.add_argument('--batch', type=int, default=1,
                        help='default: %(default)s')
    parser.add_argument('--channels-last', action='store_true')
    parser.add_argument('--runs', type=int, default=15,
                        help='default: %(default)s')
    parser.add_argument('--threads', type=int, default=0,
                        help='0, the default, leaves it to torch')
    parser.add_argument('--device', default='cpu', help='default: %(default)s')
    parser.add_argument('--out', type=Path,
                        default=Path('work_dirs/bench/lip.json'),
                        help='default: %(default)s')
    args = parser.parse_args()
    if len(args.maps) % 3:
        parser.error('--maps takes three numbers a map')
    return args


def average_pools(x: torch.Tensor, logit: torch.Tensor) -> torch.Tensor:
    weight = logit.exp()
    return F.avg_pool2d(x * weight, 3, 2, 1) / F.avg_pool2d(weight, 3, 2, 1)


CONTENDERS = {'two average poolings': average_pools, 'lip2d': lip2d}


def kept_bytes(function, x: torch.Tensor, logit: torch.Tensor) -> int:
    """Bytes that autograd holds until the backward pass."""
    sizes = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda kept: kept):
        out = function(x, logit)  # named: alive until all is counted
    del out
    return sum(sizes.values())


def check_equal(x: torch.Tensor, logit: torch.Tensor) -> None:
    """Refuse to time contenders that do not compute the same."""
    seen = []
    for function in CONTENDERS.values():
        out = function(x, logit)
        seen.append([out, *torch.autograd.grad(out.square().sum(),
                                               (x, logit))])
    for one, other in zip(*seen):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def training_step(function, x: torch.Tensor, logit: torch.Tensor,
                  weight: torch.Tensor):
    def run() -> None:
        torch.autograd.grad(function(x, logit), (x, logit), weight)
    return run


def main() -> None:
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = torch.device(args.device)
    layout = torch.channels_last if args.channels_last \
        else torch.contiguous_format
    results = {}
    for shape in zip(*[iter(args.maps)] * 3):
        x, logit = (torch.randn(args.batch, *shape).to(
            device, memory_format=layout) for _ in range(2))
        logit = 12 * logit.sigmoid()
        x.requires_grad_(), logit.requires_grad_()
        check_equal(x, logit)
        weight = torch.randn_like(lip2d(x, logit))
        title = ' x '.join(map(str, (args.batch, *shape)))
        with torch.no_grad():
            results[f'{title}, forward'] = measure(
                {name: lambda function=function: function(x, logit)
                 for name, function in CONTENDERS.items()}, device,
                runs=args.runs)
        results[f'{title}, forward + backward'] = measure(
            {name: training_step(function, x, logit, weight)
             for name, function in CONTENDERS.items()}, device,
            runs=args.runs)
        for name, function in CONTENDERS.items():
            print(f'{title}, kept by {name}: '
                  f'{kept_bytes(function, x, logit) / 2**20:.1f} MiB')
    report(results, device, args.out)


if __name__ == '__main__':
    main()
