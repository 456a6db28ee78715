"""Fields of configurations that were renamed or retired: saved configs still load, and hashes stay as they were."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from vidgen.errors import VidgenError

FORMERLY = "formerly"


def renamed_field(former: str, **settings: Any) -> Any:
    """Return a dataclass field that was called `former`; `settings` are those of `dataclasses.field`."""
    return dataclasses.field(metadata={FORMERLY: former}, **settings)


def former_name(field: dataclasses.Field) -> str:
    """Return the name that a field had at first, which hashes go by; its own, if it never had another."""
    return field.metadata.get(FORMERLY, field.name)


def current_fields(config_class: type, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a saved config with today's names and without the fields that the class has no more.

    The class lists the latter as `retired_fields`, each with the value that all configs of it have now. Raises
    VidgenError, naming `where`, for one that has another value.
    """
    retired = getattr(config_class, "retired_fields", {})
    if changed := [name for name, value in retired.items() if values.get(name, value) != value]:
        name = changed[0]
        raise VidgenError(
            f"{where}: {name}={values[name]!r} is no setting of a {config_class.__name__}, which has {retired[name]!r} "
            "always; leave it out"
        )
    names = {former_name(f): f.name for f in dataclasses.fields(config_class)}
    return {names.get(name, name): value for name, value in values.items() if name not in retired}
