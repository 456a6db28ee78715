"""Going on with a run: from the newest checkpoint that is whole, with what may change and without what may not."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from vidgen.errors import VidgenError
from vidgen.files.json_lines import json_line, read_json_lines
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime.checkpoints import checkpoint_steps, find_damage
from vidgen.train.runtime.loop import train
from vidgen.train.runtime.runs import cut_log, flatten, open_run


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])


def flip(folder: Path) -> None:
    file = folder / "optimizer.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def remove(folder: Path) -> None:
    (folder / "ema.safetensors").unlink()


def count_wrong(folder: Path) -> None:
    file = folder / "progress.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"ema_steps": {"main": 99}}))


@pytest.mark.slow
def test_a_damaged_checkpoint_is_set_aside_and_the_run_ends_as_if_it_were_not(tokenizer_recipe, tmp_path):
    name, overrides = tokenizer_recipe[0], [*tokenizer_recipe[1], "autocast=float32"]
    final = train(load_recipe(name, overrides))
    want = load_file(next(final.glob("*.safetensors")))
    run = tmp_path / "run"
    for damage in (cut, flip, remove, count_wrong):
        shutil.copytree(run, tmp_path / damage.__name__)
        config = load_recipe(name, [*overrides, f"out={tmp_path / damage.__name__}"])
        newest = Path(config.out) / "checkpoint-6"
        assert find_damage(newest) == ""
        damage(newest)
        with pytest.warns(UserWarning, match="checkpoint-6 is damaged .*; it is now damaged-checkpoint-6"):
            again = load_file(next(train(config).glob("*.safetensors")))
        assert all(want[key].equal(again[key]) for key in want)
        assert checkpoint_steps(Path(config.out)) == [4, 6] and (newest.parent / "damaged-checkpoint-6").is_dir()


@pytest.mark.slow
def test_where_all_are_damaged_none_is_touched(tokenizer_recipe, tmp_path):
    name, overrides = tokenizer_recipe[0], [*tokenizer_recipe[1], "autocast=float32"]
    train(load_recipe(name, overrides))
    for step in checkpoint_steps(tmp_path / "run"):
        cut(tmp_path / "run" / f"checkpoint-{step}")
    with pytest.raises(VidgenError, match="checkpoint-6 is damaged .* no good one before it"):
        train(load_recipe(name, overrides))
    assert checkpoint_steps(tmp_path / "run") == [4, 6]


@pytest.mark.slow
def test_what_may_change_changes_and_what_may_not_is_named_with_both_values(tokenizer_recipe, tmp_path):
    name, overrides = tokenizer_recipe[0], [*tokenizer_recipe[1], "autocast=float32"]
    train(load_recipe(name, overrides))
    free = ["steps=8", "data.workers=1", "log_every=2", "checkpoint_every=8", "validate_every=8"]
    final = load_file(next(train(load_recipe(name, [*overrides, *free])).glob("*.safetensors")))
    assert checkpoint_steps(tmp_path / "run")[-1] == 8
    for change, line in (
        ("seed=3", "seed: 0, now 3"),
        ("optimizer.lr=0.5", r"optimizer.lr: \S+, now 0.5"),
        ("data.sources.0.share=0.5", "data.sources.0.share: 1.0, now 0.5"),
    ):
        with pytest.raises(VidgenError, match=line):
            open_run(load_recipe(name, [*overrides, *free, change]))
    with pytest.warns(UserWarning, match="8 steps already, and steps=6: none is left"):
        again = load_file(next(train(load_recipe(name, overrides)).glob("*.safetensors")))
    assert all(final[key].equal(again[key]) for key in final)
    assert checkpoint_steps(tmp_path / "run")[-1] == 8


@pytest.mark.slow
def test_the_log_has_every_step_once_after_a_kill_behind_a_checkpoint(tokenizer_recipe, tmp_path):
    name, overrides = tokenizer_recipe[0], [*tokenizer_recipe[1], "autocast=float32", "log_every=1"]
    train(load_recipe(name, overrides))
    log = tmp_path / "run" / "metrics.jsonl"
    whole = [json.loads(line) for line in log.read_text().splitlines()]
    shutil.rmtree(tmp_path / "run" / "checkpoint-6")
    log.write_text(log.read_text() + '{"step": 7, "lo')
    train(load_recipe(name, overrides))
    again = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(row["step"], row.get("loss")) for row in again] == [(row["step"], row.get("loss")) for row in whole]


def test_rollbacks_stay_in_the_log(tmp_path):
    def rows(*steps):
        return [{"step": step} for step in steps]

    rollback = {"step": 8, "event": "rollback", "to_step": 4}
    for before, step, after in (
        (rows(2, 4, 6, 8), 4, rows(2, 4)),
        ([*rows(2, 4, 6), rollback, *rows(6, 8)], 4, [*rows(2, 4, 6), rollback]),
        ([*rows(2, 4, 6), rollback, *rows(6, 8)], 6, [*rows(2, 4, 6), rollback, *rows(6)]),
        ([*rows(2), rollback, *rows(2)], 0, []),
    ):
        (tmp_path / "metrics.jsonl").write_text("".join(map(json_line, before)))
        cut_log(tmp_path, step)
        assert [row for _, row in read_json_lines(tmp_path / "metrics.jsonl")] == after


def test_nested_values_have_their_dotted_names():
    assert flatten({"a": {"b": [1, {"c": 2}]}, "d": []}) == {"a.b.0": 1, "a.b.1.c": 2, "d": []}
