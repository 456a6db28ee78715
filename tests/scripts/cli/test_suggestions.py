"""An option as another tool calls it is answered with ours, where the verb has it."""

from vidgen.scripts.cli.suggestions import OTHER_NAMES, OURS, suggest_option
from vidgen.scripts.main import app


def options_of(command) -> set[str]:
    """Every option of a command and of those below it."""
    own = {name for parameter in command.params for name in parameter.opts}
    return own.union(*(options_of(below) for below in getattr(command, "commands", {}).values()))


def test_what_is_suggested_is_there_and_what_is_other_is_not():
    options = options_of(app.to_command())
    assert set(OTHER_NAMES) <= options
    assert len(OURS) == sum(map(len, OTHER_NAMES.values()))  # no word means two options
    sample = {name for parameter in app.to_command().commands["sample"].params for name in parameter.opts}
    assert not sample & set(OURS)


def test_only_options_that_the_verb_has_are_suggested():
    message = "No such option: --steps (Possible options: --fps)"
    assert suggest_option(message, ["--num-inference-steps"]) == (
        "No such option: --steps; here it is --num-inference-steps"
    )
    assert suggest_option(message, ["--seed"]) == message
    assert suggest_option("Missing argument 'PROMPT'", ["--seed"]) == "Missing argument 'PROMPT'"
