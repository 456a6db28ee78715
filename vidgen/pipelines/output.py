"""From latents to what a call returns: clips in the type that was asked for, which save and show themselves."""

from __future__ import annotations

import base64
import dataclasses
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from vidgen.data.frames import clamp_to_uint8
from vidgen.errors import VidgenError
from vidgen.interfaces import Tokenizer
from vidgen.models.placement import device_of

OUTPUT_TYPES = ("np", "pt", "pil", "latent")
Frames = list[UInt8[np.ndarray, "t h w 3"]] | Float[Tensor, "b t 3 h w"] | list[list[PIL.Image.Image]]


def iter_decoded(
    vae: Tokenizer, latents: Float[Tensor, "b c t h w"], state: Any = None
) -> Iterator[tuple[Float[Tensor, "b 3 k H W"], Any]]:
    """Yield (pixels, the tokenizer's state after them) of one latent frame after the other; state None starts a clip.

    Of a tokenizer that does not stream, all of them at once.
    """
    count = 1 if vae.streams else latents.shape[2]
    for z in latents.to(device_of(vae)).split(count, dim=2):
        x, state = vae.decode_chunk(z, state)
        yield x, state


def decode_pixels(vae: Tokenizer, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 3 T H W"]:
    """Return all frames of latents in float32, clamped to [-1, 1]."""
    return torch.cat([x.float() for x, _ in iter_decoded(vae, latents)], dim=2).clamp(-1.0, 1.0)


@torch.inference_mode()
def decode_clips(
    vae: Tokenizer, latents: Float[Tensor, "b c t h w"], num_frames: int, height: int, width: int
) -> list[UInt8[np.ndarray, "t H W 3"]]:
    """Return the frames of latents, cropped to this size: one clip and one latent frame at a time, to save memory."""
    clips = []
    for z in latents:
        clip = np.empty((num_frames, height, width, 3), np.uint8)
        count = 0
        for x, _ in iter_decoded(vae, z[None]):
            part = clamp_to_uint8(x)[0, : num_frames - count, :height, :width]
            clip[count : count + len(part)] = part
            count += len(part)
        clips.append(clip)
    return clips


def check_output_type(output_type: str) -> None:
    """Raise VidgenError for a type of frames that is unknown."""
    if output_type not in OUTPUT_TYPES:
        raise VidgenError(f"output_type {output_type!r} is unknown; choose one of {', '.join(OUTPUT_TYPES)}")


def convert_frames(clips: Sequence[UInt8[np.ndarray, "t h w 3"]], output_type: str) -> Frames:
    """Return clips of one size as `output_type`: "np" arrays, "pil" lists of images, "pt" one tensor in [0, 1]."""
    if output_type == "pil":
        return [[PIL.Image.fromarray(frame) for frame in clip] for clip in clips]
    if output_type == "pt":
        return rearrange(torch.from_numpy(np.stack(clips)), "b t h w c -> b t c h w").float() / 255.0
    return list(clips)


@dataclass(frozen=True, kw_only=True, repr=False)
class PipelineOutput:
    """Clips of one call; also read as `out["frames"]` and `out[0]`, as diffusers' outputs are.

    Attributes:
        frames: As `output_type` says: "np" a list of uint8 arrays (T, H, W, 3), "pil" a list of lists of images, "pt" a
            tensor (b, T, 3, H, W) in [0, 1]; None where only latents were asked for.
        latents: Of all clips, as the tokenizer has them.
        fps: Frames a second.
    """

    frames: Frames | None
    latents: Float[Tensor, "b c t h w"]
    fps: float

    def __getitem__(self, key: str | int | slice) -> Any:
        """Return a field by name, or by number. Raises KeyError or IndexError for one that is not there."""
        if not isinstance(key, str):
            return self.to_tuple()[key]
        if key not in self.keys():
            raise KeyError(key)
        return getattr(self, key)

    def keys(self) -> list[str]:
        """Return the names of the fields."""
        return [field.name for field in dataclasses.fields(self)]

    def to_tuple(self) -> tuple[Frames | None, Tensor, float]:
        """Return the fields in their order."""
        return self.frames, self.latents, self.fps

    def arrays(self) -> list[UInt8[np.ndarray, "t h w 3"]]:
        """Return the clips as uint8 arrays, whatever their type. Raises VidgenError where there are only latents."""
        if self.frames is None:
            raise VidgenError("this output holds latents and no frames; call the pipeline with another output_type")
        if isinstance(self.frames, Tensor):
            levels = (self.frames * 255.0).round().to(torch.uint8)
            return list(rearrange(levels, "b t c h w -> b t h w c").cpu().numpy())
        return [
            clip if isinstance(clip, np.ndarray) else np.stack([np.asarray(x) for x in clip]) for clip in self.frames
        ]

    def save(self, path: str | os.PathLike) -> list[Path]:
        """Write the clips and return their paths: `path` for one clip, with -0, -1, ... before the suffix for several.

        The suffix says how, see `write_video`. Raises VidgenError where there are only latents, or nothing can be
        written.
        """
        from vidgen.data.writing import write_video  # FFmpeg's bindings are loaded when they are needed

        path = Path(path)
        clips = self.arrays()
        names = [path] if len(clips) == 1 else [path.with_stem(f"{path.stem}-{k}") for k in range(len(clips))]
        return [write_video(clip, name, fps=self.fps) for clip, name in zip(clips, names, strict=True)]

    def __repr__(self) -> str:
        b, c, t, h, w = self.latents.shape
        if self.frames is None:
            return f"PipelineOutput(latents of {b} clips, {c}x{t}x{h}x{w}, {self.fps:g} fps)"
        frames, height, width, _ = self.arrays()[0].shape
        return f"PipelineOutput({b} clips of {frames} frames, {height}x{width}, {self.fps:g} fps)"

    def _repr_html_(self) -> str | None:
        """Return the clips as a notebook shows them, the files within the page; None where there are only latents."""
        if self.frames is None:
            return None
        with tempfile.TemporaryDirectory() as folder:
            files = [file.read_bytes() for file in self.save(Path(folder) / "clip.mp4")]
        sources = [f"data:video/mp4;base64,{base64.b64encode(data).decode()}" for data in files]
        return "".join(f'<video controls loop muted autoplay playsinline src="{source}"></video>' for source in sources)
