"""Plans keep their budget, as the tensors that are really made show; the clip is the same under each of them."""

import functools

import numpy as np
import pytest
import torch

from vidgen.data.frames import to_tensor
from vidgen.errors import VidgenError
from vidgen.profiling.live_memory import LiveBytes, tensor_bytes
from vidgen.tokenizers.model import TokenizerConfig, VideoTokenizer
from vidgen.tokenizers.streaming import chunks
from vidgen.tokenizers.streaming.chunks import Plan
from vidgen.tokenizers.streaming.memory_plan import LEAST_TILE, MemoryModel, plan_for_memory, tiles_of
from vidgen.tokenizers.streaming.tiles import BlendedTiles, ExactTiles

HEIGHT, WIDTH = 203, 250
# A frame of 51 x 63 cells, and halos of 5: tiles save something.
SMALL = dict(latent_channels=4, widths=(8, 12), patch_t=2, patch=2, temporal=(True,), encoder_blocks=1)


@pytest.fixture(scope="module")
def tokenizer() -> VideoTokenizer:
    torch.manual_seed(0)
    return VideoTokenizer(TokenizerConfig(decoder_blocks=1, **SMALL)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (18, HEIGHT, WIDTH, 3), np.uint8)


def measure(tokenizer: VideoTokenizer, task: str, frames: np.ndarray, plan) -> tuple[int, torch.Tensor]:
    """The most bytes of tensors while `task` runs, weights included, and its result."""
    parts, peak = [], 0
    latents = tokenizer.encode(to_tensor(frames)[None]).latents
    size = {"num_frames": len(frames), "height": HEIGHT, "width": WIDTH}
    runs = {
        "encode": lambda: chunks.encode_stream(tokenizer, iter(frames), plan),
        "decode": lambda: chunks.decode_stream(tokenizer, latents, **size, plan=plan),
        "reconstruct": lambda: (y for _, y in chunks.reconstruct_stream(tokenizer, iter(frames), plan)),
    }
    with LiveBytes() as live:
        for part in runs[task]():
            parts.append(part.numpy().copy())  # out of the count, as if it went to a file
            del part
            peak = max(peak, live.peak)
    weights = tensor_bytes(*tokenizer.parameters(), *tokenizer.buffers())
    return weights + peak, torch.from_numpy(np.concatenate(parts, axis=-3))


def test_live_bytes_counts_what_is_held():
    with LiveBytes() as live:
        a = torch.zeros(1000)
        b = a.view(10, 100).sum(1)  # the view is not new
        assert live.live == 4040
        c = a + 1.0
        del a, b
        assert (live.live, live.peak) == (4000, 8040)
        with torch.inference_mode():
            c = torch.nn.functional.linear(c.view(10, 100), torch.ones(3, 100))
    assert live.peak == 8040 and tensor_bytes(c) == 120


@pytest.mark.slow
@pytest.mark.parametrize("task", ["encode", "decode", "reconstruct"])
def test_budgets_are_kept_and_results_equal(tokenizer, frames, task):
    model = MemoryModel(tokenizer)
    free, whole = (model.peak(task, HEIGHT, WIDTH, Plan(latents=n)) for n in (5, 1))
    smallest = ExactTiles(rows=LEAST_TILE, cols=LEAST_TILE)
    least = model.peak(task, HEIGHT, WIDTH, Plan(latents=1, tiles=smallest))
    reference, plans = None, []
    for budget in (free, whole, (whole + least) // 2, least):
        chosen = plan_for_memory(tokenizer, HEIGHT, WIDTH, max_bytes=budget, task=task, model=model)
        plans.append(chosen)
        if chosen.tiles == smallest:  # many tiles, mostly halo: planned, not run
            continue
        used, result = measure(tokenizer, task, frames, lambda *_, chosen=chosen: chosen)
        assert used <= chosen.peak_bytes <= budget
        assert chosen.peak_bytes < 3 * used  # the plan does not waste the budget either
        reference = result if reference is None else reference
        torch.testing.assert_close(result, reference, rtol=0, atol=2e-5)
    assert [plan.tiles for plan in plans[:2]] == [None, None] and plans[0].latents > plans[1].latents == 1
    assert isinstance(plans[2].tiles, ExactTiles) and plans[2].tiles.rows > LEAST_TILE
    assert plans[3].tiles == smallest


@pytest.mark.slow
def test_too_little_is_said_with_what_would_do(tokenizer):
    with pytest.raises(VidgenError, match="0.1MB is too little: frames of 203x250 take at least [0-9.]+MB") as caught:
        plan_for_memory(tokenizer, HEIGHT, WIDTH, max_bytes=100_000, task="decode")
    needed = float(str(caught.value).split(" at least ")[1].split("MB")[0])
    assert plan_for_memory(tokenizer, HEIGHT, WIDTH, max_bytes=round(needed * 1e6), task="decode").tiles is not None


def test_reserved_bytes_count(tokenizer):
    model = MemoryModel(tokenizer)
    budget = model.peak("encode", HEIGHT, WIDTH, Plan(latents=1))
    plan = functools.partial(plan_for_memory, tokenizer, HEIGHT, WIDTH, max_bytes=budget, task="encode", model=model)
    assert plan().tiles is None
    assert plan(reserved=budget // 5).tiles is not None


def test_models_that_see_the_frame_get_blended_tiles(tokenizer, frames):
    model = MemoryModel(tokenizer)
    model.halos = {"encode": None, "decode": None}
    for size in (1, 2, 9):
        assert isinstance(tiles_of(size, exact=model.exact), BlendedTiles)
    budget = model.peak("encode", HEIGHT, WIDTH, Plan(latents=1)) * 3 // 4
    plan = plan_for_memory(tokenizer, HEIGHT, WIDTH, max_bytes=budget, task="encode", model=model)
    assert isinstance(plan.tiles, BlendedTiles) and plan.peak_bytes <= budget
    used, _ = measure(tokenizer, "encode", frames, lambda *_: plan)
    assert used <= plan.peak_bytes


@pytest.mark.slow
def test_attention_keeps_its_budget_in_blended_tiles(frames):
    torch.manual_seed(0)
    seeing = VideoTokenizer(TokenizerConfig(decoder_blocks=1, attention=True, **SMALL)).eval().requires_grad_(False)
    model = MemoryModel(seeing)
    assert not model.exact
    whole = model.peak("encode", HEIGHT, WIDTH, Plan(latents=1))
    for budget, kind in ((whole, type(None)), (whole * 4 // 5, BlendedTiles)):
        plan = plan_for_memory(seeing, HEIGHT, WIDTH, max_bytes=budget, task="encode", model=model)
        used, _ = measure(seeing, "encode", frames[:7], lambda *_, plan=plan: plan)
        assert isinstance(plan.tiles, kind) and used <= plan.peak_bytes < 3 * used
    plan = Plan(latents=1)
    used, _ = measure(seeing, "decode", frames[:7], lambda *_: plan)
    assert used <= model.peak("decode", HEIGHT, WIDTH, plan) < 3 * used


def windowed(window: int) -> VideoTokenizer:
    torch.manual_seed(0)
    settings = dict(latent_channels=4, patch_t=2, patch=4, widths=(16,), temporal=(), encoder_blocks=1)
    heads = dict(backbone="transformer", head_dim=8, window=window, time_window=3, decoder_blocks=1)
    return VideoTokenizer(TokenizerConfig(**settings, **heads)).eval().requires_grad_(False)


@pytest.mark.slow
def test_windows_keep_their_budget_in_exact_tiles(frames):
    tokenizer = windowed(4)
    model = MemoryModel(tokenizer)
    assert model.exact and model.windowed
    whole = model.peak("decode", HEIGHT, WIDTH, Plan(latents=1))
    plan = plan_for_memory(tokenizer, HEIGHT, WIDTH, max_bytes=whole * 9 // 10, task="decode", model=model)
    used, result = measure(tokenizer, "decode", frames[:7], lambda *_: plan)
    assert isinstance(plan.tiles, ExactTiles) and used <= plan.peak_bytes <= whole * 9 // 10
    reference = tokenizer(to_tensor(frames[:7])[None])[0].clamp(-1, 1)
    torch.testing.assert_close(result, reference, rtol=0, atol=2e-5)


def test_windows_too_wide_for_exact_tiles_get_blended_ones():
    tokenizer = windowed(40)
    model = MemoryModel(tokenizer)
    budget = model.peak("encode", HEIGHT, WIDTH, Plan(latents=1)) * 4 // 5
    plan = plan_for_memory(tokenizer, HEIGHT, WIDTH, max_bytes=budget, task="encode", model=model)
    assert model.exact and isinstance(plan.tiles, BlendedTiles) and plan.peak_bytes <= budget


@pytest.mark.slow
def test_memory_does_not_grow_with_the_clip(tokenizer):
    def peak(count: int) -> int:
        frames = (np.full((24, 32, 3), k % 256, np.uint8) for k in range(count))
        with LiveBytes() as live:
            for pair in chunks.reconstruct_stream(tokenizer, frames, lambda *_: Plan(latents=4)):
                del pair
        return live.peak

    assert peak(1000) <= 1.1 * peak(100)
