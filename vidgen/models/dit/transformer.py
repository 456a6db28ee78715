"""What all diffusion transformers over clips of latents do: patches in, blocks one by one, patches out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.checkpoints.pretrained import Pretrained
from vidgen.errors import VidgenError
from vidgen.models.attention import find_attention
from vidgen.models.attention_patterns import Grid
from vidgen.models.causal_attention import FrameLayout, causal_layout
from vidgen.models.feature_layers import FeatureInfo, FeatureMixin, block_feature_info
from vidgen.models.gradient_checkpointing import GradientCheckpointing
from vidgen.models.layers import Attention, modulate, settle, sinusoidal
from vidgen.models.rope import Rotary, rotary_table

LEVEL_WAVES = 256  # sines and cosines of a noise level
# What a denoiser's `iter_features` is: it yields layers, and takes what stands for the last block's output.
FeatureIterator = Generator[tuple[str, Tensor], Tensor | None, None]


def make_level_embedding(width: int) -> nn.Sequential:
    """Return the two layers that embed a noise level's sines and cosines."""
    return nn.Sequential(nn.Linear(LEVEL_WAVES, width), nn.SiLU(), nn.Linear(width, width))


def start_as_zero(layers: Iterable[nn.Linear]) -> None:
    """Set the weights and biases of layers to zero."""
    for layer in layers:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


def last_features(features: Iterator[tuple[str, Tensor]]) -> Tensor:
    """Run `iter_features` to its end and return its last item, the prediction."""
    for _, out in features:  # noqa: B007 (the last one is the output)
        pass
    return out


class DiffusionTransformer(GradientCheckpointing, FeatureMixin, Pretrained):
    """The parts that `VideoDiT` and published transformers of its kind share.

    A subclass makes `patch_in`, `level`, `blocks`, `norm_out` and `patch_out`, and writes `iter_features` with them;
    its config has `patch`, `width` and `depth`.
    """

    patch_in: nn.Linear
    level: nn.Sequential
    blocks: nn.ModuleList
    norm_out: nn.LayerNorm
    patch_out: nn.Linear

    def grid_of(self, x: Float[Tensor, "b c t h w"]) -> Grid:
        """Return the number of patches (t, h, w) of latents. Raises VidgenError where they do not cut into patches."""
        _, p, q = self.config.patch
        if x.shape[3] % p or x.shape[4] % q:
            raise VidgenError(f"latents of {x.shape[3]}x{x.shape[4]} are not a multiple of the patch {p}x{q}")
        return x.shape[2], x.shape[3] // p, x.shape[4] // q

    def embed_patches(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b t s d"]:
        """Return the embedded patches of latents, in the precision of the weights."""
        _, p, q = self.config.patch
        x = x.to(self.patch_in.weight.dtype)
        return self.patch_in(rearrange(x, "b c t (h p) (w q) -> b t (h w) (c p q)", p=p, q=q))

    def embed_level(self, t: Float[Tensor, b * f]) -> Float[Tensor, "b f d"]:
        """Return the embedded noise levels, one row a clip for levels (b,), or one a frame for levels (b, t)."""
        angles = sinusoidal(t if t.ndim == 2 else t[:, None], LEVEL_WAVES)
        return settle(self.level(angles.to(self.level[0].weight.dtype)), self.patch_in.weight)

    def layout_of(self, grid: Grid, layout: FrameLayout | None) -> FrameLayout | None:
        """Return which frames of a pass see which: `layout`, else that of the config's `causal_chunks`; None: all."""
        chunks = self.config.causal_chunks
        return causal_layout(grid[0], chunks) if layout is None and any(chunks) else layout

    def rotary_of(self, grid: Grid, layout: FrameLayout | None, theta: float, like: Tensor) -> Rotary:
        """Return the rotary table of all positions of a pass, in the device and precision of `like`."""
        frames = grid[0] if layout is None else layout.span
        return rotary_table((frames, *grid[1:]), self.config.block.head_dim // 2, theta, like.device, like.dtype)

    def iter_blocks(
        self, run: Callable[[int, Tensor], Tensor], x: Float[Tensor, "b t s d"], grid: Grid
    ) -> Generator[tuple[str, Tensor], Tensor | None, Float[Tensor, "b t s d"]]:
        """Yield the patches and every block's output (b, t, h, w, d) with their names; return the last of them.

        `run(i, x)` runs block i. What is sent in answer to an item stands for the last block's output, and the blocks
        between are left out.
        """
        h = grid[1]
        sent = yield "patches", rearrange(x, "b t (h w) d -> b t h w d", h=h)
        for i in range(len(self.blocks)):
            if sent is not None:
                break
            with self.checkpointing([self.blocks[i]]):
                x = run(i, x)
            sent = yield f"blocks.{i}", rearrange(x, "b t (h w) d -> b t h w d", h=h)
        return x if sent is None else rearrange(sent, "b t h w d -> b t (h w) d")

    def predict(
        self, x: Float[Tensor, "b t s d"], shift: Float[Tensor, "b f one d"], scale: Float[Tensor, "b f one d"], h: int
    ) -> Float[Tensor, "b c t h w"]:
        """Return the prediction from the last block's output, modulated by `shift` and `scale`; `h` is its rows."""
        _, p, q = self.config.patch
        x = self.patch_out(modulate(self.norm_out, x, shift, scale))
        return rearrange(x, "b t (h w) (c p q) -> b c t (h p) (w q)", h=h, p=p, q=q)

    def set_attention(self, name: str) -> None:
        """Choose the attention of every layer by a name of `ATTENTION`: "auto", "plain", "sdpa", "flash", ..."""
        find_attention(name)
        for layer in self.modules():
            if isinstance(layer, Attention):
                layer.backend = name

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """One layer a block; see `block_feature_info`."""
        return block_feature_info(self.config)
