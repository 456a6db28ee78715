"""Fields of configurations, read as a mapping; renamed, revalued or retired, while saved ones load and hashes stay."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from vidgen.errors import VidgenError

FORMERLY = "formerly"
FORMER_VALUES = "former_values"


class ConfigMapping(Mapping[str, Any]):
    """Base of a frozen config dataclass that is also read as a mapping of its fields, as diffusers' configs are:
    `config["width"]`, `config.get`, `dict(config)`, `**config`."""

    def __getitem__(self, key: str) -> Any:
        """Return a field by name. Raises KeyError for a name that is none, that of a property included."""
        if key in list(self):
            return getattr(self, key)
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return (field.name for field in dataclasses.fields(self))

    def __len__(self) -> int:
        return len(dataclasses.fields(self))


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
