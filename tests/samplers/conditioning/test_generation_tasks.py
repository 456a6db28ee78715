"""Generation tasks: what training draws under a name is what sampling finds to be of that name."""

import pytest
import torch

from vidgen.samplers.conditioning.degradations import Blur, Downsample, Grayscale, Mask
from vidgen.samplers.conditioning.frame_conditioning import FrameConditioning
from vidgen.samplers.conditioning.generation_tasks import (
    GENERATION_TASKS,
    RESTORATIONS,
    SHORTEST,
    draw_known,
    find_restoration,
    find_task,
)
from vidgen.samplers.conditioning.inpainting import sample_conditioned
from vidgen.samplers.solvers import SAMPLERS


@pytest.mark.parametrize("task", GENERATION_TASKS)
def test_what_is_drawn_is_of_the_task(task) -> None:
    generator = torch.Generator().manual_seed(0)
    for frames in (SHORTEST.get(task, 1), 3, 6):
        draws = [draw_known(task, (frames, 4, 5), generator) for _ in range(50)]
        names = {find_task(known) for known in draws}
        assert names == {"text_to_video" if task in RESTORATIONS else task}
        assert not any(known.all() for known in draws)
    if task in ("prediction", "keyframes", "inpainting"):
        assert len({tuple(known.flatten().tolist()) for known in draws}) > 3


def test_patterns_are_those_of_their_names() -> None:
    generator = torch.Generator()
    frames = {task: draw_known(task, (4, 2, 2), generator).flatten(1).all(1).tolist() for task in SHORTEST}
    assert frames["image_to_video"] == [True, False, False, False]
    assert frames["interpolation"] == [True, False, False, True]
    assert frames["prediction"] in ([True, True, False, False], [True, True, True, False])
    box = ~draw_known("inpainting", (4, 8, 8), generator)
    assert torch.equal(box, box[:1].expand(4, 8, 8))  # the same part of every frame
    rows, cols = box[0].any(1), box[0].any(0)
    assert torch.equal(box[0], rows[:, None] & cols) and 2 <= rows.sum() <= 6 and 2 <= cols.sum() <= 6


def test_a_clip_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="interpolation needs 3 latent frames, got 2"):
        draw_known("interpolation", (2, 4, 4), torch.Generator())


def test_degradations_have_their_task() -> None:
    lost = (Downsample(2), Blur(3.0), Grayscale(), Mask(torch.zeros(4, 4, dtype=torch.bool)))
    names = ["super_resolution", "deblurring", "colorization", "inpainting"]
    assert [find_restoration(each) for each in lost] == names and find_restoration(object()) is None


def test_clips_behind_known_frames_are_corrected_alone() -> None:
    latents, before = torch.zeros(1, 2, 3, 4, 4), torch.ones(1, 2, 3, 4, 4)
    plain = FrameConditioning.of_start(latents, 1.0, correct=lambda x0: x0 + 1)
    behind = plain.after(before)
    assert behind.frames.tolist() == [True] * 3 + [False] * 3 and behind.strength == 1.0
    assert torch.equal(behind.latents[:, :, :3], before)
    assert torch.equal(behind.correct(behind.latents), torch.ones(1, 2, 6, 4, 4))


@pytest.mark.parametrize("shows_known", [True, False])
def test_cells_are_shown_clean_where_the_model_was_trained_so(pipe, shows_known) -> None:
    latents = torch.full((1, 1, 2, 4, 4), 7.0)
    known = torch.zeros(2, 4, 4, dtype=torch.bool)
    known[:, :2] = True
    shown = []

    def denoise(x, t):
        shown.append(x)
        return torch.zeros_like(x)

    noise = torch.randn(1, 1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    conditioning = FrameConditioning(latents=latents, known=known)
    times = torch.tensor([1.0, 0.6, 0.3, 0.0])
    out = sample_conditioned(SAMPLERS["euler"], denoise, noise, times, pipe.path, conditioning, shows_known=shows_known)
    assert all(bool((x[..., :2, :] == 7.0).all()) for x in shown) == shows_known
    assert bool((out[..., :2, :] == 7.0).all()) and not bool((shown[0][..., 2:, :] == 7.0).any())
