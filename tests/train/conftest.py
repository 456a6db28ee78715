import pytest

TINY_TOKENIZER = [
    "preset=tiny", "steps=6", "batch_size=2", "log_every=1", "validate_every=3", "checkpoint_every=2",
    "data.num_frames=5", "data.size=[16,16]", "data.validation_clips=2", "data.sources=[{kind: shapes}]",
]  # fmt: skip


@pytest.fixture
def tokenizer_recipe(tmp_path):
    """(recipe name, overrides) of a tokenizer run of seconds, to be passed to `load_recipe`."""
    return "tokenizer_default", [*TINY_TOKENIZER, f"out={tmp_path / 'run'}"]
