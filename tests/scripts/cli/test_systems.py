"""vidgen systems: every recipe is there, every gap has its reason."""

import json

import pytest

from vidgen.scripts.systems import STATUSES, read_systems
from vidgen.train.config.files import find_recipe

SYSTEMS = [(row, system) for row, group in read_systems().items() for system in group["systems"]]


@pytest.mark.parametrize(("row", "system"), SYSTEMS, ids=[f"{row} {system['name']}" for row, system in SYSTEMS])
def test_a_system_has_a_recipe_or_a_reason(row, system):
    assert system["status"] in STATUSES and system.keys() <= {"name", "status", "recipe", "note"}
    if "recipe" in system:
        assert find_recipe(system["recipe"]).is_file() and system["status"] != "out"
    if system["status"] != "works":
        assert system["note"]
    else:
        assert "recipe" in system or "note" in system


def test_names_are_listed_once():
    names = [(row, system["name"]) for row, system in SYSTEMS]
    assert len(set(names)) == len(names)


def test_a_row_is_printed(vidgen):
    ran = vidgen("systems", "m18", "--json")
    assert list(json.loads(ran.out)["rows"]) == ["M18"]
    assert "ssl/warp" in vidgen("systems", "M18").out
    refused = vidgen("systems", "M99")
    assert refused.status != 0 and "row 'M99' is not listed; choose one of M5, M6" in refused.err
