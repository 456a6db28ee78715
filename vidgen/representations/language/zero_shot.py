"""Classes by texts alone: prompts and descriptions of each, and contexts that are inferred first."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.files.bounded_files import read_json

PLACE = "{}"  # where a template has the label
TEMPLATES = ("a video of {}", "{}", "a clip that shows {}")


@dataclass(frozen=True, kw_only=True)
class ClassTexts:
    """The texts of each class: `texts` in order, `owners` the number of the class of each."""

    labels: tuple[str, ...]
    texts: tuple[str, ...]
    owners: tuple[int, ...]

    def mean(self, scores: Float[Tensor, "n m"]) -> Float[Tensor, "k m"]:
        """Return the mean score of each class's texts with each clip."""
        sums = scores.new_zeros(len(self.labels), scores.shape[1])
        owners = torch.tensor(self.owners, device=scores.device)
        return sums.index_add(0, owners, scores) / owners.bincount(minlength=len(self.labels))[:, None]


def check_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Return labels without blanks around them. Raises VidgenError for fewer than two, empty ones and doubles."""
    names = tuple(" ".join(label.split()) for label in labels)
    if "" in names:
        raise VidgenError("a label is empty; give words, as --labels 'walking,running'")
    if double := next((name for name in names if names.count(name) > 1), None):
        raise VidgenError(f"label {double!r} is there twice; give each class once")
    if len(names) < 2:
        raise VidgenError(f"{len(names)} label is no choice; give two or more, as --labels 'walking,running'")
    return names


def prompt_classes(labels: Sequence[str], templates: Sequence[str] = TEMPLATES) -> ClassTexts:
    """Return each label in all templates (Radford et al. 2021, section 3.1.4): the mean of cosines to several prompts
    is the cosine to their mean vector, but for this one's length. Raises VidgenError for a template without a place."""
    names = check_labels(labels)
    for template in templates:
        if PLACE not in template:
            raise VidgenError(f"template {template!r} has no {PLACE} for the label, as in 'a video of {PLACE}'")
    rows = [(template.replace(PLACE, name), i) for i, name in enumerate(names) for template in templates]
    texts, owners = zip(*rows, strict=True)
    return ClassTexts(labels=names, texts=texts, owners=owners)


def describe_classes(descriptions: Mapping[str, Sequence[str]]) -> ClassTexts:
    """Return each label with its descriptions (Menon & Vondrick 2023, Classification by Description, eq. 1): a class
    scores the mean of them, and each one's own score says why. Raises VidgenError for a class without any."""
    names = check_labels(list(descriptions))
    rows = []
    for i, (name, each) in enumerate(zip(names, descriptions.values(), strict=True)):
        if not each:
            raise VidgenError(f"class {name!r} has no description; give one or more")
        rows += [(f"{name}, which {text}", i) for text in each]
    texts, owners = zip(*rows, strict=True)
    return ClassTexts(labels=names, texts=texts, owners=owners)


def read_descriptions(path: Path) -> dict[str, list[str]]:
    """Return descriptions of a JSON file, {"class": ["has ...", ...], ...}. Raises VidgenError for anything else."""
    values = read_json(path)
    for name, each in values.items():
        if not isinstance(each, list) or not all(isinstance(text, str) and text.strip() for text in each):
            shown = json.dumps(each)[:60]
            raise VidgenError(f'{path}: {name!r} has {shown}, not a list of descriptions; write them as ["has ..."]')
    return values


def class_probabilities(scores: Float[Tensor, "k m"], logit_scale: Float[Tensor, ""] | float) -> Float[Tensor, "k m"]:
    """Return p(class | clip): a softmax over classes of scaled scores."""
    return (logit_scale * scores).softmax(dim=0)


def context_probabilities(
    scores: Float[Tensor, "k z m"], logit_scale: Float[Tensor, ""] | float
) -> tuple[Float[Tensor, "k m"], Float[Tensor, "z m"]]:
    """Return p(class | clip) and p(context | clip) of scores of texts that name both (An et al. 2024, PerceptionCLIP).

    The context is inferred first, by all texts that name it, and classes then in each context:

        p(z | x) = softmax over z of log sum_y exp s(y, z, x)     (its "ClassAttr" form)
        p(y | x) = sum_z p(y | z, x) p(z | x),  p(y | z, x) = softmax over y of s(y, z, x)

    With this p(z | x) it is the softmax over all pairs, contexts summed out.
    """
    logits = logit_scale * scores
    contexts = logits.logsumexp(dim=0).softmax(dim=0)
    return (logits.softmax(dim=0) * contexts).sum(dim=1), contexts
