"""Fields of configurations that had another name: saved configs with the old one load, and hashes stay as they were."""

from __future__ import annotations

import dataclasses
from typing import Any

FORMERLY = "formerly"


def renamed_field(former: str, **settings: Any) -> Any:
    """Return a dataclass field that was called `former`; `settings` are those of `dataclasses.field`."""
    return dataclasses.field(metadata={FORMERLY: former}, **settings)


def former_name(field: dataclasses.Field) -> str:
    """Return the name that a field had at first, which hashes go by; its own, if it never had another."""
    return field.metadata.get(FORMERLY, field.name)
