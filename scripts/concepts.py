"""`vidgen concepts`: which concepts a probe's class is sensitive to, tested against random ones (TCAV)."""

from __future__ import annotations

from typing import Annotated

import typer

from vidgen.scripts.cli.dispatch import run_verb
from vidgen.scripts.cli.options import BankArgument, JsonOption, SeedOption, parse_names
from vidgen.scripts.cli.printing import print_json, print_table


def concepts(
    bank: BankArgument,
    task: Annotated[str, typer.Option(help="The column of labels that a small network is trained to predict.")],
    value: Annotated[str, typer.Option(help="The class whose logit is tested.")],
    columns: Annotated[
        str,
        typer.Option(
            "--concepts", metavar="NAMES", help="Columns of labels whose values are the concepts, as colour,shape."
        ),
    ],
    layer: Annotated[
        str | None, typer.Option(help="The features to test in, as dit.blocks.3. Default: the bank's first.")
    ] = None,
    sets: Annotated[
        int,
        typer.Option(
            min=3, max=10**6, help="Number of random concepts for the t-test, and of random negative sets per concept."
        ),
    ] = 30,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Test which concepts a class is sensitive to, by concept activation vectors (TCAV).

    Printed are the share of the class's clips whose logit grows along a concept's direction, the mean cosine of the
    logit's gradient with it, and whether random concepts have as large a cosine (two-sided t-test).
    Example: vidgen concepts bank --task motion --value grow --concepts size,colour
    """
    from vidgen.representations.bank import FeatureBank
    from vidgen.representations.steering import concept_rows

    features = FeatureBank.load(bank)
    key = features.keys[0] if layer is None else features.find_key(layer)
    rows = concept_rows(features, key, task, value, parse_names(columns), sets=sets, seed=seed)
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
    heads = ("concept", ">clips", ">share", ">cosine", ">random concepts", ">p", "", "")
    print_table(f"what {task}={value} grows with, in {key}", heads, cells)
    print(f"the probe is right on {rows[0]['accuracy']:.3f} of the clips held out")


if __name__ == "__main__":
    run_verb("concepts", concepts)
