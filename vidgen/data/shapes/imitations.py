"""Clips that show what to do before they do it: one object's motion, and then another object that does the same."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from vidgen.data.shapes.labels import MOTIONS, ClipLabels, ShapeClip
from vidgen.data.shapes.motions import draw_track
from vidgen.data.shapes.render import render
from vidgen.data.shapes.world import ShapeWorld, clip_generator, draw_background, draw_words, label_track

IMITATION = "imitate"  # the motion's word in captions, which do not say what is done
IMITATION_STREAM = 4  # of a clip's random generators; 0 draws labels, 1 wordings, 2 stories, 3 walks


class Imitation(NamedTuple):
    """What is shown, and what does the same: labels of two clips, one after the other."""

    demonstration: ClipLabels
    imitation: ClipLabels


class ImitationWorld(ShapeWorld):
    """`world[index]` is the same clip every time, for any index >= 0: a demonstration, a cut, and its imitation by
    another object before another background (Bai et al. 2024, LVM, visual sentences; Zhang et al. 2024, Video
    In-context Learning). The demonstration has the first half of the frames, and of an odd number one more.

    The caption names the second object and not the motion, which the first half alone tells: "a blue star does the
    same". Raises IndexError for a negative index.
    """

    @property
    def lengths(self) -> tuple[int, int]:
        """Frames of the demonstration and of the imitation."""
        first = 1 + (self.config.num_frames - 1) // 2
        return first, self.config.num_frames - first

    def __getitem__(self, index: int) -> ShapeClip:
        caption, labels = self.sample_prompt(index)
        parts = zip(self.sample_pair(index), self.lengths, strict=True)
        video = np.concatenate([render(part, replace(self.config, num_frames=count)) for part, count in parts])
        return ShapeClip(video=video, caption=caption, labels=labels)

    def sample_labels(self, index: int) -> ClipLabels:
        """Return labels of the imitation as captions have them, whose motion is `IMITATION`."""
        labels = self.sample_pair(index).imitation
        return replace(labels, objects=(replace(labels.objects[0], motion=IMITATION),))

    def sample_pair(self, index: int) -> Imitation:
        """Return labels of both parts, each of its own length, with the motion that they share."""
        rng = clip_generator(self.config, index, IMITATION_STREAM)
        motion = str(rng.choice(MOTIONS))
        return Imitation(*(self.draw_part(rng, motion, count) for count in self.lengths))

    def draw_part(self, rng: np.random.Generator, motion: str, frames: int) -> ClipLabels:
        """Draw labels of a clip of one object with this motion."""
        config = replace(self.config, num_frames=frames)
        background, words = draw_background(rng, config), draw_words(rng, 1, (motion,))[0]
        look = {name: words[name] for name in ("shape", "size", "motion")}
        track = draw_track(rng, **look, start=0, stop=frames, config=config)
        return ClipLabels(objects=(label_track(words, track, (0, frames)),), background=background)

    def show(self, index: int) -> UInt8[np.ndarray, "t h w 3"]:
        """Return the frames of the demonstration of clip `index`."""
        first = self.lengths[0]
        return render(self.sample_pair(index).demonstration, replace(self.config, num_frames=first))
