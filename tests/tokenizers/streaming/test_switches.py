"""diffusers' switches change the memory that is taken and not the result."""

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.tokenizers.model import TokenizerConfig, VideoTokenizer
from vidgen.tokenizers.presets import PRESETS
from vidgen.tokenizers.streaming.tiles import BlendedTiles


def make(**changes) -> VideoTokenizer:
    torch.manual_seed(0)
    sizes = dict(latent_channels=4, widths=(8, 12), encoder_blocks=1, decoder_blocks=1, patch_t=4, patch=2)
    return VideoTokenizer(TokenizerConfig(**(sizes | changes))).double().eval().requires_grad_(False)


def clip(frames: int, height: int, width: int, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, 3, frames, height, width, generator=generator, dtype=torch.float64) * 2 - 1


def test_exact_tiles_give_the_untiled_clip(monkeypatch):
    tokenizer, video = make(), clip(6, 150, 90)
    encoded = tokenizer.encode(video)
    whole = tokenizer.decode(encoded)
    widths = []
    inner = tokenizer.decode_frames
    monkeypatch.setattr(tokenizer, "decode_frames", lambda z, state: widths.append(z.shape[3]) or inner(z, state))
    tokenizer.enable_tiling(tile_sample_min_height=24, tile_sample_min_width=96)
    tiled = tokenizer.encode(video, chunk_frames=4)
    assert tokenizer.use_tiling and torch.allclose(tiled.latents, encoded.latents, atol=1e-10)
    assert torch.allclose(tokenizer.decode(tiled, chunk_latents=1), whole, atol=1e-10)
    assert len(widths) > 2 and max(widths) < encoded.latents.shape[3]
    tokenizer.disable_tiling()
    assert torch.equal(tokenizer.decode(encoded), whole)


def test_frames_that_fit_and_small_clips_run_whole():
    tokenizer = make()
    tokenizer.enable_tiling()
    assert tokenizer.tiles_for(8, 8) is None
    with pytest.raises(VidgenError, match="tiles of 1x256 pixels are smaller than a latent cell, 4x4"):
        tokenizer.enable_tiling(tile_sample_min_height=1)


def test_networks_that_see_the_whole_frame_have_blended_tiles():
    tokenizer = make(attention=True)
    tokenizer.enable_tiling(16, 16)
    assert isinstance(tokenizer.tiles_for(8, 8), BlendedTiles)


def test_slices_of_a_batch_are_the_batch():
    tokenizer, video = make(bottleneck="kl"), clip(5, 16, 24, batch=3)
    encoded = tokenizer.encode(video, sample_posterior=True, generator=torch.Generator().manual_seed(0))
    decoded = tokenizer.decode(encoded)
    tokenizer.enable_slicing()
    sliced = tokenizer.encode(video, sample_posterior=True, generator=torch.Generator().manual_seed(0))
    assert tokenizer.use_slicing and torch.allclose(sliced.latents, encoded.latents, atol=1e-12)
    assert torch.allclose(tokenizer.decode(sliced), decoded, atol=1e-12)


@pytest.mark.parametrize("part", ["tokenizer", "denoiser"])
def test_gradient_checkpointing_keeps_less_and_gives_the_same_gradients(part, pipe):
    model = VideoTokenizer(PRESETS["tiny"]).train() if part == "tokenizer" else pipe.transformer
    model.requires_grad_(True)

    def loss() -> torch.Tensor:
        if part == "tokenizer":
            return model(clip(5, 16, 16).float()).square().mean()
        z = torch.linspace(-1, 1, 4 * 2 * 4 * 4).reshape(1, 4, 2, 4, 4)
        return model(z, torch.tensor([0.5]), pipe.text_encoder(["a star"])).square().mean()

    def gradients() -> tuple[list[torch.Tensor], int]:
        kept = 0

        def pack(tensor):
            nonlocal kept
            kept += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            value = loss()
        return torch.autograd.grad(value, list(model.parameters()), allow_unused=True), kept

    plain, kept = gradients()
    model.enable_gradient_checkpointing()
    assert model.is_gradient_checkpointing
    checkpointed, kept_less = gradients()
    model.disable_gradient_checkpointing()
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(plain, checkpointed, strict=True))
    assert kept_less < 0.7 * kept
    assert not any("forward" in vars(module) for module in model.modules())  # nothing stays on the modules
