"""The kernels as operators of torch: schema, meta, autograd, compile, export."""

import pytest
import torch

from mmgwap.ops import LIP2d, PSRoIVote
from tests.ops.test_lip import gap, maps
from tests.ops.test_ps_roi import ALL_ROIS, SCALE, make_map

WINDOWS = ([3, 3], [2, 2], [1, 1], False)


def pools(device, layout=torch.contiguous_format):
    return [
        maps(1, 2, 6, 5, seed=seed).to(device).contiguous(memory_format=layout).requires_grad_()
        for seed in range(2)
    ]


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('keep', [True, False])
def test_lip2d_passes_opcheck(device, layout, keep):
    x, logit = pools(device, layout)
    if not keep:
        x, logit = x.detach(), logit.detach()
    from mmgwap.ops.triton.lip import lip2d

    torch.library.opcheck(lip2d, (x, logit, *WINDOWS, keep, 12.0))


@pytest.mark.parametrize('needs_grad_logit', [True, False])
def test_lip2d_backward_passes_opcheck(device, needs_grad_logit):
    from mmgwap.ops.triton.lip import lip2d, lip2d_backward

    x, logit = (one.detach() for one in pools(device))
    out, *kept = lip2d(x, logit, *WINDOWS, True, 12.0)
    torch.library.opcheck(
        lip2d_backward, (out, x, logit, *kept, *WINDOWS[:3], 12.0, needs_grad_logit)
    )


@pytest.mark.parametrize('samples', [0, 2])
def test_vote_operators_pass_opcheck(device, samples):
    from mmgwap.ops.triton.vote import ps_roi_bins, ps_roi_vote, ps_roi_vote_backward

    maps = torch.randn(2, 5, 4, 4, 3, device=device, requires_grad=True)
    rois = ALL_ROIS[:2].to(device)
    torch.library.opcheck(ps_roi_bins, (rois, 5, 4, 2, SCALE, samples))
    cells = ps_roi_bins(rois, 5, 4, 2, SCALE, samples)
    torch.library.opcheck(ps_roi_vote, (maps, rois, *cells, 2, SCALE, samples))
    grad = torch.randn(2, 3, device=device)
    torch.library.opcheck(
        ps_roi_vote_backward, (grad, rois, *cells, list(maps.shape), 2, SCALE, samples)
    )


def inputs(name, device):
    """Return a module, its input and its other arguments."""
    if name == 'lip2d':
        x, logit = pools(device)
        return LIP2d(), x, (logit,)
    maps = make_map(bins=2).to(device).requires_grad_()
    return PSRoIVote(2, SCALE), maps, (ALL_ROIS[:2].to(device),)


@pytest.mark.parametrize('name', ['lip2d', 'ps_roi_vote'])
def test_compiled_equals_eager(device, name):
    torch._dynamo.reset()
    module, x, others = inputs(name, device)
    seen = []

    def backend(graph, _):
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    compiled = torch.compile(module, backend=backend, fullgraph=True)
    found = []
    for function in (module, compiled):
        out = function(x, *others)
        (grad,) = torch.autograd.grad(out.square().sum(), x)
        found.append((out, grad))
    assert [target for target in seen if name in target], seen
    for one, other in zip(*found):
        assert gap(one.cpu(), other.detach().cpu()) < 1e-6


@pytest.mark.parametrize('name', ['lip2d', 'ps_roi_vote'])
def test_an_exported_program_holds_the_operator(device, name):
    module, x, others = inputs(name, device)
    with torch.no_grad():
        program = torch.export.export(module, (x.detach(), *(one.detach() for one in others)))
        targets = [str(node.target) for node in program.graph.nodes]
        assert f'mmgwap.{name}.default' in targets
        again = program.module()(x, *others)
        assert gap(again.cpu(), module(x, *others).cpu()) < 1e-6


def test_a_traced_graph_holds_standard_operators(device):
    module, x, others = inputs('lip2d', device)
    traced = torch.jit.trace(module, (x, *others))
    assert 'mmgwap::' not in str(traced.inlined_graph)
    out = traced(x, *others).detach()
    assert gap(out.cpu(), module(x, *others).detach().cpu()) < 1e-12


def test_autocast_keeps_bfloat16(device):
    x, logit = pools(device)
    with torch.autocast(device, torch.bfloat16):
        out = LIP2d()(x.bfloat16(), logit.float())
        votes = PSRoIVote(2, SCALE)(make_map(bins=2).bfloat16().to(device), ALL_ROIS[:2].to(device))
    assert out.dtype == votes.dtype == torch.bfloat16


@pytest.mark.parametrize('name', ['lip2d', 'ps_roi_vote'])
def test_second_derivative_is_refused(device, name):
    module, x, others = inputs(name, device)
    out = module(x, *others).square().sum()
    (grad,) = torch.autograd.grad(out, x, create_graph=True)
    with pytest.raises(RuntimeError, match='autograd'):
        torch.autograd.grad(grad.square().sum(), x)
