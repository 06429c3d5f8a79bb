"""Time R-FCN, with and without an image-level branch, against Faster R-CNN.

The same ResNet, the same image, random weights, 300 proposals; in training
each head takes 300 RoIs, with OHEM the 128 hardest of them.  One step is
forward, backward and SGD.  Faster R-CNN is mmdet's, with C4 and with FPN.
"""
import argparse
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData
from timing import measure, report

REPO = Path(__file__).resolve().parents[2]
CONFIGS = {
    'R-FCN': REPO / 'configs/rfcn/rfcn_r50_8xb1-120k_coco.py',
    'R-FCN, GWAP branch':
        REPO / 'configs/gwap/rfcn_r50_gwap_8xb2-120k_coco-p10.py',
    'R-FCN, OHEM': REPO / 'configs/rfcn/rfcn_r50_ohem_8xb1-120k_coco.py',
    'Faster R-CNN C4': 'faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco.py',
    'Faster R-CNN FPN': 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--depth', type=int, choices=(50, 101), default=50,
                        help='of the ResNet (default: %(default)s)')
    parser.add_argument('--size', type=int, nargs=2, default=[600, 1000],
                        metavar=('H', 'W'),
                        help='of the image (default: %(default)s)')
    parser.add_argument('--objects', type=int, default=8,
                        help='true boxes (default: %(default)s)')
    parser.add_argument('--only', nargs='+', choices=CONFIGS, default=CONFIGS,
                        help='default: all of them')
    parser.add_argument('--runs', type=int, default=5,
                        help='default: %(default)s')
    parser.add_argument('--threads', type=int, default=0,
                        help='0, the default, leaves it to torch')
    parser.add_argument('--device', default='cpu', help='default: %(default)s')
    parser.add_argument('--out', type=Path,
                        default=Path('work_dirs/bench/detectors.json'),
                        help='default: %(default)s')
    return parser.parse_args()


def load_config(path) -> Config:
    """A config of ours by path, or one of the installed mmdet by its name."""
    if isinstance(path, Path):
        return Config.fromfile(path)
    import mmdet
    root = Path(mmdet.__file__).parent / '.mim' / 'configs'
    return Config.fromfile(root / path)


def build(path, depth: int, device: torch.device) -> torch.nn.Module:
    """The detector with random weights and 300 proposals."""
    whole = load_config(path).model
    model = whole.get('detector', whole)
    model.backbone.update(depth=depth, init_cfg=None)
    shared_head = model.roi_head.get('shared_head')
    if shared_head:
        shared_head.update(depth=depth, init_cfg=None)
    for proposals in (model.train_cfg.rpn_proposal, model.test_cfg.rpn):
        proposals.update(nms_pre=6000, max_per_img=300)
    if model.train_cfg.rcnn.sampler.type == 'RandomSampler':
        # All of them: a quota of positives would leave some out.
        model.train_cfg.rcnn.sampler.update(num=300, pos_fraction=1.0)
        model.train_cfg.rcnn.assigner.update(neg_iou_thr=0.5)
    # Random weights score every box about 1 / 81: keep none, as a trained
    # detector keeps few, so that the last NMS does not drown the rest.
    model.test_cfg.rcnn.score_thr = 0.5
    built = MODELS.build(whole)
    built.init_weights()
    return built.to(device)


def make_sample(args: argparse.Namespace) -> tuple:
    """An image, (1, 3, H, W), and its boxes."""
    height, width = args.size
    torch.manual_seed(0)
    start = torch.rand(args.objects, 2) * torch.tensor([width, height]) * 0.6
    size = 32 + torch.rand(args.objects, 2) * torch.tensor(
        [width, height]) * 0.3
    sample = DetDataSample(metainfo=dict(
        img_shape=(height, width), ori_shape=(height, width),
        batch_input_shape=(height, width), pad_shape=(height, width),
        scale_factor=(1., 1.), img_id=0))
    sample.gt_instances = InstanceData(
        bboxes=torch.cat([start, start + size], dim=1),
        labels=torch.randint(0, 80, (args.objects, )))
    sample.ignored_instances = InstanceData(
        bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    return torch.randn(1, 3, height, width), sample


def training_step(model, image: torch.Tensor, sample: DetDataSample):
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=0.)

    def step() -> None:
        losses = model.loss(image, [sample.clone()])
        optimizer.zero_grad()
        model.parse_losses(losses)[0].backward()
        optimizer.step()
    return step


def inference(model, image: torch.Tensor, sample: DetDataSample):
    @torch.no_grad()
    def run() -> None:
        model.predict(image, [sample.clone()], rescale=False)
    return run


def main() -> None:
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    register_all_modules()
    MMLogger.get_current_instance().setLevel('ERROR')
    device = torch.device(args.device)
    image, sample = make_sample(args)
    image, sample = image.to(device), sample.to(device)
    models = {name: build(CONFIGS[name], args.depth, device)
              for name in args.only}
    title = f'ResNet-{args.depth}, one image of {args.size[0]} x ' \
        f'{args.size[1]}, 300 proposals'
    results = {}
    for model in models.values():
        model.train()
    results[f'{title}, training step'] = measure(
        {name: training_step(model, image, sample)
         for name, model in models.items()}, device, 1, args.runs)
    for model in models.values():
        model.eval()
    results[f'{title}, inference'] = measure(
        {name: inference(model, image, sample)
         for name, model in models.items() if name != 'R-FCN, OHEM'},
        device, 1, args.runs)
    report(results, device, args.out)


if __name__ == '__main__':
    main()
