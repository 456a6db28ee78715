"""`vidgen concepts`: which concepts a probe's class is sensitive to, tested against random ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidgen.scripts.cli.options import JsonOption, SeedOption, parse_names
from vidgen.scripts.cli.printing import print_json, print_table


def concepts(
    bank: Annotated[Path, typer.Argument(metavar="BANK", help="The folder that `vidgen extract` wrote.")],
    task: Annotated[str, typer.Option(help="The column of labels that a perceptron is fitted to.")],
    value: Annotated[str, typer.Option(help="The class whose logit is looked at.")],
    columns: Annotated[
        str, typer.Option("--concepts", metavar="NAMES", help="Columns whose values are the concepts, as colour,shape.")
    ],
    layer: Annotated[str | None, typer.Option(help="The features; default: the bank's first.")] = None,
    sets: Annotated[int, typer.Option(min=3, help="Random counterparts, and random concepts.")] = 30,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Test with concept activation vectors: the share of a class's clips whose logit grows along a concept's direction,
    the mean cosine of its gradient with it, and whether random concepts have as much of that (two-sided t-test).

    Example: vidgen concepts bank --task motion --value grow --concepts size,colour
    """
    from vidgen.representations.bank import FeatureBank
    from vidgen.representations.steering import concept_rows

    opened = FeatureBank.load(bank)
    key = opened.keys[0] if layer is None else opened.find_key(layer)
    rows = concept_rows(opened, key, task, value, parse_names(columns), sets=sets, seed=seed)
    if json:
        print_json({"rows": rows})
        return
    cells = [
        (
            row["concept"], row["clips"], f"{row['share']:.3f}", f"{row['cosine']:.3f}",
            f"{row['random']:.3f} ± {row['spread']:.3f}",
            f"{row['p']:.2g}", "significant" if row["significant"] else "", "class itself" if row["baseline"] else "",
        )
        for row in rows
    ]  # fmt: skip
    columns_shown = ("concept", ">clips", ">share", ">cosine", ">random concepts", ">p", "", "")
    print_table(f"what {task}={value} grows with, in {key}", columns_shown, cells)
    print(f"the probe is right on {rows[0]['accuracy']:.3f} of the clips held out")


if __name__ == "__main__":
    from vidgen.scripts.main import main_of

    main_of("concepts")
