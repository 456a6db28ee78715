"""From one Gaussian to another of the same width an edit is the difference of their means, exactly, in any steps."""

import pytest
import torch

from vidgen.diffusion.noise import TimeDistribution
from vidgen.diffusion.paths import CosinePath, FlowPath
from vidgen.errors import VidgenError
from vidgen.samplers.evaluation.closed_forms import GaussianData
from vidgen.samplers.flow_edit import flow_edit

PATH = FlowPath()
SOURCE, TARGET = GaussianData(mean=0.4).denoiser(PATH), GaussianData(mean=-0.7).denoiser(PATH)


def clip():
    return 0.4 + 0.6 * torch.randn(2, 2, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def run(target, steps=4, **settings):
    times = TimeDistribution().steps(steps)
    return flow_edit(SOURCE, target, clip(), times, PATH, generator=torch.Generator().manual_seed(1), **settings)


@pytest.mark.parametrize("steps", [1, 4, 9])
@pytest.mark.parametrize("draws", [1, 3])
def test_gaussians_are_moved_by_the_difference_of_their_means(steps, draws):
    # The difference to the source's own flow is (1 - t) times that of the means, whatever the noise: a straight line.
    moved = run(TARGET, steps, strength=1.0, draws=draws)
    assert torch.allclose(moved, clip() - 1.1, atol=1e-12)


def test_the_same_prompt_changes_nothing():
    assert torch.allclose(run(SOURCE), clip(), atol=1e-14)


def test_a_lower_strength_changes_less():
    changes = [(run(TARGET, 16, strength=level) - clip()).abs().mean() for level in (0.2, 0.5, 0.8, 1.0)]
    assert changes == sorted(changes) and changes[0] < 0.5 * changes[-1]


def test_other_paths_are_refused():
    with pytest.raises(VidgenError, match="needs the flow path, and this model has CosinePath"):
        flow_edit(SOURCE, TARGET, clip(), TimeDistribution().steps(2), CosinePath())
