"""VGG as the CAM paper cuts it: Zhou et al., CVPR 2016, arXiv 1512.04150,
section 3.1; the nets are those of Simonyan and Zisserman, arXiv 1409.1556."""

from collections.abc import Sequence

from mmcv.cnn import VGG as Plain
from mmengine.model import BaseModule
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mmgwap.argument_checks import check_flag, check_indices, check_whole
from mmgwap.registry import MODELS


@MODELS.register_module()
class VGG(Plain, BaseModule):
    """VGG up to the last convolution and its ReLU, conv5-3 of VGG-16.

    pool5 and what follows are left out.  torchvision's ImageNet checkpoints
    fit, with batch norms or without (their ``classifier`` is left over).  They
    expect RGB with mean (123.675, 116.28, 103.53) and deviation (58.395, 57.12,
    57.375).

    Args:
        depth (int): 11, 13, 16 or 19.
        with_bn (bool): whether convolutions have batch norms.
        out_indices (Sequence[int]): which stages to return, of 0 to 4: 0 to 3
            behind their poolings, as mmcv has them, and 4 without.  Stages
            behind the last of them are not built.
        frozen_stages (int): -1 or 0 freezes nothing, n > 0 the first n stages.
        norm_eval (bool): whether batch norms keep their running statistics in
            training.
        init_cfg (dict | list[dict]): default: He's initialization.

    Raises:
        ValueError: if ``depth``, ``out_indices`` or ``frozen_stages`` is not
            one of these.
    """

    def __init__(
        self,
        depth: int,
        with_bn: bool = False,
        out_indices: Sequence[int] = (4,),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: dict = None,
    ) -> None:
        _check(depth, out_indices, frozen_stages)
        check_flag(with_bn, 'VGG: with_bn')
        check_flag(norm_eval, 'VGG: norm_eval')
        stages = max(out_indices) + 1
        super().__init__(
            depth,
            with_bn,
            num_stages=stages,
            dilations=(1,) * stages,
            out_indices=tuple(out_indices),
            bn_eval=False,
            with_last_pool=stages < 5,
        )
        # Without norms it is the forward signal that is to be kept.
        self.init_cfg = init_cfg or [
            dict(type='Kaiming', layer='Conv2d', mode='fan_in'),
            dict(type='Constant', val=1, layer='_BatchNorm'),
        ]
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self._freeze_stages()

    def init_weights(self) -> None:
        """By ``init_cfg``; mmcv's own method knows of none."""
        BaseModule.init_weights(self)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features of the stages in ``out_indices``.

        Args:
            x (Tensor): (B, 3, H, W), H and W at least the last stride.

        Returns:
            tuple[Tensor]: (B, C, H / s, W / s), halves rounded down, with
            C = 64, 128, 256, 512, 512 and s = 2, 4, 8, 16, 16.
        """
        outs = super().forward(x)
        return outs if isinstance(outs, tuple) else (outs,)

    def _freeze_stages(self) -> None:
        for start, end in self.range_sub_modules[: max(self.frozen_stages, 0)]:
            self.features[start:end].eval().requires_grad_(False)

    def train(self, mode: bool = True) -> 'VGG':
        """Frozen stages stay in evaluation mode, and with ``norm_eval`` all
        batch norms."""
        BaseModule.train(self, mode)
        self._freeze_stages()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


def _check(depth: int, out_indices: Sequence[int], frozen_stages: int) -> None:
    if type(depth) is not int or depth not in Plain.arch_settings:
        raise ValueError(f'VGG has the depths {list(Plain.arch_settings)}, not {depth!r:.80}')
    check_indices(out_indices, 'out_indices of VGG', 5)
    check_whole(
        frozen_stages,
        f'frozen_stages of VGG(out_indices={tuple(out_indices)})',
        -1,
        max(out_indices) + 1,
    )
