"""Conditions of a model with generation tasks: which it serves and how, and what restorers that are known score."""

from types import SimpleNamespace

import pytest
import torch

from vidgen.data.shapes import ShapeWorld, ShapeWorldConfig
from vidgen.errors import VidgenError
from vidgen.pipelines.evaluation.condition_scores import score_condition
from vidgen.pipelines.evaluation.conditions import CONDITIONS, list_methods, served_conditions
from vidgen.pipelines.restoration import METHODS
from vidgen.pipelines.video import VideoPipeline
from vidgen.samplers.conditioning.generation_tasks import GENERATION_TASKS

FAST = dict(num_inference_steps=2, guidance_scale=1.0)
RESTORED = {"filling", "super_resolution", "deblurring", "colorization"}


class Copier(torch.nn.Module):
    """A network that says of a clip behind another that it is the same; of a clip alone that it is gray."""

    def __init__(self, *tasks: str):
        super().__init__()
        self.config = SimpleNamespace(patch=(1, 1, 1), task_names=tasks)
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, t, text, labels):
        if self.config.task_names[int(labels.task_id[0])] == "text_to_video":
            return torch.zeros_like(x)
        shown = x[:, :, : x.shape[2] // 2]
        return torch.cat([shown, shown], dim=2)


@pytest.fixture
def trained(chain_pipe):
    """`trained(task, ...)`: a pipeline of pixels, 64 wide, whose network copies."""
    plain = chain_pipe(64)
    return lambda *tasks: VideoPipeline(plain.vae, Copier(*tasks), plain.text_encoder, plain.scheduler)


def test_a_restorer_that_copies_gains_nothing(trained):
    pipe = trained("text_to_video", "super_resolution")
    world = ShapeWorld(ShapeWorldConfig(num_frames=3, split="held_out"))
    rows = {by: score_condition(pipe, world, "super_resolution", 2, by=by, **FAST) for by in METHODS}
    for by, row in rows.items():  # gray with the right means is the degraded clip, too
        assert row["by"] == by and row["gain_psnr"]["n"] == 2
        assert row["gain_psnr"]["mean"] == pytest.approx(0.0, abs=0.01)
    row = score_condition(pipe, world, "super_resolution", 1, num_inference_steps=2)
    assert row["by"] == "both" and row["guidance_scale"] == 1.0
    assert score_condition(pipe, world, "filling", 1, num_inference_steps=2)["guidance_scale"] is None
    with pytest.raises(VidgenError, match="asks for the task text_to_video, and the model was trained for super_reso"):
        score_condition(trained("super_resolution"), world, "deblurring", 1, **FAST)


def test_conditions_are_served_by_the_tasks_of_a_model(trained, pipe):
    assert [list_methods(pipe, name) for name in ("text", "image", "filling")] == [(None,), (None,), ("projection",)]
    restorer = trained("text_to_video", "colorization", "inpainting", "interpolation")
    assert served_conditions(restorer) == [
        "text", "first_last", "inpainting", "video_to_video", "filling", "super_resolution", "deblurring",
        "colorization",
    ]  # fmt: skip
    assert list_methods(restorer, "colorization") == list_methods(restorer, "filling") == METHODS
    assert list_methods(restorer, "deblurring") == ("projection",) and list_methods(restorer, "image") == ()
    assert list_methods(trained("colorization"), "colorization") == ("task", "both")  # projection goes by the prompt
    assert served_conditions(trained("colorization")) == ["colorization"]
    assert {name for name, condition in CONDITIONS.items() if condition.is_restoration} == RESTORED
    assert {condition.task for condition in CONDITIONS.values()} <= set(GENERATION_TASKS)
