"""Surprise against denoisers whose loss is known in closed form."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from vidgen.data.shapes import ShapeWorldConfig
from vidgen.diffusion.noise import draw_normal, sample_generator
from vidgen.diffusion.paths import FlowPath
from vidgen.errors import VidgenError
from vidgen.models.encoders.feature_predictor import FeaturePredictor
from vidgen.representations.time.surprise import (
    Noise,
    denoising_losses,
    measure_surprise,
    prediction_losses,
    read_quartet,
)

CONFIG = ShapeWorldConfig(height=32, width=32, num_frames=9)
CROSSED = ["vanishes", "teleports", "recolours", "reshapes"]
FEW = Noise(levels=(0.2, 0.6), draws=2)


class Pixels(nn.Module):
    """A tokenizer whose latents are the pixels, or with `pooled` their mean over each frame."""

    def __init__(self, pooled=False):
        super().__init__()
        self.pooled, self.weight = pooled, nn.Parameter(torch.ones(()))

    def encode(self, video):
        video = video.mean((3, 4), keepdim=True) if self.pooled else video
        return SimpleNamespace(latents=self.weight * video)


class Neighbors(nn.Module):
    """A denoiser: x0 is the mean of x over three frames, over alpha. It knows nothing of what is farther away."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x, t, text):
        edges = F.pad(x, (0, 0, 0, 0, 1, 1), mode="replicate")
        return self.weight * F.avg_pool3d(edges, (3, 1, 1), stride=1) / (1 - t).reshape(-1, 1, 1, 1, 1)


class Memory(Neighbors):
    """A denoiser: x0 is the mean of x over all frames, over alpha."""

    def forward(self, x, t, text):
        return self.weight * x.mean(2, keepdim=True).expand_as(x) / (1 - t).reshape(-1, 1, 1, 1, 1)


class Stub(SimpleNamespace):
    """The parts of a pipeline that losses are read from."""

    def __call__(self, prompt):
        raise AssertionError("nothing is sampled")

    def unguided(self, prompts):
        raise AssertionError("no denoiser of prompts is asked for")


def model_of(denoiser, tokenizer):
    return Stub(
        vae=tokenizer, transformer=denoiser, text_encoder=lambda prompts: None, path=FlowPath(),
        scheduler=SimpleNamespace(prediction_type="sample"),
    )  # fmt: skip


def test_the_loss_is_its_formula_and_the_noise_is_shared():
    video = read_quartet("teleports", 0, CONFIG, in_view=True)
    by_level = denoising_losses(model_of(Neighbors(), Pixels()), video, "teleports 0", FEW)
    for level, losses in by_level.items():
        expected = []
        for clip in video.double():
            total = 0.0
            for draw in range(2):
                stream = sample_generator(0, f"surprise teleports 0 draw {draw}")
                eps = draw_normal(clip.shape, stream).double()
                noisy = clip + level / (1 - level) * eps
                edges = torch.cat([noisy[:, :1], noisy, noisy[:, -1:]], dim=1)
                smooth = (edges[:, :-2] + edges[:, 1:-1] + edges[:, 2:]) / 3
                total += (smooth - clip).square().mean().item() / 2
            expected.append(total)
        np.testing.assert_allclose(losses, expected, rtol=1e-5)
    alone = denoising_losses(model_of(Neighbors(), Pixels()), video[1:2], "teleports 0", FEW)
    np.testing.assert_allclose(alone[0.6], by_level[0.6][1:2], rtol=1e-6)


def test_what_is_hidden_cannot_be_told_by_neighboring_frames_and_what_is_in_view_can():
    """A denoiser that is linear in three frames: as all pictures occur on both sides, and the noise is the same, the
    noise cancels, and what is left are the steps over the cut. Hidden ones are equal: every quartet is a tie."""
    for in_view, expected, names in ((False, 0.5, CROSSED), (True, 1.0, CROSSED[:3])):
        model = model_of(Neighbors(), Pixels())
        rows = measure_surprise(
            model, [*names, "nothing"], 4, config=CONFIG, noise=FEW, in_view=in_view, baselines=False
        )
        table = {(row["violation"], row["noise_level"]): row for row in rows}
        assert set(table) == {(name, level) for name in [*names, "nothing", "all"] for level in (0.2, 0.6)}
        for (name, _), row in table.items():
            assert row["accuracy"] == (0.5 if name == "nothing" else expected), row
            assert row["ties"] == (row["quartets"] if row["accuracy"] == 0.5 else 0)
            assert row["ci"][0] <= row["accuracy"] <= row["ci"][1]
        assert table["all", 0.2]["quartets"] == 4 * len(names)


def test_a_memory_sees_behind_the_screen():
    """The mean over all T frames leaves sum_t x_t^2 - (sum_t x_t)^2 / T of a frame's mean x: what was more before the
    screen, and is more after it, costs less than what changes. Noise adds the same to both sides."""
    rows = measure_surprise(
        model_of(Memory(), Pixels(pooled=True)), ["vanishes", "recolours"], 4, config=CONFIG, noise=FEW, baselines=False
    )
    assert all(row["accuracy"] == 1.0 and row["ties"] == 0 for row in rows)
    gaps = []
    for index in range(4):
        x = read_quartet("vanishes", index, CONFIG, False).double().mean((3, 4))  # clip c t
        loss = x.square().mean((1, 2)) - x.mean(2).square().mean(1)
        streams = [sample_generator(0, f"surprise vanishes {index} draw {draw}") for draw in range(2)]
        noise = np.mean([draw_normal((3, 9), stream).mean(1).square().mean().item() for stream in streams])
        loss += (0.2 / 0.8) ** 2 * noise
        gaps.append((loss[2:].sum() / loss[:2].sum()).item() - 1)
    (row,) = [row for row in rows if row["violation"] == "vanishes" and row["noise_level"] == 0.2]
    assert row["excess"] == pytest.approx(np.mean(gaps), rel=1e-3)


def test_baselines_and_the_control(pipeline):
    rows = measure_surprise(pipeline, ["vanishes", "nothing"], 2, config=CONFIG, noise=Noise(levels=(0.3,), draws=1))
    assert [(row["scorer"], row["violation"], row["baseline"]) for row in rows] == [
        ("denoiser", "vanishes", False), ("denoiser", "nothing", False),
        ("random.denoiser", "vanishes", True), ("random.denoiser", "nothing", True),
        ("frame_differences", "vanishes", True), ("frame_differences", "nothing", True),
    ]  # fmt: skip
    for row in rows:
        assert row["violation"] == "vanishes" or (row["accuracy"], row["ties"]) == (0.5, 2)
    assert rows[4]["accuracy"] == 0.5 and rows[4]["noise_level"] is None
    again = measure_surprise(pipeline, ["vanishes"], 2, config=CONFIG, noise=Noise(levels=(0.3,), draws=1))
    assert again[0] == rows[0]


def test_what_cannot_be_measured_is_one_line(pipeline):
    with pytest.raises(VidgenError, match="'melts' is unknown; choose some of vanishes"):
        measure_surprise(pipeline, ["melts"], 1)
    with pytest.raises(VidgenError, match="VideoTokenizer has no denoiser"):
        measure_surprise(pipeline.vae, ["vanishes"], 1)
    for levels in ((0.0,), (1.0,), ()):
        with pytest.raises(VidgenError, match="a number above 0 and below 1"):
            Noise(levels=levels)


class LastFrame(FeaturePredictor):
    """Features are the pixels, and of what comes the last frame that was seen is told, or with `knows` the truth."""

    def __init__(self, knows=False):
        nn.Module.__init__(self)
        self.knows, self.weight = knows, nn.Parameter(torch.ones(()))

    def features(self, video):
        return rearrange(video, "b c t h w -> b t h w c")

    def forward(self, video, seen, ahead):
        return self.features(video)[:, seen : seen + ahead] if self.knows else self.features(video)[:, seen - 1 : seen]


def test_a_predictor_is_surprised_by_what_it_does_not_expect():
    video = read_quartet("teleports", 0, CONFIG, in_view=True)
    expected = video.double().diff(dim=2).abs().mean((1, 2, 3, 4)).numpy()
    np.testing.assert_allclose(prediction_losses(LastFrame(), video), expected, rtol=1e-5)
    rows = measure_surprise(LastFrame(), ["teleports"], 6, config=CONFIG, in_view=True, baselines=False)
    assert [(row["scorer"], row["noise_level"], row["baseline"]) for row in rows] == [("predictor", None, False)]
    assert rows[0]["accuracy"] == 1.0 and rows[0]["auc"] > 0.5  # a jump is farther than a step
    rows = measure_surprise(LastFrame(knows=True), ["teleports"], 6, config=CONFIG, in_view=True, baselines=False)
    assert rows[0]["accuracy"] == 0.5 and rows[0]["ties"] == 6 and rows[0]["auc"] == 0.5


def test_one_token_frame_has_nothing_before_it():
    with pytest.raises(VidgenError, match="one token frame, before which there is none"):
        prediction_losses(LastFrame(), read_quartet("teleports", 0, CONFIG, in_view=True)[:, :, :1])
