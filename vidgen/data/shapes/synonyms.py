"""Words for colours, shapes and motions that no caption of the world has: what a model makes of them it did not learn
here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from vidgen.data.shapes.captions import VERBS, finish
from vidgen.data.shapes.labels import COLOURS, MOTIONS, SHAPES
from vidgen.errors import VidgenError

ATTRIBUTES = ("colour", "shape", "motion")
Synonyms = Mapping[str, Mapping[str, Sequence[str]]]

# No word of these is in a caption, nor is a word of captions that tells classes apart part of one.
SYNONYMS: dict[str, dict[str, tuple[str, ...]]] = {
    "colour": {
        "red": ("crimson", "scarlet"),
        "orange": ("tangerine", "apricot"),
        "yellow": ("golden", "lemon"),
        "green": ("emerald", "lime"),
        "cyan": ("turquoise", "aqua"),
        "blue": ("azure", "navy"),
        "purple": ("violet", "lilac"),
        "pink": ("magenta", "rose"),
    },
    "shape": {
        "circle": ("disk", "ball"),
        "square": ("box", "block"),
        "triangle": ("wedge", "pyramid"),
        "star": ("pentagram", "asterisk"),
        "cross": ("plus sign", "crucifix"),
        "ring": ("hoop", "donut"),
    },
    "motion": {
        "still": ("is frozen", "is motionless"),
        "right": ("slides east", "glides east"),
        "left": ("slides west", "glides west"),
        "up": ("rises", "ascends"),
        "down": ("falls", "descends"),
        "up-right": ("slides northeast", "glides northeast"),
        "up-left": ("slides northwest", "glides northwest"),
        "down-right": ("slides southeast", "glides southeast"),
        "down-left": ("slides southwest", "glides southwest"),
        "circle": ("orbits", "revolves"),
        "bounce": ("ricochets", "rebounds"),
        "grow": ("expands", "swells"),
        "shrink": ("contracts", "dwindles"),
        "rotate": ("twirls", "whirls"),
    },
}
# The words of captions, the shortest of each motion.
TRAINED: dict[str, dict[str, tuple[str, ...]]] = {
    "colour": {colour: (colour,) for colour in COLOURS},
    "shape": {shape: (shape,) for shape in SHAPES},
    "motion": {motion: VERBS[motion][:1] for motion in MOTIONS},
}


def word_prompt(colour: str, shape: str, motion: str) -> str:
    """Return a prompt of three words or phrases, such as "an azure disk slides east"."""
    return finish(f"@ {colour} {shape} {motion}")


def read_synonyms(path: Path) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return the synonyms of a JSON file like {"colour": {"red": ["crimson"]}, "motion": {"up": ["rises"]}}; classes
    that are not in it keep the words of captions.

    Raises VidgenError for a file of another form, or an attribute or class that is not of the world.
    """
    from vidgen.files.bounded_files import TABLE_BYTES, load_json, read_bytes

    try:
        table = load_json(read_bytes(path, TABLE_BYTES).decode("utf-8"))
    except ValueError as error:
        raise VidgenError(f"{path}: no JSON of synonyms ({error})") from None
    if not isinstance(table, dict):
        raise VidgenError(f'{path}: expected an object like {{"colour": {{"red": ["crimson"]}}}}')
    synonyms = {attribute: dict(classes) for attribute, classes in TRAINED.items()}
    for attribute, classes in table.items():
        if attribute not in synonyms or not isinstance(classes, dict):
            raise VidgenError(f"{path}: {attribute!r} is no attribute with classes; there are {', '.join(ATTRIBUTES)}")
        for name, words in classes.items():
            if name not in synonyms[attribute]:
                raise VidgenError(f"{path}: {name!r} is no {attribute}; choose of {', '.join(synonyms[attribute])}")
            words = [words] if isinstance(words, str) else words
            if not isinstance(words, list) or not words or not all(isinstance(w, str) and w.strip() for w in words):
                raise VidgenError(f"{path}: {attribute} {name!r} needs a word or a list of words")
            synonyms[attribute][name] = tuple(word.strip() for word in words)
    return synonyms
