"""What is known of a clip: levels and sizes that are none are refused."""

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.samplers.conditioning.frame_conditioning import FrameConditioning

LATENTS = torch.zeros(1, 3, 4, 2, 2)
KNOWN = torch.zeros(4, 2, 2, dtype=torch.bool)


@pytest.mark.parametrize("strength", [0.0, -0.5, 1.01, float("nan")])
def test_strength_must_be_a_level(strength):
    with pytest.raises(VidgenError, match=r"strength is .*; it must lie in \(0, 1\]"):
        FrameConditioning(latents=LATENTS, known=KNOWN, strength=strength)


def test_context_noise_is_below_pure_noise():
    with pytest.raises(VidgenError, match="context_noise is 1"):
        FrameConditioning(latents=LATENTS, known=KNOWN, context_noise=1.0)


def test_known_cells_are_those_of_the_latents():
    with pytest.raises(ValueError, match=r"known \(3, 2, 2\) is not for latents \(1, 3, 4, 2, 2\)"):
        FrameConditioning(latents=LATENTS, known=KNOWN[:3])
