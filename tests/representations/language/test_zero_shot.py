"""Classes by texts: means over prompts, contexts that are summed out, and what is no choice."""

import math

import pytest
import torch
import torch.nn.functional as F

from vidgen.errors import VidgenError
from vidgen.representations.language.zero_shot import (
    class_probabilities,
    context_probabilities,
    describe_classes,
    prompt_classes,
    read_descriptions,
)


def test_the_mean_of_cosines_is_the_cosine_to_the_mean_vector_times_its_length():
    generator = torch.Generator().manual_seed(0)
    classes = prompt_classes(["cat", "dog"], ["a {}", "the {}", "{}"])
    assert classes.texts[:4] == ("a cat", "the cat", "cat", "a dog") and classes.owners == (0, 0, 0, 1, 1, 1)
    texts = F.normalize(torch.randn(6, 8, generator=generator), dim=1)
    clips = F.normalize(torch.randn(5, 8, generator=generator), dim=1)
    mean = texts.unflatten(0, (2, 3)).mean(1)
    expected = mean.norm(dim=1)[:, None] * (F.normalize(mean, dim=1) @ clips.T)
    torch.testing.assert_close(classes.mean(texts @ clips.T), expected)


def test_descriptions_of_unequal_number_count_alike():
    classes = describe_classes({"hen": ["has two legs", "has feathers"], "cat": ["has four legs"]})
    assert classes.texts == ("hen, which has two legs", "hen, which has feathers", "cat, which has four legs")
    scores = torch.tensor([[0.2], [0.4], [0.25]])
    assert classes.mean(scores)[:, 0].tolist() == pytest.approx([0.3, 0.25])
    shares = class_probabilities(classes.mean(scores), 10.0)
    assert shares[:, 0].tolist() == pytest.approx([1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(0.5))])


def test_contexts_are_summed_out():
    scores = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shares, contexts = context_probabilities(scores, 5.0)
    joint = (5.0 * scores).exp() / (5.0 * scores).exp().sum(dim=(0, 1))
    torch.testing.assert_close(shares, joint.sum(1))
    torch.testing.assert_close(contexts, joint.sum(0))
    torch.testing.assert_close(context_probabilities(scores[:, :1], 5.0)[0], class_probabilities(scores[:, 0], 5.0))


def test_a_context_can_turn_the_answer():
    """Everything looks like a waterbird on water; told the water, it is the land bird."""
    scores = torch.tensor([[[0.0], [0.6]], [[-2.0], [0.8]]])  # waterbird and landbird, on land and on water
    assert scores.mean(1).argmax() == 0 and context_probabilities(scores, 10.0)[0].argmax() == 1


def test_what_is_no_choice_is_one_line(tmp_path):
    for labels, line in ((["a"], "1 label is no choice"), (["a", " "], "a label is empty"), (["a b", "a  b"], "twice")):
        with pytest.raises(VidgenError, match=line):
            prompt_classes(labels)
    with pytest.raises(VidgenError, match=r"has no \{\} for the label"):
        prompt_classes(["a", "b"], ["a video"])
    with pytest.raises(VidgenError, match="class 'a' has no description"):
        describe_classes({"a": [], "b": ["has c"]})
    (tmp_path / "d.json").write_text('{"a": "has b"}')
    with pytest.raises(VidgenError, match="not a list of descriptions"):
        read_descriptions(tmp_path / "d.json")
