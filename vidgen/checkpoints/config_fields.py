"""Fields of configurations that had another name or other values: saved configs of then load, and hashes stay."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

FORMERLY = "formerly"
FORMER_VALUES = "former_values"


def renamed_field(former: str, *, former_values: Mapping[str, Any] | None = None, **settings: Any) -> Any:
    """Return a dataclass field that was called `former`; `settings` are those of `dataclasses.field`.

    `former_values` maps values that were renamed to what they are called now.
    """
    return dataclasses.field(metadata={FORMERLY: former, FORMER_VALUES: dict(former_values or {})}, **settings)


def former_name(field: dataclasses.Field) -> str:
    """Return the name that a field had at first, which hashes go by; its own, if it never had another."""
    return field.metadata.get(FORMERLY, field.name)


def former_dict(config: Any) -> dict[str, Any]:
    """Return a config's fields as plain data, nested ones too, with the names and values that they had at first."""
    plain = dataclasses.asdict(config)
    former = {}
    for field in dataclasses.fields(config):
        nested, value = getattr(config, field.name), plain[field.name]
        renamed = {now: old for old, now in field.metadata.get(FORMER_VALUES, {}).items()}
        if dataclasses.is_dataclass(nested):
            value = former_dict(nested)
        former[former_name(field)] = renamed.get(value, value) if isinstance(value, str) else value
    return former


def present_value(field: dataclasses.Field, value: Any) -> Any:
    """Return what a saved value of the field, which may have another name now, is called today."""
    return field.metadata.get(FORMER_VALUES, {}).get(value, value) if isinstance(value, str) else value
