import json
import re

import pytest

from vidgen.data.shapes.captions import PARTICIPLES, VERBS
from vidgen.data.shapes.labels import COLOURS, MOTIONS, SHAPES, WORDS
from vidgen.data.shapes.synonyms import ATTRIBUTES, SYNONYMS, TRAINED, read_synonyms, word_prompt
from vidgen.data.shapes.truth import parse_caption
from vidgen.errors import VidgenError


def words_of(phrases):
    return {word for phrase in phrases for word in re.findall(r"\w+", phrase)}


def test_no_synonym_is_in_a_caption_or_made_of_its_words():
    phrases = [phrase for table in (VERBS, PARTICIPLES) for variants in table.values() for phrase in variants]
    trained = words_of([*COLOURS, *SHAPES, *WORDS["size"], *phrases]) - {
        "a",
        "the",
        "in",
        "off",
        "is",
        "it",
        "to",
        "up",
    }
    synonyms = words_of(word for classes in SYNONYMS.values() for words in classes.values() for word in words)
    assert not synonyms & trained
    classes = {part for name in (*COLOURS, *SHAPES, *MOTIONS) for part in name.split("-") if len(part) > 3}
    assert not [(word, part) for word in synonyms for part in classes if part in word]


def test_every_class_has_words_of_its_own():
    for attribute in ATTRIBUTES:
        assert set(SYNONYMS[attribute]) == set(TRAINED[attribute]) == set(WORDS[attribute])
        words = [word for variants in SYNONYMS[attribute].values() for word in variants]
        assert len(words) == len(set(words))


def test_prompts_of_trained_words_are_captions():
    for colour in COLOURS:
        for motion in MOTIONS:
            prompt = word_prompt(colour, "star", TRAINED["motion"][motion][0])
            (thing,) = parse_caption(prompt).objects
            assert (thing.colour, thing.shape, thing.motion) == (colour, "star", motion)
    assert word_prompt("azure", "disk", "slides east") == "an azure disk slides east"


def test_synonyms_of_a_file(tmp_path):
    path = tmp_path / "words.json"
    path.write_text(json.dumps({"colour": {"red": "ruby"}, "motion": {"up": ["soars", "lifts"]}}))
    synonyms = read_synonyms(path)
    assert synonyms["colour"]["red"] == ("ruby",) and synonyms["motion"]["up"] == ("soars", "lifts")
    assert synonyms["shape"] == TRAINED["shape"] and synonyms["colour"]["blue"] == ("blue",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "no JSON"),
        ("[]", "expected an object"),
        ('{"size": {}}', "'size' is no attribute"),
        ('{"colour": {"mauve": ["x"]}}', "'mauve' is no colour"),
        ('{"colour": {"red": []}}', "needs a word"),
        ('{"colour": {"red": [3]}}', "needs a word"),
    ],
)
def test_bad_files_are_refused(tmp_path, text, message):
    path = tmp_path / "words.json"
    path.write_text(text)
    with pytest.raises(VidgenError, match=message):
        read_synonyms(path)
