"""Old names of probes, dense probes, search and steering: they work, and say what they are called now."""

import numpy as np
import pytest

from vidgen.deprecation import renamed_keywords
from vidgen.representations import dense, search, steering
from vidgen.representations.dense import rows as dense_rows_module
from vidgen.representations.probes import PROBES, ProbeScore, make_task
from vidgen.representations.search import provenance, retrieval
from vidgen.representations.steering import Direction, Steered


@pytest.mark.parametrize(
    "module, old, new",
    [
        (dense, "Affinity", "PropagationSettings"),
        (dense, "propagate", "propagate_labels"),
        (dense, "SEGMENTED", "CLASS_SETS"),
        (dense, "USUAL", "DEFAULT_TASKS"),
        (search, "list_neighbours", "list_neighbors"),
        (retrieval, "find_neighbours", "nearest_clips"),
        (provenance, "find_originals", "retrieve_originals"),
        (steering, "find_direction", "fit_direction"),
    ],
)
def test_names_of_modules(module, old, new):
    with pytest.warns(FutureWarning, match=f"{old} is now called {new}"):
        assert getattr(module, old) is getattr(module, new)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        module.nothing  # noqa: B018


TASK = make_task(["a", "b", "a", "b"], ["train", "train", "test", "test"])
SCORE = ProbeScore(choice=1, validation=1.0, test=1.0, ci=(0.5, 1.0), predictions=np.zeros(2))
STEERED = Steered(strengths=(0.0,), frames=np.zeros((1, 1, 2, 2, 3)), latent_positions=(0.1,), decoded_positions=(0.2,))


@pytest.mark.parametrize(
    "thing, old, new",
    [
        (TASK, "given", "has_split"),
        (TASK, "goal", "target_type"),
        (PROBES["knn"], "goals", "target_types"),
        (SCORE, "predicted", "predictions"),
        (STEERED, "wanted", "latent_positions"),
        (STEERED, "seen", "decoded_positions"),
        (Direction(name="", vector=np.ones(2), start=0.0), "place", "position"),
    ],
)
def test_attributes(thing, old, new):
    with pytest.warns(FutureWarning, match=f"{old} is now called {new}"):
        value = getattr(thing, old)
    assert value == getattr(thing, new) if callable(value) else value is getattr(thing, new)


def test_arguments(pipeline):
    tracks = []
    words = {"tasks": ["points"], "clips": 2, "num_frames": 5, "size": 32, "settings": dense_rows_module.SETTINGS[:1]}
    with pytest.warns(FutureWarning, match=r"found=... is now called on_tracks=..."):
        dense.dense_rows(pipeline.vae, **words, found=tracks.append)
    assert {one.task for one in tracks} == {"points"}

    @renamed_keywords(goal="target_type")
    def example(*, target_type: str = "class") -> str:
        """Return it."""
        return target_type

    with pytest.warns(FutureWarning, match=r"goal=... is now called target_type=..."):
        assert example(goal="regression") == "regression" and example.__doc__ == "Return it."
