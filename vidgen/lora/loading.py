"""LoRAs on a network: loaded, scaled and unloaded, several at once, by changing its weights in place."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from vidgen.errors import VidgenError
from vidgen.lora.files import Delta, find_lora, read_lora, without_ones
from vidgen.lora.key_names import Place, find_places


@dataclass(frozen=True, kw_only=True, eq=False)
class Change:
    """A delta and its target; `owner` is the parameter, which the network alone keeps alive."""

    owner: weakref.ref[nn.Parameter]
    delta: Delta
    place: Place

    def add_to(self, total: Tensor, scale: float) -> None:
        """Add `scale` times the change to a parameter's values, in place."""
        rows = total if self.place.rows is None else total[self.place.rows]
        value = self.delta.value(self.place.shape or tuple(rows.shape), total.device, total.dtype)
        rows.add_(value if self.place.fit is None else self.place.fit(value), alpha=scale)


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
        change.add_to(total, scale)
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
    scale: float = 1.0,
    *,
    part: str | None = None,
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
        scale: how many times the changes are added.
        part: the part of a pipeline to read, of a file that changes several.
        names: more names of weights and biases in the file, without their prefix, and for each the parameter, a
            `Place`, or None to leave it out.

    Returns:
        the changes, to scale or to unload.
    """
    if not math.isfinite(scale):
        raise VidgenError(f"the scale of a LoRA is a finite number, not {scale}")
    path = find_lora(file)
    deltas = read_lora(path, part)
    lora = LoRA(str(path), match_changes(network, path, deltas, names or {}))
    lora.load(scale)
    return lora


def match_changes(
    network: nn.Module, path: Path, deltas: list[Delta], names: Mapping[str, Place | str | None]
) -> list[Change]:
    """Return each delta with the parameter that it changes. Raises VidgenError for unknown names and other shapes."""
    holder, table = find_places(network, {delta.name for delta in deltas})
    table |= {name: Place(parameter=place) if isinstance(place, str) else place for name, place in names.items()}
    if absent := [delta for delta in deltas if delta.name not in table]:
        raise VidgenError(
            f"{path}: key {absent[0].key!r} speaks of {absent[0].name}, which {type(holder).__name__} has not "
            f"({len(absent)} of {len(deltas)} are not there); a LoRA of another model, or give `names`"
        )
    parameters = dict(holder.named_parameters(remove_duplicate=False))
    pairs = ((delta, table[delta.name]) for delta in deltas)
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
