"""The forward jump has the path's own law, in closed form, and a call that starts from a clip starts from the jump."""

import pytest
import torch

from vidgen.diffusion.paths import PATHS, add_noise
from vidgen.errors import VidgenError
from vidgen.samplers.control.motion_warp import jump_start, jump_to_level


@pytest.mark.parametrize("kind", PATHS)
def test_a_jump_from_the_path_is_on_the_path(kind):
    # x_s = alpha_s x0 + sigma_s e: x_t must have the factor alpha_t of x0, and sigma_t^2 of the two noises together.
    path, s, t = PATHS[kind](), 0.4, 0.7
    one, zero = torch.ones(1, 1, 1, 1, 1, dtype=torch.float64), torch.zeros(1, 1, 1, 1, 1, dtype=torch.float64)
    level = torch.tensor([s], dtype=torch.float64)
    of_data = jump_to_level(add_noise(one, zero, level, path), zero, s, t, path)
    of_first = jump_to_level(add_noise(zero, one, level, path), zero, s, t, path)
    of_second = jump_to_level(zero, one, s, t, path)
    target = torch.tensor(t, dtype=torch.float64)
    assert torch.allclose(of_data, path.alpha(target) * one)
    assert torch.allclose(of_first**2 + of_second**2, path.sigma(target) ** 2 * one)


def test_a_jump_to_the_same_level_is_no_jump():
    x, noise = torch.randn(2, 1, 2, 1, 3, 3, dtype=torch.float64)
    assert torch.allclose(jump_to_level(x, noise, 0.3, 0.3, PATHS["flow"]()), x)
    with pytest.raises(VidgenError, match="from noise level 0.6 to 0.3"):
        jump_to_level(x, noise, 0.6, 0.3, PATHS["flow"]())


@pytest.mark.parametrize("kind", PATHS)
def test_a_start_is_the_jump(kind):
    path = PATHS[kind]()
    x, noise = torch.randn(2, 2, 3, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    clean, drawn = jump_start(x, noise, 0.3, 0.8, path)
    start = add_noise(clean, drawn, torch.full((2,), 0.8, dtype=torch.float64), path)
    assert torch.allclose(start, jump_to_level(x, noise, 0.3, 0.8, path))
