"""`vidgen bench encoder`: an encoder with fewer tokens, in turns with the plain one, and how like its features are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vidgen.data.frames import to_tensor
from vidgen.data.shapes import ShapeWorld, ShapeWorldConfig
from vidgen.errors import VidgenError
from vidgen.interfaces import Encoder
from vidgen.models.encoders.reducers import REDUCERS, reduce_encoder
from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig
from vidgen.pipelines.loading import load_feature_encoder
from vidgen.profiling.flops import count_gflops
from vidgen.profiling.roofline import synchronizer
from vidgen.representations.latent_encoder import LatentEncoder, cell_size
from vidgen.scripts.benches.bench_rows import BenchSettings, Row, make_row
from vidgen.scripts.benches.machine import Machine
from vidgen.scripts.benches.timing import alternate, processor_clock

LEARNER = "learner"
CASES = (*REDUCERS, LEARNER)
PEERS = ()
OF_CHANGE = ("tokens", "frames", "tubes")  # which indices, being names, do not tell
LEARNED = (16, 8, 4)  # tokens a frame of tubes
CLIPS, QUICK_CLIPS = 8, 2
LONGER = 4  # how many times a clip is as long that is read by segments
QUICK = VideoViTConfig(patch=(2, 8, 8), width=32, depth=2, head_dim=16, clip=(8, 32, 32))


def measure(settings: BenchSettings, machine: Machine) -> Iterator[Row]:
    """Yield a row of each reducer at each number of its curve: `settings.model` is a folder of `vidgen train ssl/NAME`,
    or "default", the default shape of a `VideoViT` with random weights. One over a tokenizer's cells is given these, so
    that the tokenizer's time is not in the rows."""
    model = open_encoder(settings)
    encoder = model.encoder if isinstance(model, LatentEncoder) else model
    names = [x for x in CASES if not (encoder.config.codebook_size and x in OF_CHANGE)]
    for name in names if settings.only is None else settings.only:
        video = draw_clips(model, settings, LONGER if name.startswith("memory") else 1)
        if isinstance(model, LatentEncoder):
            video = model.cells_of(video)
        numbers = LEARNED if name == LEARNER else REDUCERS[name].curve
        for number in numbers[:1] if settings.quick else numbers:
            yield measure_reducer(f"{name}:{number:g}", encoder, video, settings, machine)


def open_encoder(settings: BenchSettings) -> VideoViT | LatentEncoder:
    """Return the encoder. Raises VidgenError for a model that is none of `vidgen train ssl/NAME`."""
    dtype = getattr(torch, settings.dtype)
    if settings.model == "default":
        torch.manual_seed(0)
        encoder = VideoViT(QUICK if settings.quick else VideoViTConfig()).eval().requires_grad_(False)
        return encoder.to(settings.device, dtype)
    encoder = load_feature_encoder(settings.model, device=settings.device, dtype=dtype)
    if not isinstance(encoder, VideoViT | LatentEncoder):
        raise VidgenError(f"{settings.model} is a {type(encoder).__name__}; name a folder of `vidgen train ssl/NAME`")
    return encoder


def draw_clips(encoder: VideoViT | LatentEncoder, settings: BenchSettings, times: int) -> Float[Tensor, "b 3 T H W"]:
    """Return clips of the synthetic world, so many times as long as the encoder's, in latent frames where it reads
    these."""
    frames, height, width = encoder.config.clip
    cell = cell_size(encoder.tokenizer)[0] if isinstance(encoder, LatentEncoder) else 1
    longer = frames + (times - 1) * -(-(frames + cell - 1) // cell) * cell
    world = ShapeWorld(ShapeWorldConfig(num_frames=longer, height=height, width=width))
    count = QUICK_CLIPS if settings.quick else CLIPS
    clips = [to_tensor(world[i].video) for i in range(count)]
    return torch.stack(clips).to(settings.device)


def make_reduced(encoder: VideoViT, text: str) -> Encoder:
    """Return the encoder as "NAME:NUMBER" reduces it; "learner:8" has that many tokens a frame in the second half of
    its blocks, by a TokenLearner with random weights."""
    name, _, number = text.partition(":")
    if name != LEARNER:
        return reduce_encoder(encoder, text)
    config = replace(encoder.config, learner_tokens=int(number), learner_block=encoder.config.depth // 2)
    torch.manual_seed(0)
    learning = VideoViT(config).eval().requires_grad_(False).to(encoder.device, encoder.dtype)
    learning.load_state_dict(learning.state_dict() | encoder.state_dict())
    return learning


def features_of(encoder: Encoder, video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b c"]:
    """Return the mean of the last layer's map."""
    *_, (_, maps) = encoder.iter_features(video)
    return maps.float().mean((2, 3, 4))


@torch.inference_mode()
def measure_reducer(
    text: str, encoder: VideoViT, video: Float[Tensor, "b 3 T H W"], settings: BenchSettings, machine: Machine
) -> Row:
    """Return the time of a batch by the reduced encoder and, as the peer, by the plain one: on a CPU of the processor,
    which other work on the machine does not change.

    `cosine` is the mean over clips between features with and without, less the mean of the plain ones over clips, which
    all have in common; None for tokens that are learned, which with random weights say nothing.
    """
    reduced = make_reduced(encoder, text)
    runs: dict[str, Callable[[], Tensor]] = {
        "reduced": lambda: features_of(reduced, video),
        "plain": lambda: features_of(encoder, video),
    }
    clock, clock_name = processor_clock(settings.device)
    times = alternate(runs, rounds=settings.rounds, settle=synchronizer(settings.device), clock=clock)
    count, tokens = len(video), encoder.grid_of(video)
    cosine = None if text.startswith(LEARNER) else compare(runs["reduced"](), runs["plain"]())
    remark = "with random weights" if cosine is None else f"cosine to all tokens {cosine:.3f}"
    return make_row(
        f"{text} {count} x {'x'.join(map(str, video.shape[2:]))}",
        times["reduced"],
        gflops=count_gflops(runs["reduced"]) / count,
        peak_gflops=None,
        peer=times["plain"],
        peer_gflops=count_gflops(runs["plain"]) / count,
        clip_s=times["reduced"].median / count,
        peer_clip_s=times["plain"].median / count,
        tokens_per_s=count * tokens[0] * tokens[1] * tokens[2] / times["reduced"].median,
        cosine=cosine,
        said=remark,
        clock=clock_name,
        against="the same encoder with all tokens",
        peer_layout="in turns",
        peer_autocast=False,
    )


def compare(features: Float[Tensor, "b c"], plain: Float[Tensor, "b c"]) -> float:
    """Return the mean cosine of rows, both less the mean of the plain ones."""
    center = plain.mean(0)
    return float(F.cosine_similarity(features - center, plain - center).mean())
