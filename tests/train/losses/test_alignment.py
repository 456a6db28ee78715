"""Alignment of a denoiser: frames by what they have in common, a loss that falls, and a pipeline without it."""

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig
from vidgen.pipelines.loading import load_pipeline
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime.loop import Trainer
from vidgen.train.tasks.diffusion import DiffusionTask
from vidgen.train.tasks.ssl.resampling import cell_edges, overlap_shares

SMALL = [
    "cached_clips=4", "steps=2", "batch_size=2", "log_every=1", "validate_every=2", "checkpoint_every=1",
    "data.validation_clips=2", "data.num_frames=5", "data.size=[16,16]", "model.width=32", "model.depth=2",
    "model.head_dim=32", "text_model.width=16", "text_model.depth=1", "text_model.head_dim=16", "autocast=float32",
    "optimizer={kind: adamw, lr: 0.003, warmup: 0, ema_decay: 0}",
]  # fmt: skip


@pytest.fixture
def make(tmp_path):
    """Return a recipe over a tiny tokenizer, aligned with a tiny encoder that takes two frames at a time."""
    torch.manual_seed(0)
    VideoTokenizer(PRESETS["tiny"]).save_pretrained(tmp_path / "tok")
    VideoViT(VideoViTConfig(patch=(2, 8, 8), width=32, depth=2, head_dim=16, clip=(4, 16, 16))).save_pretrained(
        tmp_path / "vit"
    )
    places = [f"tokenizer={tmp_path / 'tok'}", f"cache={tmp_path / 'cache'}", f"out={tmp_path / 'run'}"]

    def load(alignment: str, *more: str):
        aligned = f"alignment={{source: {tmp_path / 'vit'}, block: 1, {alignment}}}"
        return load_recipe("diffusion_default", [*SMALL, *places, aligned, *more])

    return load


def test_latent_frames_have_the_maps_of_their_own_frames():
    latents = cell_edges(3, 4, first_alone=True)
    assert latents.tolist() == [[0, 1], [1, 5], [5, 9]]
    by_frame = overlap_shares(cell_edges(9, 1, first_alone=False), latents)
    assert by_frame[0].tolist() == [1.0] + [0.0] * 8
    assert by_frame[1].tolist() == [0.0] + [0.25] * 4 + [0.0] * 4
    by_pairs = overlap_shares(cell_edges(5, 2, first_alone=False), latents)  # frames 0-1, 2-3, ..., the last filled up
    assert by_pairs[0].tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert by_pairs[1].tolist() == [0.25, 0.5, 0.25, 0.0, 0.0]
    assert torch.equal(overlap_shares(latents, latents), torch.eye(3))  # a denoiser's cells are the latent frames
    pairs = overlap_shares(latents, cell_edges(5, 2, first_alone=False))
    assert pairs[0].tolist() == [0.5, 0.5, 0.0] and pairs[4].tolist() == [0.0, 0.0, 1.0]


def test_a_denoiser_is_aligned_cell_by_cell(make):
    task = DiffusionTask(make("form: tokens", "alignment.source=default", "alignment.layer=blocks.3"))
    assert task.alignment.target.first_alone
    video = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    (name, maps) = next(
        (name, x) for name, x in task.alignment.target.encoder.iter_features(video) if name.startswith("blocks.3@")
    )
    grid = (maps.shape[1], *maps.shape[2:4])
    same = task.alignment.target.maps_at(video, grid, cell_edges(grid[0], 4, first_alone=True))
    assert torch.allclose(same, maps.permute(0, 4, 1, 2, 3), atol=1e-5) and name


@pytest.mark.parametrize("form", ["tokens", "relations"])
def test_tokens_come_nearer_to_the_encoders(make, form):
    task = DiffusionTask(make(f"form: {form}, weight: 1.0, margin: 0.0"))
    batch = task.gather([task.dataset[(0, slot)] for slot in range(2)])
    optimizer = torch.optim.Adam(task.model.parameters(), lr=3e-3)
    values = []
    for _ in range(40):
        loss, metrics = task.loss(batch, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(metrics["alignment_loss"])
    assert values[-1] < 0.6 * values[0]


def test_the_loss_is_the_plain_one_and_the_alignments(make):
    aligned = DiffusionTask(make("weight: 0.25"))
    plain = DiffusionTask(load_recipe("diffusion_default", [*SMALL, f"tokenizer={aligned.recipe.tokenizer}", "out=x",
                                                            f"cache={aligned.recipe.cache}"]))  # fmt: skip
    batch = plain.gather([plain.dataset[(0, slot)] for slot in range(2)])
    own, _ = plain.loss(batch, torch.Generator().manual_seed(0))
    both, metrics = aligned.loss(batch, torch.Generator().manual_seed(0))
    assert both.item() == pytest.approx(own.item() + 0.25 * metrics["alignment_loss"], rel=1e-5)


def test_a_pipeline_is_saved_without_it(make):
    recipe = make("form: tokens")
    folder = Trainer(DiffusionTask(recipe), recipe).fit()
    assert load_pipeline(str(folder))("a star", num_inference_steps=1).frames[0].shape == (5, 16, 16, 3)
    assert not (folder / "alignment").exists()


def test_what_cannot_be_aligned_is_refused(make):
    with pytest.raises(VidgenError, match="block=2: the denoiser has blocks 0 to 1"):
        DiffusionTask(make("form: tokens", "alignment.block=2"))
    with pytest.raises(VidgenError, match="alignment is of task diffusion, not lora"):
        load_recipe("lora", ["alignment={source: x}"])
    with pytest.raises(VidgenError, match="is not one of"):
        DiffusionTask(make("layer: blocks.7"))
