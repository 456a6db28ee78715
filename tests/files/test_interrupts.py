"""A signal that comes while tensors are read ends in what its handler raises, and in nothing else."""

import signal
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vidgen.checkpoints.checkpoint import find_checkpoint
from vidgen.files.interrupts import signals_held
from vidgen.lora.files import read_numbers
from vidgen.models.text.cache import read_encoding, write_encoding
from vidgen.tokenizers.files.token_files import TokenInfo, TokenReader


class Ended(KeyboardInterrupt):
    """What the handler of the test raises."""


def end(number: int, _: object) -> None:
    raise Ended(number)


@pytest.fixture(autouse=True)
def handler():
    former = signal.signal(signal.SIGTERM, end)
    yield
    signal.signal(signal.SIGTERM, former)


def test_signals_wait_for_the_end_of_the_block() -> None:
    steps = []
    with pytest.raises(Ended), signals_held():
        signal.raise_signal(signal.SIGTERM)
        steps.append("went on")
    assert steps == ["went on"] and signal.getsignal(signal.SIGTERM) is end


def test_an_error_of_the_block_does_not_hide_the_signal() -> None:
    with pytest.raises(Ended), signals_held():
        signal.raise_signal(signal.SIGTERM)
        raise ValueError("of the block")
    with pytest.raises(ValueError, match="of the block"), signals_held():
        raise ValueError("of the block")
    assert signal.getsignal(signal.SIGTERM) is end


def test_what_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with signals_held():
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        signal.raise_signal(signal.SIGTERM)


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A signal comes when torch first asks for an item of a storage, in place of a part; the items asked for."""
    former = torch.UntypedStorage.__getitem__
    asked = []

    def item(storage: torch.UntypedStorage, index: int | slice) -> int | torch.UntypedStorage:
        if isinstance(index, int) and not asked:
            asked.append(index)
            signal.raise_signal(signal.SIGTERM)
        return former(storage, index)

    monkeypatch.setattr(torch.UntypedStorage, "__getitem__", item)
    return asked


def read_weights(path: Path) -> None:
    list(find_checkpoint(path).read())


def read_lora(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        read_numbers(path, file, "weight")


def read_text(path: Path) -> None:
    write_encoding(path, torch.ones(3, 4), torch.ones(3, dtype=torch.bool), {})
    read_encoding(path, {})


def read_tokens(path: Path) -> None:
    save_file({"latents": torch.ones(1, 4, 2, 2, 2)}, path)
    with safe_open(path, framework="pt") as file:
        info = TokenInfo.__new__(TokenInfo)
        object.__setattr__(info, "bits", 0)
        object.__setattr__(info, "shape", (1, 4, 2, 2, 2))
        object.__setattr__(info, "checksums", ())
        TokenReader(path, file, info).latents()


@pytest.mark.parametrize("read", [read_weights, read_lora, read_text, read_tokens])
def test_no_signal_is_lost_in_a_read(tmp_path: Path, interrupted: list[int], read) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"weight": torch.randn(2, 3)}, path)
    with pytest.raises(Ended):
        read(path)
    assert interrupted  # otherwise nothing was tried


def test_without_the_wait_it_would_be_lost(tmp_path: Path, interrupted: list[int]) -> None:
    """So long as this is so, `signals_held` is needed."""
    save_file({"weight": torch.randn(2, 3)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="UntypedStorage"):
        load_file(tmp_path / "x.safetensors")
