"""Modules under their old names: they hand on what the new ones have, and warn with the new name."""

import importlib
import sys

import pytest

from vidgen.renamed_modules import MODULES


@pytest.mark.parametrize("old", MODULES)
def test_an_old_module_is_the_new_one_and_says_so(old: str) -> None:
    new, names = MODULES[old]
    sys.modules.pop(old, None)
    with pytest.warns(FutureWarning, match=f"{old} is now {new}"):
        module = importlib.import_module(old)
    target = importlib.import_module(new)
    public = [name for name in vars(target) if not name.startswith("_")]
    assert all(getattr(module, name) is getattr(target, name) for name in public)
    for before, now in names.items():
        home, _, name = now.rpartition(":")
        assert getattr(module, before) is getattr(importlib.import_module(home or new), name)
    with pytest.raises(AttributeError):
        module.no_such_name  # noqa: B018


def test_names_that_never_were_are_not_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("vidgen.no_such_module")
