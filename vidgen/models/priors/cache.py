"""A prior token by token in the usual order: keys and values of slots that are done, of which a window is kept."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.models.attention import Heads
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.models.priors.token_values import Tokens, keep_to_books
from vidgen.models.rope import Rotary, apply_rotary_emb
from vidgen.models.text.encoders import TextEncoding

FIRST_FRAMES = 4  # that a cache has memory for at first, where there is no window


class KeptSlots:
    """Keys and values (b, heads, slots, d) of one layer, rotated unless they roll, in memory that grows by doubling."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.memory: tuple[Tensor, Tensor] | None = None
        self.count = 0

    def append(self, k: Heads, v: Heads) -> tuple[Heads, Heads]:
        """Return all keys and values, with these as their last."""
        stop = self.count + k.shape[2]
        if self.memory is None or stop > self.memory[0].shape[2]:
            self.capacity = max(self.capacity, 2 * stop if self.memory is not None else stop)
            grown = tuple(x.new_empty(*x.shape[:2], self.capacity, x.shape[3]) for x in (k, v))
            for new, old in zip(grown, self.memory or (), strict=False):
                new[:, :, : self.count] = old[:, :, : self.count]
            self.memory = grown
        keys, values = self.memory
        keys.narrow(2, self.count, k.shape[2]).copy_(k)
        values.narrow(2, self.count, v.shape[2]).copy_(v)
        self.count = stop
        return keys.narrow(2, 0, stop), values.narrow(2, 0, stop)

    def drop(self, start: int, stop: int) -> None:
        """Forget slots `start` to `stop`; later ones move up."""
        for memory in self.memory:
            memory[:, :, start : self.count - stop + start] = memory[:, :, stop : self.count].clone()
        self.count -= stop - start


class CachedPrior:
    """A `SequenceModel` of a prior: what it says after some tokens is what `TokenPrior.forward` says there.

    A slot is computed once, and its keys are kept as long as its frame is seen (`window`, `sinks`): memory does not
    grow with the clip. Positions count from the first frame that is seen.

    Args:
        prior: Of order "causal" with full attention, or of order "random", of which this is one of its orders.
        size: Cells (h, w) of a frame.
        batch: Sequences.
        text: What is read of a text, for each of them.
        class_id: The class of each.
        actions: One a frame, of as many frames as there will be.
    """

    def __init__(
        self,
        prior: TokenPrior,
        size: tuple[int, int],
        batch: int,
        text: TextEncoding | None = None,
        *,
        class_id: Int[Tensor, " b"] | None = None,
        actions: Float[Tensor, "b t a"] | None = None,
    ) -> None:
        config = prior.config
        if config.order not in ("causal", "random") or config.attention != "full":
            raise ValueError(f"a prior of order {config.order} with {config.attention} attention keeps no tokens")
        prior.check_conditions(text, class_id, actions)
        self.prior, self.batch = prior, batch
        self.text = prior.read_text(text)
        self.conditions = {"grid": (1, *size), "class_id": class_id, "actions": actions}
        self.frame_tokens = size[0] * size[1] * config.codes
        self.length = 0
        self.slots = 0  # one more than tokens, once the first one is asked for
        self.dropped = 0  # frames that are not kept any more
        capacity = self.frame_tokens * (config.window or FIRST_FRAMES)
        self.layers = [KeptSlots(capacity) for _ in prior.blocks]
        self.first: Tensor | None = None

    def start(self) -> Float[Tensor, "b v"]:
        """Return the logits of the first token."""
        if self.first is None:
            self.first = self.run(self.prior.unknown(self.batch, 1))[:, 0]
        return self.first

    def extend(self, tokens: Tokens) -> Float[Tensor, "b k v"]:
        """Append tokens; return the logits of the token after each of them."""
        self.start()
        tokens = keep_to_books(tokens, self.length, self.prior.config.books)
        parts = []
        while tokens.shape[1]:  # frame by frame, since each has a window of its own
            room = self.frame_tokens - self.slots % self.frame_tokens
            parts.append(self.run(tokens[:, :room]))
            tokens = tokens[:, room:]
        self.length = self.slots - 1
        return torch.cat(parts, dim=1)

    def rewind(self, length: int) -> None:
        """Forget the tokens from `length` on. Raises ValueError where what the last one saw is not kept any more."""
        window, sinks = self.prior.config.window, self.prior.config.sinks
        oldest = length // self.frame_tokens - (window - sinks) + 1  # that the token after them sees beside the sinks
        if not 0 <= length <= self.length or (self.dropped and oldest < sinks + self.dropped):
            raise ValueError(f"after {self.length} tokens it is not possible to go back to {length}")
        for layer in self.layers:
            layer.count -= self.length - length
        self.length, self.slots = length, length + 1

    def run(self, read: Tokens) -> Float[Tensor, "b k v"]:
        """Compute slots of one frame that read these tokens, and return the logits of those that they predict."""
        prior, config = self.prior, self.prior.config
        self.forget()
        places = torch.arange(self.slots, self.slots + read.shape[1], device=read.device).expand(read.shape[:2])
        x = prior.embed_slots(read, places, (places - 1).clamp(min=0), **self.conditions)
        span = self.layers[0].count + read.shape[1]
        frames = config.window or 1 << (-(-span // self.frame_tokens) - 1).bit_length()  # few tables for long clips
        rotary = prior.rotary_of((frames, *self.conditions["grid"][1:]), x)
        here, seen = (Rotary(*(table[start:span] for table in rotary)) for start in (span - read.shape[1], 0))

        def attend(layer: int, q: Heads, k: Heads, v: Heads) -> Heads:
            if config.window:  # positions move, so keys are kept as they are and rotated for each slot
                keys, values = self.layers[layer].append(k, v)
                return prior.attend(apply_rotary_emb(q, here), apply_rotary_emb(keys, seen), values)
            q, k = apply_rotary_emb(torch.cat([q, k], dim=1), here).chunk(2, dim=1)
            return prior.attend(q, *self.layers[layer].append(k, v))

        for i, block in enumerate(prior.blocks):
            x = block(x, lambda q, k, v, i=i: attend(i, q, k, v), self.text[i])
        self.slots += read.shape[1]
        return prior.predict(x, places)

    def forget(self) -> None:
        """Drop the oldest frame beside the sinks where a new frame begins and the window is full."""
        config, size = self.prior.config, self.frame_tokens
        if config.window and self.slots % size == 0 and self.layers[0].count == config.window * size:
            for layer in self.layers:
                layer.drop(config.sinks * size, (config.sinks + 1) * size)
            self.dropped += 1
