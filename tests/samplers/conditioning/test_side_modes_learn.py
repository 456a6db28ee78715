"""A small network learns all modes at once: where one stream follows from the other, it comes out of its mode."""

import pytest
import torch

from vidgen.diffusion.denoiser import make_denoiser
from vidgen.diffusion.noise import draw_normal
from vidgen.diffusion.paths import FlowPath, network_input
from vidgen.models.dit.config import VideoDiTConfig
from vidgen.models.dit.joint_network import JointNetwork
from vidgen.models.dit.side_stream import join_streams, split_streams
from vidgen.models.dit.video_dit import VideoDiT
from vidgen.samplers.conditioning.frame_conditioning import FrameConditioning
from vidgen.samplers.conditioning.inpainting import sample_conditioned
from vidgen.samplers.conditioning.side_modes import SIDE_MODES, draw_states, find_states, levels_of
from vidgen.samplers.solvers import find_solver

FRAMES, PATH = 4, FlowPath()
KEPT = 0.9  # correlation of an action with the one before


def draw(n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips (n, 2, 4, 2, 2) of a place that moves by an action a frame, (n, 4, 2), 0 in the first: the place is two
    numbers, shown all over a frame with alternating signs."""
    fresh = torch.randn(n, FRAMES, 2, generator=generator)
    actions = [torch.zeros(n, 2), fresh[:, 1]]
    for t in range(2, FRAMES):
        actions.append(KEPT * actions[-1] + (1 - KEPT**2) ** 0.5 * fresh[:, t])
    side = torch.stack(actions, dim=1)
    place = (fresh[:, :1] + side.cumsum(1)) / 2.0
    signs = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    return place.mT[..., None, None] * signs, side


@pytest.fixture(scope="module")
def network() -> VideoDiT:
    torch.manual_seed(0)
    config = VideoDiTConfig(latent_channels=2, width=64, depth=3, head_dim=32, text_width=0, side_channels=2)
    model = VideoDiT(config)
    steps, generator = 300, torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        x0, side = draw(64, generator)
        states = draw_states([list(SIDE_MODES)[i % 4] for i in range(len(x0))], FRAMES, generator)  # but "joint"
        t = levels_of(states, torch.rand(len(x0), 2, generator=generator))
        both = join_streams(x0, side)
        eps = join_streams(draw_normal(x0.shape, generator), draw_normal(side.shape, generator))
        out = JointNetwork(transformer=model, absent=states.absent)(network_input(both, eps, t, PATH), t)
        error = (out - (eps - both)).square().mean((1, 3, 4))
        loss = (error * ~states.fixed).sum() / (~states.fixed).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    return model.eval().requires_grad_(False)


def ask(network: VideoDiT, mode: str, x0: torch.Tensor, side: torch.Tensor, context: int) -> tuple[torch.Tensor, ...]:
    states = find_states(mode, FRAMES, context)
    known = states.fixed[:, None, None].expand(-1, 2, 2)
    conditioning = FrameConditioning(latents=join_streams(x0, side), known=known)
    denoise = make_denoiser(JointNetwork(transformer=network, absent=states.absent), PATH, "flow_prediction")
    generator = torch.Generator().manual_seed(2)
    noise = join_streams(draw_normal(x0.shape, generator), draw_normal(side.shape, generator))
    times = torch.linspace(1.0, 0.0, 21, dtype=torch.float64)
    with torch.no_grad():
        return split_streams(sample_conditioned(find_solver("heun"), denoise, noise, times, PATH, conditioning), 2)


@pytest.mark.slow
def test_each_mode_answers_from_what_it_knows(network):
    x0, side = draw(256, torch.Generator().manual_seed(3))
    inverse = ask(network, "inverse", x0, side, 0)[1]
    forward = ask(network, "forward", x0, side, 1)[0]
    video = ask(network, "video", x0, side, 1)[0]
    policy = ask(network, "policy", x0, side, 3)[1]
    power = side[:, 1:].square().mean()
    unexplained = {
        "inverse": (inverse - side)[:, 1:].square().mean() / power,
        "forward": (forward - x0)[:, :, 1:].square().mean() / (x0 - x0[:, :, :1])[:, :, 1:].square().mean(),
        "video": (video - x0)[:, :, 1:].square().mean() / (x0 - x0[:, :, :1])[:, :, 1:].square().mean(),
        # After three frames a draw of the next action is off by two of its innovations: 2 (1 - KEPT^2) = 0.38.
        "policy": (policy - side)[:, 3].square().mean() / side[:, 3].square().mean(),
    }
    assert unexplained["inverse"] < 0.1 and unexplained["forward"] < 0.3
    assert 1.5 < unexplained["video"] < 2.5  # a draw of its own: twice the variance
    assert 0.2 < unexplained["policy"] < 0.7
