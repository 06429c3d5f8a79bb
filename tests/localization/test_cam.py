import pytest
import torch

from mmgwap.localization import GRADIENT_CAMS, class_activation_maps, grad_cam, layer_cam


@pytest.fixture
def features():
    torch.manual_seed(0)
    return torch.randn(2, 5, 3, 4, dtype=torch.float64)


def test_mean_of_a_map_is_the_score_without_bias(features):
    linear = torch.nn.Linear(5, 3).double()
    maps = class_activation_maps(features, linear.weight)
    scores = linear(features.mean(dim=(2, 3)))
    torch.testing.assert_close(maps.mean(dim=(2, 3)), scores - linear.bias)
    for b, k, y, x in ((0, 0, 0, 0), (1, 2, 2, 3), (1, 1, 0, 2)):
        expected = sum(linear.weight[k, c] * features[b, c, y, x] for c in range(5))
        torch.testing.assert_close(maps[b, k, y, x], expected)


def test_refuses_another_number_of_channels(features):
    with pytest.raises(ValueError, match=r'\(2, 5, 3, 4\).*\(3, 4\)'):
        class_activation_maps(features, torch.zeros(3, 4))


def reference(name, features, gradients):
    """Compute a gradient CAM with loops over positions."""
    maps = torch.zeros(features.shape[0], *features.shape[2:], dtype=features.dtype)
    positions = [(y, x) for y in range(features.shape[2]) for x in range(features.shape[3])]
    for b in range(len(features)):
        for c in range(features.shape[1]):
            f, g = features[b, c], gradients[b, c]
            total = sum(f[position] for position in positions)
            weight = 0.0
            for position in positions:
                if name == 'grad_cam':
                    weight += g[position] / len(positions)
                elif g[position] > 0:
                    weight += g[position] ** 3 / (2 * g[position] ** 2 + total * g[position] ** 3)
            for position in positions:
                if name == 'layer_cam':
                    weight = max(g[position], 0.0)
                maps[(b, *position)] += weight * f[position]
    return maps.clamp(min=0)


@pytest.mark.parametrize('name', GRADIENT_CAMS)
def test_gradient_cams_match_loops(name, features):
    gradients = torch.randn_like(features)
    gradients[0, 0] = 0
    gradients[1, 3, 0] = 0
    maps = GRADIENT_CAMS[name](features, gradients)
    assert maps.shape == (2, 3, 4)
    torch.testing.assert_close(maps, reference(name, features, gradients))


def test_grad_cam_of_a_linear_classifier_is_its_cam(features):
    weight = torch.randn(3, 5, dtype=torch.float64)
    features.requires_grad_()
    scores = features.mean(dim=(2, 3)) @ weight.t()
    (gradients,) = torch.autograd.grad(scores[:, 1].sum(), features)
    cam = class_activation_maps(features, weight)[:, 1]
    torch.testing.assert_close(grad_cam(features, gradients) * 12, cam.relu())
    torch.testing.assert_close(
        layer_cam(features, gradients) * 12,
        class_activation_maps(features, weight.relu())[:, 1].relu(),
    )


@pytest.mark.parametrize('name', GRADIENT_CAMS)
def test_map_without_gradients_is_zero(name, features):
    assert not GRADIENT_CAMS[name](features, torch.zeros_like(features)).any()


def test_zero_denominator_of_grad_cam_plusplus():
    features = torch.full((1, 1, 1, 2), -1.0)  # 2 + 1 * (-2) = 0
    maps = GRADIENT_CAMS['grad_cam_plusplus'](features, torch.ones(1, 1, 1, 2))
    assert maps.tolist() == [[[0, 0]]]
