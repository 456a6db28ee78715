"""Former names work, and warn with the present ones."""

import pytest
import torch

from vidgen.deprecation import renamed_attributes, renamed_keywords
from vidgen.pipelines.evaluation import adherence
from vidgen.samplers.conditioning import inpainting


@pytest.mark.parametrize(
    ("module", "former", "now"),
    [(inpainting, "Conditions", "FrameConditioning"), (adherence, "Asked", "LabeledPrompt")],
)
def test_former_names_are_the_present_things(module, former, now):
    with pytest.warns(FutureWarning, match=f"{module.__name__}.{former} is now called {now}"):
        assert getattr(module, former) is getattr(module, now)
    with pytest.raises(AttributeError, match="no attribute 'magic'"):
        module.magic  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'b'"):
        renamed_attributes("m", {"a": "c"})("b")


def test_former_keywords_are_passed_on():
    @renamed_keywords(colour="color")
    def paint(*, color, width=1):
        """Paint."""
        return color, width

    with pytest.warns(FutureWarning, match=r"colour=\.\.\. is now called color=\.\.\."):
        assert paint(colour="red", width=2) == ("red", 2)
    assert paint(color="red") == ("red", 1) and paint.__doc__ == "Paint."


def test_the_pipeline_still_takes_what_is_given(pipe):
    latents = torch.zeros(1, 4, 2, 2, 2)
    known = torch.tensor([True, False])[:, None, None].expand(2, 2, 2)
    conditioning = inpainting.FrameConditioning(latents=latents, known=known)
    settings = {"num_frames": 5, "height": 16, "width": 16, "num_inference_steps": 1, "output_type": "latent"}
    with pytest.warns(FutureWarning, match=r"given=\.\.\. is now called conditioning=\.\.\."):
        out = pipe("a star", given=conditioning, **settings).latents
    assert torch.equal(out, pipe("a star", conditioning=conditioning, **settings).latents)
    assert torch.equal(out[:, :, 0], latents[:, :, 0])
