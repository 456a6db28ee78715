"""LoRAs on a network: loaded, scaled and unloaded, several at once, by changing its weights in place."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from vidgen.errors import VidgenError
from vidgen.lora.files import Delta, find_lora, parts_of, read_lora, without_ones
from vidgen.lora.key_names import Place, find_place, find_places, has_place

MAIN = "transformer"  # diffusers' name of a pipeline's denoiser, or of the first of two


@runtime_checkable
class SeveralNetworks(Protocol):
    """A denoiser of several networks, each of which LoRAs are made for by itself."""

    def lora_networks(self) -> Mapping[str, nn.Module]:
        """Return the networks by diffusers' names of them."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Change:
    """A delta and its target; `owner` is the parameter, which the network alone keeps alive.

    `share` is the scale of the network that it is on, beside that of the LoRA.
    """

    owner: weakref.ref[nn.Parameter]
    delta: Delta
    place: Place
    share: float = 1.0

    def add_to(self, total: Tensor, original: Tensor, scale: float) -> None:
        """Add `scale` times the change of a parameter's own values to `total`, in place."""
        rows = total if self.place.rows is None else total[self.place.rows]
        value = self._fit(self.delta.value(self._shape(rows), total.device, total.dtype))
        if self.delta.magnitude is not None:
            own = (original if self.place.rows is None else original[self.place.rows]).to(value)
            value = self._normed(own + value) - own
        rows.add_(value, alpha=scale * self.share)

    def _shape(self, rows: Tensor) -> tuple[int, ...]:
        return self.place.shape or tuple(rows.shape)

    def _fit(self, value: Tensor) -> Tensor:
        return value if self.place.fit is None else self.place.fit(value)

    def _normed(self, weight: Tensor) -> Tensor:
        """Return a weight with the delta's magnitude for its norm over inputs, or over outputs."""
        magnitude = self.delta.magnitude.to(weight)
        if magnitude.shape[0] == 1 != weight.shape[0]:
            norm = weight.norm(dim=0, keepdim=True)
            return weight / norm * magnitude.reshape(norm.shape)
        shape = self._shape(weight)
        magnitude = self._fit(magnitude.reshape(-1, *[1] * (len(shape) - 1)).expand(shape))
        axes = tuple(range(1, weight.ndim))
        return weight / weight.norm(dim=axes, keepdim=True) * magnitude


@dataclass(kw_only=True, eq=False)
class Stack:
    """A parameter's own values, in main memory, and the changes that are added to them, in the order of loading."""

    original: Tensor
    terms: list[tuple[LoRA, Change]] = field(default_factory=list)


# By parameter, whichever network or wrapper of it a LoRA was loaded through.
STACKS: WeakIdKeyDictionary = WeakIdKeyDictionary()


@torch.no_grad()
def rewrite(parameter: nn.Parameter) -> None:
    """Set a parameter to its own values plus all changes, summed in float32 or better and rounded once."""
    stack = STACKS[parameter]
    terms = [(lora.scale, change) for lora, change in stack.terms if lora.scale]
    if not terms:
        parameter.copy_(stack.original)
        return
    wide = torch.promote_types(parameter.dtype, torch.float32)
    total = stack.original.to(parameter.device, wide, copy=True)
    for scale, change in terms:
        change.add_to(total, stack.original, scale)
    parameter.copy_(total)


class LoRA:
    """The changes of one file on a network, `scale` times: set it to weaken, strengthen or invert them.

    The network's weights are changed in place, so that all that runs it uses them: compiled code, CUDA graphs,
    diffusers' own pipelines. Their own values stay in main memory and come back bit for bit, whatever else was loaded
    or unloaded meanwhile. Whatever else writes to these weights meanwhile is overwritten.
    """

    def __init__(self, source: str, changes: Iterable[Change]) -> None:
        self.source = source
        self.changes = tuple(changes)
        self._scale = 0.0
        self._loaded = False

    def __repr__(self) -> str:
        return f"LoRA({self.source!r}, scale={self.scale:g}, {len(self.changes)} changes)"

    @property
    def loaded(self) -> bool:
        """Whether the changes are on the network."""
        return self._loaded

    @property
    def scale(self) -> float:
        """How many times the changes are added; 0 after `unload`."""
        return self._scale

    @scale.setter
    def scale(self, value: float) -> None:
        """Set it. Raises ValueError for what is no finite number, and after `unload`; nothing is changed then."""
        if not self._loaded:
            raise ValueError(f"{self.source} was unloaded; load it again")
        if not math.isfinite(value):
            raise ValueError(f"the scale of a LoRA is a finite number, not {value}")
        self._set(float(value))

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters that it changes, each once; none of a network that is gone."""
        owners = (change.owner() for change in self.changes)
        return list({id(parameter): parameter for parameter in owners if parameter is not None}.values())

    def load(self, scale: float) -> None:
        """Put the changes on; all of them, or after an error none."""
        self._loaded = True
        try:
            for change in self.changes:
                parameter = change.owner()
                if parameter not in STACKS:
                    STACKS[parameter] = Stack(original=parameter.detach().to("cpu", copy=True))
                STACKS[parameter].terms.append((self, change))
            self._set(float(scale))
        except BaseException:
            self._forget()
            raise

    def unload(self) -> None:
        """Take the changes off; without any other, the weights are what they were, bit for bit."""
        if self._loaded:
            self._set(0.0)
            self._forget()

    def _forget(self) -> None:
        for parameter in self.parameters:
            if (stack := STACKS.get(parameter)) is None:
                continue
            stack.terms = [(lora, change) for lora, change in stack.terms if lora is not self]
            if not stack.terms:
                del STACKS[parameter]
        self._loaded = False

    def _set(self, scale: float) -> None:
        """Write all parameters at the new scale; if that breaks off, those that were written go back."""
        before, self._scale = self._scale, scale
        written = []
        try:
            for parameter in self.parameters:
                written.append(parameter)
                rewrite(parameter)
        except BaseException:
            self._scale = before
            for parameter in written:
                rewrite(parameter)
            raise


def load_lora(
    network: nn.Module,
    file: str | os.PathLike,
    scale: float | Mapping[str, float] = 1.0,
    *,
    part: str | None = None,
    onto: str | Sequence[str] | None = None,
    names: Mapping[str, Place | str | None] | None = None,
) -> LoRA:
    """Add `scale` times the changes of a LoRA file to the weights of `network`, of ours or of diffusers.

    Keys of the file may be diffusers' (`transformer.X.lora_A.weight`), peft's (`base_model.model.X...`), those of
    published models (`diffusion_model.X...`) or of trainers (`lora_unet_X.lora_down.weight`). Of layers that hold
    several (to_kv of to_k and to_v) the rows of each are changed. Raises VidgenError, with nothing changed, for a file
    that is damaged, layers that the network does not have, other shapes or ranks, naming the key.

    Args:
        network: the network that the LoRA was made for, or one that has it as a part.
        file: a safetensors file, a folder with one (peft's adapter_config.json beside it is read), or a hub id.
        scale: how many times the changes are added; of a model of two transformers also one for each, by name.
        part: the part of a pipeline to read, of a file that changes several.
        onto: of a model of two transformers (Wan 2.2) the one to change, by diffusers' name: "transformer" (high
            noise), "transformer_2" (low noise), or both. None: those that the file's keys or `scale` name.
        names: more names of weights and biases in the file, without their prefix, and for each the parameter, a
            `Place`, or None to leave it out.

    Returns:
        the changes, to scale or to unload.
    """
    path = find_lora(file)
    targets = find_targets(network, path, scale, part, onto)
    shares = dict(scale) if isinstance(scale, Mapping) else {}
    for value in shares.values() if shares else [scale]:
        if not math.isfinite(value):
            raise VidgenError(f"the scale of a LoRA is a finite number, not {value}")
    changes = []
    for name, (target, read) in targets.items():
        changes += [
            replace(change, share=float(shares.get(name, 1.0)))
            for change in match_changes(target, path, read_lora(path, read), names or {})
        ]
    lora = LoRA(str(path), changes)
    lora.load(1.0 if shares else scale)
    return lora


def find_targets(
    network: nn.Module,
    path: Path,
    scale: float | Mapping[str, float],
    part: str | None,
    onto: str | Sequence[str] | None,
) -> dict[str, tuple[nn.Module, str | None]]:
    """Return the networks to change by name, each with the part of the file that it takes.

    Raises VidgenError for names that the model has not, and where nothing says which of two.
    """
    networks = network.lora_networks() if isinstance(network, SeveralNetworks) else {MAIN: network}
    parts = parts_of(path) & networks.keys()
    wanted = [onto] if isinstance(onto, str) else list(onto or (scale if isinstance(scale, Mapping) else ()))
    if unknown := [name for name in wanted if name not in networks]:
        raise VidgenError(f"this model has no {unknown[0]!r} to put a LoRA onto; it has {', '.join(networks)}")
    if part is not None and not wanted and part in networks:
        wanted = [part]
    if not wanted and len(networks) > 1:
        # A file about one network is about "transformer" by its keys, whichever of the two it was made for.
        wanted = sorted(parts) if len(parts) > 1 or parts - {MAIN} else []
        if not wanted:
            raise VidgenError(
                f"{path}: this model has two transformers, {' (high noise) and '.join(networks)} (low noise); say by "
                "`onto` (--lora FILE@NAME) which the file is for, or name both"
            )
    if len(networks) == 1:
        return {MAIN: (network, part)}
    return {name: (networks[name], name if len(parts) > 1 else part) for name in wanted}


def match_changes(
    network: nn.Module, path: Path, deltas: list[Delta], names: Mapping[str, Place | str | None]
) -> list[Change]:
    """Return each delta with the parameter that it changes. Raises VidgenError for unknown names and other shapes."""
    holder, table = find_places(network, {delta.name for delta in deltas})
    table |= {name: Place(parameter=place) if isinstance(place, str) else place for name, place in names.items()}
    if absent := [delta for delta in deltas if not has_place(table, delta.name)]:
        raise VidgenError(
            f"{path}: key {absent[0].key!r} speaks of {absent[0].name}, which {type(holder).__name__} has not "
            f"({len(absent)} of {len(deltas)} are not there); a LoRA of another model, or give `names`"
        )
    parameters = dict(holder.named_parameters(remove_duplicate=False))
    pairs = ((delta, find_place(table, delta.name)) for delta in deltas)
    return [make_change(parameters, path, delta, place) for delta, place in pairs if place is not None]


def make_change(parameters: Mapping[str, nn.Parameter], path: Path, delta: Delta, place: Place) -> Change:
    """Return a delta with its target. Raises VidgenError, naming the key, for no such parameter, or one of another
    shape."""
    parameter = parameters.get(place.parameter)
    if parameter is None or not parameter.is_floating_point():
        problem = "is no parameter of the network" if parameter is None else "is of whole numbers"
        raise VidgenError(f"{path}: key {delta.key!r} is to change {place.parameter}, which {problem}")
    shape = place.shape or tuple((parameter if place.rows is None else parameter[place.rows]).shape)
    if delta.shape != without_ones(shape):
        rows = "" if place.rows is None else f"rows {place.rows.start} to {place.rows.stop} of "
        raise VidgenError(
            f"{path}: key {delta.key!r} makes a change of shape {delta.shape}, {rows}{place.parameter} has {shape}: a "
            "LoRA of a model of another size"
        )
    return Change(owner=weakref.ref(parameter), delta=delta, place=place)
