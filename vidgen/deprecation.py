"""Public names and keywords that were renamed: they still work, for one version, and warn with the new one."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def renamed_attributes(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a `__getattr__` for a module in which things were renamed, from former name to present one."""

    def __getattr__(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(f"{module}.{name} is now called {names[name]}", FutureWarning, stacklevel=2)
        return getattr(sys.modules[module], names[name])

    return __getattr__


def renamed_keywords(**names: str) -> Callable[[F], F]:
    """Return a decorator for a function of which keywords were renamed: `former="present"`."""

    def decorate(function: F) -> F:
        @wraps(function)
        def call(*inputs: Any, **settings: Any) -> Any:
            for former in names.keys() & settings.keys():
                if names[former] in settings:
                    raise TypeError(f"{former} is now called {names[former]}; both were given")
                warnings.warn(f"{former}=... is now called {names[former]}=...", FutureWarning, stacklevel=2)
                settings[names[former]] = settings.pop(former)
            return function(*inputs, **settings)

        return call

    return decorate


def renamed_fields(**names: str) -> Callable[[type], type]:
    """Return a decorator for a class of which attributes or methods were renamed: `former="present"`."""

    def make_property(former: str, present: str) -> property:
        def read(self: Any) -> Any:
            name = f"{type(self).__name__}.{former}"
            warnings.warn(f"{name} is now called {present}", FutureWarning, stacklevel=2)
            return getattr(self, present)

        return property(read, doc=f"The former name of `{present}`.")

    def decorate(cls: type) -> type:
        for former, present in names.items():
            setattr(cls, former, make_property(former, present))
        return cls

    return decorate
