"""Worlds of tokens by name. A new one is a class, and a line in TOKEN_WORLDS."""

from __future__ import annotations

from collections.abc import Callable

from vidgen.data.token_worlds.pictures import PictureWorld
from vidgen.data.token_worlds.procedures import ProcedureWorld
from vidgen.data.token_worlds.sprites import CoinWorld, TorusWorld
from vidgen.data.token_worlds.world import TokenWorld

TOKEN_WORLDS: dict[str, Callable[..., TokenWorld]] = {
    "torus": TorusWorld,
    "coin": CoinWorld,
    "pictures": PictureWorld,
    "procedures": ProcedureWorld,
}
