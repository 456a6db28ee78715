"""Modes of a clip with a side stream: on jointly Gaussian streams each gives the conditional law in closed form."""

from dataclasses import dataclass

import pytest
import torch

from vidgen.diffusion.paths import CosinePath, FlowPath
from vidgen.errors import VidgenError
from vidgen.samplers.conditioning.frame_conditioning import FrameConditioning
from vidgen.samplers.conditioning.inpainting import sample_conditioned
from vidgen.samplers.conditioning.side_modes import SIDE_MODES, draw_states, find_states, levels_of
from vidgen.samplers.solvers import find_solver

FRAMES = 3


@dataclass(frozen=True)
class JointGaussian:
    """A clip of three frames of one number, and as many rows: numbers with one mean and covariance, both streams'."""

    mean: torch.Tensor
    covariance: torch.Tensor

    def denoiser(self, path, absent):
        """E[x0 | x_t] with a level a frame; frames that are absent are as at full noise: nothing is read of them."""

        def denoise(x, t):
            t = t.expand(len(x)) if t.ndim == 0 else t
            t = t[:, None].expand(-1, 2 * FRAMES) if t.ndim == 1 else t
            alpha = path.alpha(t).masked_fill(absent, 0.0)
            sigma = path.sigma(t).masked_fill(absent, 1.0)
            flat = x.flatten(1)
            shown = torch.where(absent, torch.zeros_like(flat), flat)
            gram = alpha[:, :, None] * self.covariance * alpha[:, None] + torch.diag_embed(sigma**2)
            gap = torch.linalg.solve(gram, (shown - alpha * self.mean)[..., None])
            return (self.mean + (self.covariance @ (alpha[..., None] * gap))[..., 0]).reshape(x.shape)

        return denoise

    def given(self, known, values):
        """Mean and covariance of all numbers after those that are known; the rest is marginal."""
        s, k = self.covariance, known
        gain = s[:, k] @ torch.linalg.inv(s[k][:, k]) if bool(k.any()) else s.new_zeros(len(s), 0)
        return self.mean + gain @ (values[k] - self.mean[k]), s - gain @ s[k]


@pytest.fixture(scope="module")
def data() -> JointGaussian:
    g = torch.Generator().manual_seed(0)
    root = torch.randn(2 * FRAMES, 2 * FRAMES, generator=g, dtype=torch.float64)
    return JointGaussian(
        mean=torch.randn(2 * FRAMES, generator=g, dtype=torch.float64),
        covariance=root @ root.T / (2 * FRAMES) + 0.2 * torch.eye(2 * FRAMES, dtype=torch.float64),
    )


@pytest.mark.parametrize("path", [FlowPath(), CosinePath()], ids=["flow", "cosine"])
@pytest.mark.parametrize("mode", list(SIDE_MODES))
def test_each_mode_gives_the_conditional_law(data, mode, path):
    """With a linear denoiser samples are an affine map of the noise, read off at unit noises: no error of drawing."""
    states = find_states(mode, FRAMES, 1)
    values = torch.linspace(-1.0, 1.5, 2 * FRAMES, dtype=torch.float64)
    known = values.masked_fill(~states.known, 9.0).reshape(1, 1, -1, 1, 1)  # what is absent is not to be looked at
    conditioning = FrameConditioning(latents=known, known=states.fixed[:, None, None])
    noise = torch.cat([torch.zeros(1, 2 * FRAMES), torch.eye(2 * FRAMES)]).double().reshape(-1, 1, 2 * FRAMES, 1, 1)
    times = torch.linspace(1.0, 0.0, 129, dtype=torch.float64)
    denoise = data.denoiser(path, states.absent)
    out = sample_conditioned(find_solver("heun"), denoise, noise, times, path, conditioning)
    assert torch.equal(out[:, :, states.known], known[:, :, states.known].expand(len(noise), -1, -1, -1, -1))
    wanted = ~states.fixed
    flat = out.flatten(1)
    mean, map_of_noise = flat[0], (flat[1:] - flat[0]).T
    exact_mean, exact_covariance = data.given(states.known, values)
    assert torch.allclose(mean[wanted], exact_mean[wanted], atol=2e-3)
    covariance = map_of_noise @ map_of_noise.T
    assert torch.allclose(covariance[wanted][:, wanted], exact_covariance[wanted][:, wanted], atol=4e-3)


def test_the_modes_differ_in_what_they_condition_on(data):
    """The law that each mode is held to above is its own: of these Gaussians no two are close."""
    values = torch.linspace(-1.0, 1.5, 2 * FRAMES, dtype=torch.float64)
    frames = [data.given(find_states(mode, FRAMES, 1).known, values)[0][1:FRAMES] for mode in ("forward", "video")]
    rows = [data.given(find_states(mode, FRAMES, 1).known, values)[0][FRAMES:] for mode in ("policy", "inverse")]
    assert all((a - b).abs().max() > 0.05 for a, b in (frames, rows))


def test_states_of_the_modes():
    def letters(mode: str, context: int) -> str:
        states = find_states(mode, FRAMES, context)
        assert not bool((states.known & states.absent).any())
        return "".join("k" if k else "a" if a else "w" for k, a in zip(states.known, states.absent, strict=True))

    table = {("policy", 2): "kkawww", ("forward", 1): "kwwkkk", ("inverse", 0): "kkkwww", ("video", 0): "wwwaaa"}
    table |= {("video", 2): "kkwaaa", ("joint", 1): "kwwwww"}
    assert {key: letters(*key) for key in table} == table
    assert find_states("policy", FRAMES, 1).wanted == (False, True)
    for mode, context in (("policy", 0), ("video", 4), ("video", -1)):
        with pytest.raises(VidgenError, match=f"mode {mode}: a context of {context}"):
            find_states(mode, FRAMES, context)
    with pytest.raises(VidgenError, match="choose one of policy, forward, inverse, video, joint"):
        find_states("telepathy", FRAMES, 1)


def test_draws_leave_something_to_ask_and_levels_are_the_streams():
    modes = list(SIDE_MODES) * 20
    states = draw_states(modes, FRAMES, torch.Generator().manual_seed(0))
    assert bool((~states.fixed).any(1).all())
    contexts = states.known[:, :FRAMES].sum(1)
    assert {int(c) for c, mode in zip(contexts, modes, strict=True) if mode == "policy"} == {1, 2}
    assert {int(c) for c, mode in zip(contexts, modes, strict=True) if mode == "joint"} == {0, 1, 2}
    levels = levels_of(states, torch.tensor([[0.3, 0.7]]).expand(len(modes), -1))
    assert torch.equal(levels == 0, states.fixed)
    assert set(levels[:, :FRAMES].unique().tolist()) == {0.0, torch.tensor(0.3).item()}
    assert set(levels[:, FRAMES:].unique().tolist()) == {0.0, torch.tensor(0.7).item()}
