"""VGG without its last pooling, for class activation maps.

Cut as in the CAM paper: Zhou et al., CVPR 2016, arXiv 1512.04150, section 3.1. The
nets are those of Simonyan and Zisserman, arXiv 1409.1556.
"""

from collections.abc import Sequence

from mmcv.cnn import VGG as Plain
from mmengine.model import BaseModule
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mmgwap.registry import MODELS


@MODELS.register_module()
class VGG(Plain, BaseModule):
    """VGG up to the ReLU of the last convolution, conv5-3 of VGG-16.

    torchvision's ImageNet checkpoints load, with and without batch norm, except their
    ``classifier``. They expect RGB images with mean (123.675, 116.28, 103.53) and
    standard deviation (58.395, 57.12, 57.375).

    Args:
        depth (int): 11, 13, 16 or 19.
        with_bn (bool): whether each convolution is followed by a batch norm.
        out_indices (Sequence[int]): indices of the stages to return, 0 to 4. Stages 0
            to 3 are returned after their pooling, as in mmcv, and stage 4 before it.
            Stages after the last index are not built.
        frozen_stages (int): number of stages to freeze; -1 freezes none, as 0 does.
        norm_eval (bool): whether batch norms use their running statistics in
            training.
        init_cfg (dict | list[dict]): default: He initialization.

    Raises:
        ValueError: if ``out_indices`` or ``frozen_stages`` is outside its range.
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
        if not set(out_indices) <= set(range(5)):
            raise ValueError(f'VGG: out_indices must be in 0 to 4, got {out_indices}')
        stages = max(out_indices) + 1
        if not -1 <= frozen_stages <= stages:
            raise ValueError(
                f'VGG(out_indices={tuple(out_indices)}): frozen_stages must be in '
                f'[-1, {stages}], got {frozen_stages}'
            )
        super().__init__(
            depth,
            with_bn,
            num_stages=stages,
            dilations=(1,) * stages,
            out_indices=tuple(out_indices),
            bn_eval=False,
            with_last_pool=stages < 5,
        )
        # fan_in keeps the scale of the features without norm layers.
        self.init_cfg = init_cfg or [
            dict(type='Kaiming', layer='Conv2d', mode='fan_in'),
            dict(type='Constant', val=1, layer='_BatchNorm'),
        ]
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self._freeze_stages()

    def init_weights(self) -> None:
        """Initialise by ``init_cfg``, which mmcv's method ignores."""
        BaseModule.init_weights(self)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the features of the stages in ``out_indices``.

        Args:
            x (Tensor): (B, 3, H, W), H and W at least the stride of the last stage.

        Returns:
            tuple[Tensor]: maps (B, C, H / s, W / s), rounded down, with C = 64, 128,
            256, 512, 512 and s = 2, 4, 8, 16, 16.
        """
        outs = super().forward(x)
        return outs if isinstance(outs, tuple) else (outs,)

    def _freeze_stages(self) -> None:
        for start, end in self.range_sub_modules[: max(self.frozen_stages, 0)]:
            self.features[start:end].eval().requires_grad_(False)

    def train(self, mode: bool = True) -> 'VGG':
        """Set the mode; frozen stages and, with ``norm_eval``, batch norms stay in evaluation."""
        BaseModule.train(self, mode)
        self._freeze_stages()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self
