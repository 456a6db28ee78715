"""True captions of a clip, in several wordings."""

from __future__ import annotations

import re

import numpy as np

from vidgen.data.shapes.labels import BackgroundLabels, ClipLabels, ObjectLabels

# For each motion: finite verbs (the first one is the short wording) and participles.
_TOWARDS = {
    "right": "to the right",
    "left": "to the left",
    "up": "upwards",
    "down": "downwards",
    "up-right": "up and to the right",
    "up-left": "up and to the left",
    "down-right": "down and to the right",
    "down-left": "down and to the left",
}
VERBS: dict[str, tuple[str, ...]] = {
    "still": ("stays still", "does not move", "rests"),
    "circle": ("moves in a circle", "goes around in a circle", "circles around"),
    "bounce": ("bounces off the wall", "bounces off the {wall} wall", "hits the {wall} wall and bounces back"),
    "grow": ("grows", "gets bigger", "becomes larger"),
    "shrink": ("shrinks", "gets smaller", "becomes smaller"),
    "rotate": ("spins in place", "rotates", "turns around itself"),
    "walk": ("wanders about", "wanders", "moves about"),
    "imitate": ("does the same", "does that too", "does likewise"),
}
PARTICIPLES: dict[str, tuple[str, ...]] = {
    "still": ("staying still", "not moving"),
    "circle": ("moving in a circle", "going around in a circle"),
    "bounce": ("bouncing off the wall", "bouncing off the {wall} wall"),
    "grow": ("growing", "getting bigger"),
    "shrink": ("shrinking", "getting smaller"),
    "rotate": ("spinning in place", "rotating"),
    "walk": ("wandering about", "moving about"),
    "imitate": ("doing the same", "doing that too"),
}
for _name, _words in _TOWARDS.items():
    _plain = _name.replace("-", " and ")
    VERBS[_name] = (f"moves {_plain}", f"moves {_words}", f"drifts {_words}", f"goes {_name}")
    PARTICIPLES[_name] = (f"moving {_plain}", f"moving {_words}", f"drifting {_words}")

# "@" is the article a or an; {size} is empty where a size word would not stay true.
TEMPLATES: tuple[tuple[float, str], ...] = (
    (0.30, "@ {colour} {shape} {short}"),
    (0.16, "@ {size} {colour} {shape} {short}"),
    (0.08, "@ {size} {colour} {shape} {verb}"),
    (0.08, "@ {size} {colour} {shape} {participle}"),
    (0.07, "there is @ {size} {colour} {shape} that {verb}"),
    (0.07, "{size} {colour} {shape}, {participle}, {background}"),
    (0.07, "@ {size} {colour} {shape} {short} on @ {background}"),
    (0.05, "@ {colour} {shape} {verb}"),
    (0.04, "the {colour} {shape} {verb}"),
    (0.04, "@ {colour} {shape} {short} on @ {background}"),
    (0.04, "a video of @ {size} {colour} {shape} {participle}"),
)
# Sentences {0} and {1} say what each object does.
PAIR_TEMPLATES: tuple[tuple[float, str], ...] = (
    (0.45, "{0} while {1}"),
    (0.30, "{0} and {1}"),
    (0.15, "{0}, {1}"),
    (0.10, "{0} while {1}, on @ {background}"),
)
ORDERED_TEMPLATES: tuple[tuple[float, str], ...] = (
    (0.50, "first {0}, then {1}"),
    (0.20, "{0}, then {1}"),
    (0.15, "{0} and then {1}"),
    (0.15, "after {0}, {1}"),
)
SENTENCES: tuple[tuple[float, str], ...] = (
    (0.5, "@ {colour} {shape} {short}"),
    (0.3, "@ {size} {colour} {shape} {short}"),
    (0.2, "@ {size} {colour} {shape} {verb}"),
)
# One frame shows no motion.
IMAGE_TEMPLATES: tuple[tuple[float, str], ...] = (
    (0.4, "@ {colour} {shape}"),
    (0.4, "@ {size} {colour} {shape}"),
    (0.2, "@ {size} {colour} {shape} on @ {background}"),
)


def describe_background(background: BackgroundLabels) -> str:
    """Return a description such as "plain dark background" or "dark textured background", without an article."""
    if background.kind == "plain":
        return f"plain {background.tone} background"
    kind = "textured" if background.kind == "texture" else background.kind
    return f"{background.tone} {kind} background"


def finish(text: str) -> str:
    """Close the gaps of empty words and put the right article for every "@"."""
    text = re.sub(r" +", " ", text).strip()
    return re.sub(r"@ (\w)", lambda m: f"{'an' if m[1] in 'aeiou' else 'a'} {m[1]}", text)


def _sentence(template: str, thing: ObjectLabels, background: str, variant: int) -> str:
    verbs, participles = VERBS[thing.motion], PARTICIPLES[thing.motion]
    text = template.format(
        colour=thing.colour,
        shape=thing.shape,
        size="" if thing.motion in ("grow", "shrink") else thing.size,
        short=verbs[0],
        verb=verbs[variant % len(verbs)],
        participle=participles[variant % len(participles)],
        background=background,
    )
    return text.replace("{wall}", thing.wall)


def _draw(rng: np.random.Generator, templates: tuple[tuple[float, str], ...]) -> str:
    weights = np.array([weight for weight, _ in templates])
    return templates[rng.choice(len(templates), p=weights / weights.sum())][1]


def describe(labels: ClipLabels, wording: int | np.random.Generator = 0) -> str:
    """Return a true caption, in lower case.

    wording: a number picks a wording (0 is the short one, "a red circle moves right"; any number is legal), a
        generator draws one, the short one in 30% of the clips of one object.
    """
    background = describe_background(labels.background)
    if labels.num_frames == 1:
        outer, inner = PAIR_TEMPLATES[1:2], IMAGE_TEMPLATES
    elif labels.ordered:
        outer, inner = ORDERED_TEMPLATES, SENTENCES
    else:
        outer, inner = PAIR_TEMPLATES, SENTENCES
    if len(labels.objects) == 1:
        outer = ((1.0, "{0}"),)
        inner = IMAGE_TEMPLATES if labels.num_frames == 1 else TEMPLATES

    parts = []
    if isinstance(wording, np.random.Generator):
        frame = _draw(wording, outer)
        for thing in labels.objects:
            parts.append(_sentence(_draw(wording, inner), thing, background, int(wording.integers(12))))
    else:
        rest, pick = divmod(wording, len(outer))
        frame = outer[pick][1]
        variant, pick = divmod(rest, len(inner))
        parts = [_sentence(inner[pick][1], thing, background, variant) for thing in labels.objects]
    return finish(frame.format(*parts, background=background))
