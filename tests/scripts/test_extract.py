"""`vidgen extract`: what ends it says what was saved."""

from pathlib import Path

import pytest
import torch

from vidgen.errors import Interrupted
from vidgen.representations.bank import BankRow, BankWriter
from vidgen.scripts.extract import names_rows


def test_an_interruption_names_the_clips_that_a_bank_holds(tmp_path: Path) -> None:
    def interrupt(folder: Path) -> str:
        with pytest.raises(Interrupted) as caught, names_rows(folder):
            raise Interrupted(15, "ended by SIGTERM")
        return str(caught.value)

    assert interrupt(tmp_path / "none") == "ended by SIGTERM"
    about = {"pool": "mean", "keys": ["raw_pixels"], "source": "clips", "preprocessing": {}, "seed": 0}
    with BankWriter(tmp_path / "bank", about) as writer:
        writer.add([BankRow(id=name) for name in "ab"], {"raw_pixels": torch.zeros(2, 3)})
    assert (
        interrupt(tmp_path / "bank") == f"interrupted; {tmp_path / 'bank'} holds 2 clips, and the same command goes on"
    )
