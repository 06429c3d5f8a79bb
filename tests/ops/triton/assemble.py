"""Compile the kernels without a GPU; print the numbers of their memory instructions.

Run in a process of its own, because Triton compiles nothing in interpreter mode.
"""

import json
import re
from itertools import product

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mmgwap.ops.triton import bin_kernels, lip_kernels, vote_kernels

LIP = dict(
    **dict.fromkeys(('KERNEL_H', 'KERNEL_W'), 3),
    **dict.fromkeys(('STRIDE_H', 'STRIDE_W'), 2),
    **dict.fromkeys(('PAD_H', 'PAD_W'), 1),
    **dict(ROWS=8, GATE=0.0, BLOCK=128, ACC=tl.float32, INDEX=tl.int32),
)
VOTE = dict(BINS=7, SIDE=4, BLOCK=128, ACC=tl.float32, INDEX=tl.int32)
CUT = dict(BINS=7, SCALE=1 / 16, BLOCK=128)


def cases():
    """Yield name, kernel, constants, and the types of pointers."""
    for dtype, axis in product(('fp32', 'bf16', 'fp16'), 'cw'):
        types = dict(x=dtype, logit=dtype, out=dtype, mean='fp32', log_sum='fp32')
        yield (
            f'lip forward {dtype} {axis}',
            lip_kernels.forward,
            dict(
                LIP, CHANNELS_LAST=axis == 'c', KEEP=False, **{f'{one}_{axis}': 1 for one in 'xlo'}
            ),
            types,
        )
    for grad_logit in (False, True):
        types = dict.fromkeys(('x', 'logit', 'grad', 'grad_x', 'grad_logit'), 'fp16')
        yield (
            f'lip backward {grad_logit}',
            lip_kernels.backward,
            dict(
                LIP, CHANNELS_LAST=False, GRAD_LOGIT=grad_logit, **{f'{one}_w': 1 for one in 'xlog'}
            ),
            dict(types, mean='fp32', log_sum='fp32'),
        )
    for name, samples in product(('forward', 'backward'), (0, 2)):
        types = dict(
            maps='bf16',
            grad='bf16',
            rois='fp32',
            cells='i32',
            weights='fp32' if samples else 'i32',
            votes='fp32',
            grad_maps='fp32',
        )
        yield (
            f'vote {name} {samples}',
            getattr(vote_kernels, name),
            dict(VOTE, SAMPLES=samples),
            types,
        )
    for dtype in ('fp32', 'fp64'):
        types = dict(rois=dtype, cells='i32', weights=dtype)
        yield f'bins quantised {dtype}', bin_kernels.quantised, CUT, types
        yield f'bins sampled {dtype}', bin_kernels.sampled, dict(CUT, SAMPLES=2), types


def vectors():
    """Yield the kernels for channels-last maps whose sizes are multiples of 16."""
    types = dict.fromkeys(
        ('x', 'logit', 'out', 'mean', 'log_sum', 'grad', 'grad_x', 'grad_logit'), 'fp32'
    )
    options = dict(LIP, CHANNELS_LAST=True, BLOCK=512, **{f'{one}_c': 1 for one in 'xlo'})
    yield 'forward', lip_kernels.forward, dict(options, KEEP=True), types
    yield 'backward', lip_kernels.backward, dict(options, g_c=1, GRAD_LOGIT=True), types


def count(kernel, constants, types, architecture, multiples_of_16=False):
    """Return the numbers of all memory instructions, and of those of four values."""
    signature = {
        name: 'constexpr' if name in constants else '*' + types[name] if name in types else 'i32'
        for name in kernel.arg_names
    }
    hints = {
        (parameter.num,): [['tt.divisibility', 16]]
        for parameter in kernel.params
        if parameter.name not in constants and not parameter.do_not_specialize
    }
    compiled = triton.compile(
        ASTSource(kernel, signature, constants, hints if multiples_of_16 else None),
        target=GPUTarget('cuda', architecture, 32),
    )
    assert compiled.asm['cubin']
    return [
        {
            kind: len(re.findall(rf'\b{kind}[.\w]*?\.global{vector}', compiled.asm['ptx']))
            for kind in ('ld', 'st', 'atom', 'red')
        }
        for vector in ('', r'[.\w]*\.v4\.')
    ]


if __name__ == '__main__':
    found = {
        f'{name} sm_{architecture}': count(*case, architecture)[0]
        for name, *case in cases()
        for architecture in (80, 90)
    }
    found['vectors'] = {name: count(*case, 90, multiples_of_16=True) for name, *case in vectors()}
    print(json.dumps(found))
