"""Recipes and configurations with values changed at random end in a recipe or in one line."""

import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from vidgen.bounds import annotations_of
from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.diffusion.noise import TimeDistribution
from vidgen.errors import VidgenError
from vidgen.models.dit.config import VideoDiTConfig
from vidgen.models.ip_adapter import IPAdapterConfig
from vidgen.models.text.encoders import ByteTextConfig
from vidgen.pipelines.scheduler_config import SchedulerConfig
from vidgen.pipelines.wan.autoencoder import WanAutoencoderConfig
from vidgen.pipelines.wan.transformer_config import WanTransformerConfig
from vidgen.tokenizers.config import TokenizerConfig
from vidgen.tokenizers.diffusion_decoder.config import DiffusionTokenizerConfig
from vidgen.tokenizers.keyframes.config import KeyframeConfig
from vidgen.tokenizers.nerv.network import NeRVConfig
from vidgen.train.config import LoopConfig
from vidgen.train.config.files import load_recipe, recipe_name, shipped_recipes
from vidgen.train.tasks.registry import TASKS

CONFIGS = (
    TokenizerConfig, VideoDiTConfig, KeyframeConfig, DiffusionTokenizerConfig, ByteTextConfig, IPAdapterConfig,
    SchedulerConfig, TimeDistribution, NeRVConfig, WanAutoencoderConfig, WanTransformerConfig,
)  # fmt: skip
numbers = st.one_of(
    st.integers(-2, 70), st.sampled_from((2**31, 2**63, 10**18, 10**400, -(10**18))), st.floats(), st.booleans()
)
words = st.one_of(
    st.text(max_size=6), st.sampled_from(("kl", "fsq", "flow", "???", "${seed}", "${", "null", "~", "1e999"))
)
leaves = st.one_of(numbers, words, st.none())
values = st.recursive(leaves, lambda v: st.lists(v, max_size=4) | st.dictionaries(words, v, max_size=3), max_leaves=6)
# What stands on a command line after `key=`.
texts = st.one_of(
    st.text(max_size=12),
    leaves.filter(lambda v: not isinstance(v, int) or abs(v) < 2**64).map(str),
    st.sampled_from(("[", "{a: ", "[1, -1]", "{}", "[]", "[[1]]", "&a [*a]", "!!python/object:os.system x", "-", "'")),
)


def keys_of(kind: type, prefix: str = "") -> list[str]:
    """The keys of a recipe and of what it nests, as a command line has them."""
    keys = []
    for name, hint in annotations_of(kind).items():
        keys.append(prefix + name)
        keys += keys_of(hint, f"{prefix}{name}.") if hasattr(hint, "__dataclass_fields__") else []
    return keys


KEYS = sorted(
    {key for task in TASKS.values() for key in keys_of(task.recipe)} | {"data.sources.0.fps", "data.sources.9"}
)


def one_line(error: VidgenError) -> None:
    """What a person reads of it."""
    assert len(str(error).splitlines()) == 1


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """Former words warn, and random ones may be such."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@given(
    name=st.sampled_from([recipe_name(path) for path in shipped_recipes()]),
    changes=st.lists(st.tuples(st.sampled_from(KEYS) | st.text(max_size=8), texts), min_size=1, max_size=3),
)
def test_overrides_end_in_a_recipe_or_one_line(name: str, changes: list[tuple[str, str]]) -> None:
    try:
        recipe = load_recipe(name, [f"{key}={value}" for key, value in changes])
        assert isinstance(recipe, LoopConfig)
    except VidgenError as error:
        one_line(error)


@pytest.mark.parametrize(
    "key", ["a\nb", "data.\u2028x", "optimizer.x\x85", "adversarial.betas.\n", "data.sources.9.\n"]
)
@pytest.mark.parametrize("value", ["1", "a\nb"])
def test_a_key_with_a_line_break_is_one_line_that_quotes_it(key: str, value: str) -> None:
    with pytest.raises(VidgenError) as caught:
        load_recipe("tokenizer_default", [f"{key}={value}"])
    one_line(caught.value)
    assert repr(key)[1:-1] in str(caught.value)


@given(
    task=st.sampled_from(sorted(TASKS)),
    recipe=st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=8), values, max_size=4),
)
def test_files_end_in_a_recipe_or_one_line(tmp_path_factory: Any, task: str, recipe: dict[str, Any]) -> None:
    path = Path(tmp_path_factory.getbasetemp()) / "fuzz.yaml"
    try:
        text = OmegaConf.to_yaml(OmegaConf.create({"task": task, "out": "run", **recipe}))
        path.write_text(text, encoding="utf-8")
    except Exception:  # what cannot be written is no file
        return
    try:
        assert isinstance(load_recipe(str(path)), LoopConfig)
    except VidgenError as error:
        one_line(error)


@given(data=st.data())
@pytest.mark.parametrize("kind", CONFIGS, ids=lambda kind: kind.__name__)
def test_configs_end_in_a_config_or_one_line(kind: type, data: st.DataObject) -> None:
    names = st.sampled_from(list(annotations_of(kind))) | st.text(max_size=6)
    changes = data.draw(st.dictionaries(names, values, min_size=1, max_size=4))
    try:
        config = config_from_dict(kind, changes, "config.json")
        if hasattr(config, "check"):
            config.check("config.json")
    except VidgenError as error:
        assert str(error).startswith("config.json")
        one_line(error)
