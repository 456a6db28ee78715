"""Old names of public things: they work, and warn with the new one."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def warn_renamed(old: str, new: str, stacklevel: int = 3) -> None:
    """Warn that `old` is now called `new`, at the place that `stacklevel` calls above this one."""
    warnings.warn(f"{old} is now called {new}", FutureWarning, stacklevel=stacklevel)


def renamed_getattr(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module in which things were renamed, from old name to new one."""

    def lookup(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn_renamed(f"{module}.{name}", names[name])
        return getattr(sys.modules[module], names[name])

    return lookup


def renamed_arguments(**names: str) -> Callable[[Function], Function]:
    """Return a decorator for a function whose keyword arguments were renamed, as `old="new"`."""

    def decorate(function: Function) -> Function:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for old in names.keys() & kwargs.keys():
                warn_renamed(f"{function.__name__}({old}=...)", names[old])
                kwargs[names[old]] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate


def renamed_attributes(**names: str) -> Callable[[type], type]:
    """Return a decorator for a class whose attributes or methods were renamed, as `old="new"`."""

    def make_property(old: str, new: str) -> property:
        def read(self: Any) -> Any:
            warn_renamed(f"{type(self).__name__}.{old}", new)
            return getattr(self, new)

        return property(read, doc=f"The old name of `{new}`.")

    def decorate(cls: type) -> type:
        for old, new in names.items():
            setattr(cls, old, make_property(old, new))
        return cls

    return decorate
