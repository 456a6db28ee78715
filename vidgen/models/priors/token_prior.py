"""TokenPrior: a transformer that gives a law over the tokens of a clip, in the order that its config says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidgen.checkpoints.pretrained import Pretrained
from vidgen.models.attention import Heads, find_attention
from vidgen.models.attention_patterns import Grid
from vidgen.models.causal_attention import FrameGroup, FrameLayout, causal_layout, over_groups, teacher_forcing_layout
from vidgen.models.dit.blocks import text_heads
from vidgen.models.gradient_checkpointing import GradientCheckpointing
from vidgen.models.priors.config import TokenPriorConfig
from vidgen.models.priors.diffusion_head import DiffusionHead
from vidgen.models.priors.token_grid import causal_mask, visible
from vidgen.models.priors.token_values import (
    CodeEmbedding,
    CodeHead,
    Tokens,
    VectorEmbedding,
    blank_tokens,
    check_ids,
    is_unknown,
    take_tokens,
)
from vidgen.models.rope import Rotary, apply_rotary_emb, rotary_table
from vidgen.models.text.encoders import TextEncoding
from vidgen.models.text.prepared import TextHeads, TextTokens
from vidgen.models.transformer_block import TransformerBlock

Texts = tuple[TextHeads | None, ...]


class TokenPrior(GradientCheckpointing, Pretrained):
    """A transformer over tokens with 3-D rotary positions. `forward` gives the logits of every token of a clip.

    Tokens that are vectors have z in place of logits, from which `head` makes their law; unknown ones are NaN.

    Of order "causal" and "random" the law of a clip is the product of its tokens' conditionals, each after those before
    it (van den Oord et al. 2016, eq. 1). A slot of the transformer stands where the token is that it predicts, and
    reads the token before. Of "masked" and "frames" the tokens that are `MASK` are predicted from the others.
    """

    config_class = TokenPriorConfig

    def __init__(self, config: TokenPriorConfig) -> None:
        super().__init__(config)
        width = config.width
        if config.channels:
            self.embed: VectorEmbedding | CodeEmbedding = VectorEmbedding(config.channels, width)
        else:
            self.embed = CodeEmbedding(config.books, width)
        self.blank = nn.Parameter(torch.zeros(width))  # before the first token, or in place of one that is masked
        self.code = nn.Embedding(config.codes + config.words, width)  # and the place of a word
        positions = sum(config.learned_positions) or config.head_dim
        self.position_in = nn.Linear(positions, width)
        if config.order == "random":
            self.source_in = nn.Linear(positions, width)
        if config.classes:
            self.class_in = nn.Embedding(config.classes + 1, width)  # the last one stands for none
        if config.actions:
            self.action_in = nn.Linear(config.actions, width)
        self.blocks = nn.ModuleList([TransformerBlock(config.block) for _ in range(config.depth)])
        self.norm_out = nn.LayerNorm(width)
        if config.channels:
            self.head: DiffusionHead | CodeHead = DiffusionHead(
                config.channels, config.head_width, config.head_depth, width
            )
        else:
            self.head = CodeHead(width, config.books)
        if config.codebook_sizes:
            nn.init.normal_(self.embed.weight, std=0.5)
        nn.init.normal_(self.blank, std=0.5)
        for layer in (layer for block in self.blocks for layer in block.last_layers):
            nn.init.normal_(layer.weight, std=width**-0.5 * (2 * config.depth) ** -0.5)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        tokens: Tokens,
        grid: Grid,
        text: TextEncoding | Texts | None = None,
        *,
        clean: Tokens | None = None,
        order: Int[Tensor, "b n"] | None = None,
        class_id: Int[Tensor, " b"] | None = None,
        actions: Float[Tensor, "b t a"] | None = None,
    ) -> Float[Tensor, "b n v"]:
        """Return the logits of each token; -inf for values that its codebook does not have.

        Raises ValueError for a condition that the model does not take or that it lacks, VidgenError for ids that a
        codebook does not have.

        Args:
            tokens: Of cells `grid` (t, h, w), see `flatten_indices`. Of order "causal" and "random" the logits of a
                token depend on those before it alone; else those that are unknown are `MASK`.
            grid: Cells (t, h, w); of a prior with words the frames of their places come first.
            text: What is read of a text, or as `read_text` makes it for many passes.
            clean: The same clip without masks, which frames of order "frames" see of the frames before.
            order: Of order "random": which token comes when.
            class_id: The class of each clip; `classes` stands for none.
            actions: One a frame.
        """
        n = tokens.shape[1]
        if self.config.codebook_sizes:
            check_ids(tokens, self.config.books)
        conditions = {"class_id": class_id, "actions": actions}
        *_, x = self.iter_hidden(tokens, grid, text, clean=clean, order=order, **conditions)
        logits = self.predict(x, torch.arange(n, device=tokens.device) if order is None else order)
        if order is None:
            return logits
        return torch.zeros_like(logits).scatter(1, order[..., None].expand_as(logits), logits)

    def iter_hidden(
        self,
        tokens: Tokens,
        grid: Grid,
        text: TextEncoding | Texts | None = None,
        *,
        clean: Tokens | None = None,
        order: Int[Tensor, "b n"] | None = None,
        class_id: Int[Tensor, " b"] | None = None,
        actions: Float[Tensor, "b t a"] | None = None,
    ) -> Iterator[Float[Tensor, "b n d"]]:
        """Yield the stream after each block, slot by slot in `order`; the arguments are those of `forward`."""
        self.check_conditions(text, class_id, actions)
        n = tokens.shape[1]
        places = torch.arange(n, device=tokens.device).expand(len(tokens), n) if order is None else order
        shown = {"class_id": class_id, "actions": actions, "grid": grid}
        if self.config.order in ("causal", "random"):
            read = torch.cat([blank_tokens(tokens, 1), take_tokens(tokens, places)[:, :-1]], dim=1)
            x = self.embed_slots(read, places, torch.cat([places[:, :1], places[:, :-1]], dim=1), **shown)
        else:
            x = self.embed_masked(tokens, **shown)
        if self.config.order == "frames":
            x = torch.cat([self.embed_masked(tokens if clean is None else clean, **shown), x], dim=1)
        heads = self.read_text(text)
        for i, block in enumerate(self.blocks):
            with self.checkpointing([block]):
                x = block(x, self.attention(i, grid, x, places), heads[i])
            yield x[:, -n:]

    def with_window(self, frames: int) -> TokenPrior:
        """Return the same network, its weights shared, that sees no more than so many frames at once."""
        other = copy(self)
        other.config = replace(self.config, window=frames, sinks=0)
        return other

    def attention(self, layer: int, grid: Grid, like: Tensor, order: Int[Tensor, "b n"]) -> Callable[..., Heads]:
        """Return which tokens see which in a layer, as a function of unrotated queries, keys and values."""
        config, t = self.config, grid[0]
        if config.order == "random":
            return partial(self.over_order, rotary=self.rotary_of(grid, like), order=order)
        causal = config.order == "causal"
        if config.order == "frames":
            layout = teacher_forcing_layout(t, (1, 1))
        elif config.window:
            layout = causal_layout(t, (1, 1), config.window, config.sinks)
        else:
            layout = FrameLayout(groups=(FrameGroup(0, t, tuple(range(t))),))
        mask = None
        if config.attention != "full":
            mask = visible(grid, config.codes, config.attention, causal, config.stride, layer % 2 == 1)
            mask = None if mask is None else mask[None]
        rotary = self.rotary_of((layout.span, *grid[1:]), like)
        frames = 2 * t if config.order == "frames" else t
        attend = partial(self.attend, mask=mask, causal=causal)
        return partial(over_groups, attend, layout=layout, layer=layer, frames=frames, rotary=rotary)

    def attend(self, q: Heads, k: Heads, v: Heads, *, mask: Tensor | None = None, causal: bool = True) -> Heads:
        """Return attention to the keys of a mask; without one the last query stands at the last key, and if `causal`
        none sees what comes after it."""
        if mask is None and causal and q.shape[2] > 1:
            mask = causal_mask(q.shape[2], k.shape[2], q.device)[None]
        run = find_attention(self.blocks[0].attention.backend)
        return run(q, k, v, None if mask is None else mask.to(q.device))

    def over_order(
        self, q: Heads, k: Heads, v: Heads, *, rotary: Rotary, order: Int[Tensor, "b n"], mask: Tensor | None = None
    ) -> Heads:
        """Return attention of slots, which stand at the places of `order`, to those before them, or of a mask."""
        rows = Rotary(rotary.cos[order][:, None], rotary.sin[order][:, None])
        return self.attend(apply_rotary_emb(q, rows), apply_rotary_emb(k, rows), v, mask=mask)

    def rotary_of(self, grid: Grid, like: Tensor) -> Rotary:
        """Return the rotary table of the tokens of a grid, one row a token."""
        table = rotary_table(grid, self.config.head_dim // 2, 0.0, like.device, like.dtype)
        if self.config.codes == 1:  # nothing to copy, for every token that is made
            return table
        return Rotary(*(x.repeat_interleave(self.config.codes, dim=0) for x in table))

    def embed_slots(
        self,
        read: Tokens,
        places: Int[Tensor, "b k"],
        sources: Int[Tensor, "b k"],
        grid: Grid,
        class_id: Tensor | None = None,
        actions: Tensor | None = None,
    ) -> Float[Tensor, "b k d"]:
        """Return slots that predict the tokens at `places` and read the tokens `read` at `sources`, `MASK` for none."""
        x = self.embed_values(read, sources)
        if self.config.order == "random":
            source = self.source_in(self.place_of(sources, grid, x))
            x = x + torch.where(is_unknown(read)[..., None], torch.zeros_like(source), source)
        return x + self.stand(places, grid, x, class_id, actions)

    def embed_values(self, tokens: Tokens, places: Int[Tensor, "b k"]) -> Float[Tensor, "b k d"]:
        """Return embedded values of tokens at these places, those that are unknown blank."""
        known = self.embed(tokens, places)
        return torch.where(is_unknown(tokens)[..., None], self.blank.to(known.dtype), known)

    def embed_masked(
        self, tokens: Tokens, grid: Grid, class_id: Tensor | None = None, actions: Tensor | None = None
    ) -> Float[Tensor, "b n d"]:
        """Return tokens at their own places, those that are unknown blank."""
        places = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape[:2])
        x = self.embed_values(tokens, places)
        return x + self.stand(places, grid, x, class_id, actions)

    def stand(
        self, places: Int[Tensor, "b k"], grid: Grid, like: Tensor, class_id: Tensor | None, actions: Tensor | None
    ) -> Float[Tensor, "b k d"]:
        """Return what tells a slot its place in a frame, its code (of words the place), and the conditions of its clip
        and frame."""
        codes = self.config.codes
        code = places % codes
        if self.config.words:
            code = torch.where(places < self.config.words, codes + places, code)
        x = self.position_in(self.place_of(places, grid, like)) + self.code(code)
        if class_id is not None:
            x = x + self.class_in(class_id)[:, None]
        if actions is not None:
            frames = places // (grid[1] * grid[2] * codes)
            rows = self.action_in(actions.to(x.dtype))
            x = x + rows.gather(1, frames[..., None].expand(*frames.shape, rows.shape[-1]))
        return x

    def place_of(self, places: Int[Tensor, "b k"], grid: Grid, like: Tensor) -> Float[Tensor, "b k p"]:
        """Return cosines and sines of places within a frame, or where positions are learned which row and column it is:
        rotary positions alone do not tell where its border is. Of the frame's number they say nothing, since clips may
        be longer than those of training. Raises ValueError for frames beyond the positions that are learned."""
        if sizes := self.config.learned_positions:
            if any(n > size for n, size in zip(grid[1:], sizes, strict=True)):
                raise ValueError(f"frames of {grid[1:]} cells, and positions are learned for {sizes}")
            cells = places // self.config.codes % (grid[1] * grid[2])
            axes = (cells // grid[2], cells % grid[2])
            return torch.cat([F.one_hot(x, n).to(like.dtype) for x, n in zip(axes, sizes, strict=True)], dim=-1)
        table = torch.cat(self.rotary_of((1, *grid[1:]), like), dim=-1)
        return table[places % len(table)]

    def predict(self, x: Float[Tensor, "b k d"], places: Int[Tensor, "*b k"]) -> Float[Tensor, "b k v"]:
        """Return the logits of tokens at these places, in float32 at least; of vectors z."""
        return self.head.predict(self.norm_out(x), places)

    def unknown(self, batch: int, count: int) -> Tokens:
        """Return `count` unknown tokens for each of `batch` sequences, of this prior's kind."""
        weight, channels = self.embed.weight, self.config.channels
        like = weight.new_zeros(batch, 0, channels) if channels else weight.new_zeros(batch, 0, dtype=torch.int64)
        return blank_tokens(like, count)

    def read_text(self, text: TextEncoding | Texts | None) -> Texts:
        """Return keys and values of every block's cross-attention to a text."""
        if text is None or isinstance(text, tuple):
            return text or (None,) * len(self.blocks)
        tokens = TextTokens(text.tokens.to(self.embed.weight.dtype), None if text.mask.all() else text.mask)
        return text_heads(self.blocks, tokens)

    def check_conditions(
        self, text: TextEncoding | Texts | None, class_id: Tensor | None, actions: Tensor | None
    ) -> None:
        """Raise ValueError unless the conditions of the config are there, and no others."""
        c = self.config
        wanted = {"text": c.text_width > 0, "class_id": c.classes > 0, "actions": c.actions > 0}
        present = {"text": text is not None, "class_id": class_id is not None, "actions": actions is not None}
        for name, is_wanted in wanted.items():
            if is_wanted != present[name]:
                raise ValueError(f"this prior {'needs' if is_wanted else 'takes no'} {name}")
