"""What a caption says, in parts, and which captions are true of which clips.

A caption tells of every object of its clip, and with two of them whether they act together ("while", "and") or one
after the other ("first .. then"). What it leaves unsaid may be anything: "a red circle moves right" is true of red
circles of all sizes, before all backgrounds. So of captions by `describe`, those are true of a clip that it may say of
these labels, the two objects of an unordered clip in either order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Int

from vidgen.data.shapes.captions import PARTICIPLES, VERBS
from vidgen.data.shapes.labels import COLOURS, SHAPES, SIZES, TONES, ClipLabels
from vidgen.data.shapes.motions import WALLS
from vidgen.errors import VidgenError

_KINDS = {"": "", "plain": "plain", "textured": "texture", "gradient": "gradient"}
# The size of these changes, so that no word for it stays true.
_RESIZING = ("grow", "shrink")
_FIELDS = ("colour", "shape", "size", "motion", "wall")
_UNSAID, _NEVER = 0, -1


@dataclass(frozen=True, kw_only=True)
class ObjectRequirements:
    """What a caption says of an object, in words of the labels; "" is what it leaves unsaid."""

    colour: str
    shape: str
    size: str = ""
    motion: str = ""
    wall: str = ""


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What a caption says of a clip: its one or two objects, whether they act in the order of `objects`, and the tone
    and kind of the background, "" where it is unsaid."""

    objects: tuple[ObjectRequirements, ...]
    ordered: bool = False
    tone: str = ""
    kind: str = ""


def list_phrases() -> dict[str, tuple[str, str]]:
    """Return the motion, and the wall or "", that each phrase of the captions stands for."""
    phrases = {}
    for table in (VERBS, PARTICIPLES):
        for motion, variants in table.items():
            for phrase in variants:
                walls = WALLS if "{wall}" in phrase else ("",)
                phrases.update({phrase.format(wall=wall): (motion, wall) for wall in walls})
    return phrases


def _either(words: Sequence[str]) -> str:
    # The longest first: "moves up and right" begins with "moves up".
    return "|".join(sorted(map(re.escape, words), key=len, reverse=True))


_PHRASES = list_phrases()
_OBJECT = (
    r"(?:(?:an?|the) )?(?:(?P<size{0}>" + _either(tuple(SIZES)) + r") )?"
    r"(?P<colour{0}>" + _either(tuple(COLOURS)) + r") (?P<shape{0}>" + _either(SHAPES) + r")"
    r"(?:,? (?:that )?(?P<phrase{0}>" + _either(tuple(_PHRASES)) + r"))?"
)
_BACKGROUND = (
    r"(?:,? (?:on )?(?:an? )?(?:(?P<plain{0}>plain) )?(?P<tone{0}>" + _either(tuple(TONES)) + r")"
    r"(?: (?P<kind{0}>textured|gradient))? background)?"
)
_SENTENCE = _OBJECT + _BACKGROUND
_CAPTION = re.compile(
    r"(?:there is |a video of )?(?P<outset>first |after )?"
    + _SENTENCE.replace("{0}", "0")
    + r"(?:(?P<link>,? then |, | and then | and | while )"
    + _SENTENCE.replace("{0}", "1")
    + r")?"
)


@lru_cache(maxsize=2**17)
def parse_caption(caption: str) -> Requirements:
    """Return what a caption of the world says, whichever its wording.

    Raises VidgenError for one in other words than those of `describe`.
    """
    match = _CAPTION.fullmatch(caption.strip().lower())
    if match is None or (match["outset"] and not match["link"]):
        raise VidgenError(
            f"{caption!r} is no caption of the shape world; one is like 'a red circle moves right' or "
            "'first a red circle grows, then a blue square spins in place'"
        )
    objects = []
    for i in "01" if match["link"] else "0":
        motion, wall = _PHRASES[match[f"phrase{i}"]] if match[f"phrase{i}"] else ("", "")
        words = {name: match[f"{name}{i}"] or "" for name in ("colour", "shape", "size")}
        objects.append(ObjectRequirements(**words, motion=motion, wall=wall))
    tones = [match[f"tone{i}"] or "" for i in "01"]
    kinds = [_KINDS[match[f"kind{i}"] or match[f"plain{i}"] or ""] for i in "01"]
    return Requirements(
        objects=tuple(objects),
        ordered=len(objects) > 1 and (match["outset"] is not None or "then" in match["link"]),
        tone=_join_words(tones, caption),
        kind=_join_words(kinds, caption),
    )


def _join_words(words: Sequence[str], caption: str) -> str:
    said = set(words) - {""}
    if len(said) > 1:
        raise VidgenError(f"{caption!r} tells of two backgrounds: a clip has one")
    return said.pop() if said else ""


_CODES = {
    word: code
    for code, word in enumerate((*COLOURS, *SHAPES, *SIZES, *VERBS, *WALLS, *TONES, "plain", "texture", "gradient"), 1)
}


@lru_cache(maxsize=2**17)
def _encode_requirements(requirements: Requirements) -> tuple[int, ...]:
    objects = [[_code(getattr(thing, name)) for name in _FIELDS] for thing in requirements.objects]
    return _join_codes(objects, requirements.ordered, requirements.tone, requirements.kind)


def _encode_labels(labels: ClipLabels) -> tuple[int, ...]:
    one_frame = labels.num_frames == 1  # which shows no motion and no order
    objects = []
    for thing in labels.objects:
        codes = [_CODES.get(getattr(thing, name), _NEVER) for name in _FIELDS]
        if thing.motion in _RESIZING:
            codes[_FIELDS.index("size")] = _NEVER
        if one_frame:
            codes[_FIELDS.index("motion")] = _NEVER
        objects.append(codes)
    return _join_codes(objects, labels.ordered and not one_frame, labels.background.tone, labels.background.kind)


def _code(word: str) -> int:
    if word and word not in _CODES:
        raise VidgenError(f"{word!r} is no word of the shape world")
    return _CODES[word] if word else _UNSAID


def _join_codes(objects: list[list[int]], ordered: bool, tone: str, kind: str) -> tuple[int, ...]:
    second = objects[1] if len(objects) > 1 else [_UNSAID] * len(_FIELDS)
    return (len(objects), int(ordered), _code(tone), _code(kind), *objects[0], *second)


def _agree(said: Int[np.ndarray, "n f"], shown: Int[np.ndarray, "m f"]) -> Bool[np.ndarray, "n m"]:
    """Return where every word that is said is the one shown."""
    agree = np.ones((len(said), len(shown)), dtype=bool)
    for field in range(said.shape[1]):
        agree &= (said[:, None, field] == shown[None, :, field]) | (said[:, None, field] == _UNSAID)
    return agree


def truth_matrix(captions: Sequence[str | Requirements], labels: Sequence[ClipLabels]) -> Bool[np.ndarray, "n m"]:
    """Return which of n captions are true of which of m clips; linear in both but for comparisons of small integers.

    Raises VidgenError for a caption that is not in the words of the world.
    """
    requirements = [parse_caption(caption) if isinstance(caption, str) else caption for caption in captions]
    width = 4 + 2 * len(_FIELDS)
    said = np.array([_encode_requirements(each) for each in requirements], dtype=np.int16).reshape(-1, width)
    shown = np.array([_encode_labels(each) for each in labels], dtype=np.int16).reshape(-1, width)
    first, second = slice(4, 4 + len(_FIELDS)), slice(4 + len(_FIELDS), width)
    in_order = _agree(said[:, first], shown[:, first]) & _agree(said[:, second], shown[:, second])
    swapped = _agree(said[:, first], shown[:, second]) & _agree(said[:, second], shown[:, first])
    swapped &= (said[:, None, 0] == 2) & (said[:, None, 1] == 0)
    same_kind = (said[:, None, :2] == shown[None, :, :2]).all(axis=-1)  # as many objects, in order or not
    return same_kind & _agree(said[:, 2:4], shown[:, 2:4]) & (in_order | swapped)


def is_true(caption: str | Requirements, labels: ClipLabels) -> bool:
    """Return whether a caption is true of a clip.

    Raises VidgenError for a caption that is not in the words of the world.
    """
    return bool(truth_matrix([caption], [labels])[0, 0])
