"""Where models come from: a part of a pipeline alone, and no network where it is forbidden."""

from pathlib import Path

import pytest

from vidgen.checkpoints.hub import find_model
from vidgen.errors import VidgenError


@pytest.fixture
def asked(monkeypatch, tmp_path) -> dict:
    """What the hub's client was asked for."""
    seen: dict = {}

    def fetch(name: str, **settings: object) -> str:
        seen.update(settings, name=name)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    return seen


@pytest.mark.parametrize(("value", "offline"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_the_network_is_left_alone_where_it_is_forbidden(asked, monkeypatch, value, offline):
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    find_model("owner/name")
    assert asked["local_files_only"] is offline and asked["ignore_patterns"] == []


def test_one_part_of_a_pipeline_is_all_that_is_fetched(asked):
    find_model("owner/name", part="vae")
    assert {"transformer/*", "text_encoder/*"} <= set(asked["ignore_patterns"])
    assert "vae/*" not in asked["ignore_patterns"]


def test_a_file_is_a_model_only_with_safetensors(tmp_path: Path):
    file = tmp_path / "model.safetensors"
    file.touch()
    assert find_model(file) == file
    (tmp_path / "model.bin").touch()
    with pytest.raises(VidgenError, match="is a pickled file, which could run code when read"):
        find_model(tmp_path / "model.bin")
