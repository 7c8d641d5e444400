"""The verbs that make and unmake labs, and those that work on scenarios: up, down, plan, validate, schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from labctl.cli.complete import LAB, SCENARIO
from labctl.cli.frame import Session, common
from labctl.errors import Problem, ScenarioError, UsageError

if TYPE_CHECKING:
    from labctl.results import Report


def sets_option(function: Any) -> Any:
    """--set KEY=VALUE, repeatable."""
    text = "Change a value of the scenario, e.g. --set routing=host. May be given again."
    return click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help=text)(function)


@click.command("up", short_help="Bring a lab up, or repair a running one.")
@click.argument("scenario", type=SCENARIO)
@click.option("--name", metavar="LAB", help="The lab's name, if not the scenario's own.")
@click.option("--check", is_flag=True, help="Then prove every claim of the scenario, as `labctl check` does.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--keep", is_flag=True, help="Keep what was built if building fails, instead of rolling back.")
@click.option("--replace", is_flag=True, help="Replace a running lab of the same name but another definition.")
@sets_option
@common("json", "verbose", verbose="Also print the commands that make the same by hand.")
@click.pass_obj
def up(
    session: Session,
    scenario: str,
    name: str | None,
    check: bool,
    dry_run: bool,
    keep: bool,
    replace: bool,
    sets: tuple[str, ...],
) -> int:
    """Bring a lab up, or repair a running one.

    SCENARIO is a built-in name (`labctl list --scenarios`) or a file. Running it again changes only what
    differs. If building fails, everything made is removed again, unless --keep.

    \b
    Examples:
      sudo labctl up kubenet --check
      sudo labctl up kubenet --set routing=host --name kubenet-host
      sudo labctl up ./my-lab.yaml --dry-run
    """
    from labctl import lab as labs
    from labctl.kernel import places
    from labctl.report import deeds as report

    if check and dry_run:
        raise UsageError("up: --check needs the lab, and --dry-run builds none", "leave one of them out")
    definition = labs.define(scenario, name or session.lab, sets)
    if not dry_run or definition.name in places.labs():
        session.need_root()
    session.end_cleanly()
    terminal = session.terminal
    result = labs.up(definition, dry_run=dry_run, keep=keep, replace=replace, progress=terminal.progress)
    terminal.clear()
    if not session.json:
        if session.verbose:
            terminal.lines(report.by_hand(result, lambda node: places.netns_name(result.lab.name, node)))
        report.say_up(result, terminal, others=len(places.labs()) > 1, hints=not check)
    found = _checked(session, result.lab) if check else None
    if session.json:
        from labctl.report.json import up_document

        session.document(up_document(result, found))
    return 1 if found is not None and found.verdict in ("fail", "inconclusive") else 0


def _checked(session: Session, lab: Any) -> Report:
    from labctl.cli.look import run_checks

    if not session.json:
        session.terminal.line()
    return run_checks(session, lab, None)


@click.command("down", short_help="Remove labs without a trace.")
@click.argument("labs", nargs=-1, type=LAB, metavar="[LAB]...")
@click.option("--all", "everything", is_flag=True, help="All labs on this machine.")
@common("json")
@click.pass_obj
def down(session: Session, labs: tuple[str, ...], everything: bool) -> int:
    """Remove labs, leaving the machine as it was.

    Needs no scenario file and no state, works after a crash, and twice. LAB may be left out while only
    one runs.

    \b
    Examples:
      sudo labctl down kubenet
      sudo labctl down --all
    """
    from labctl import lab as room
    from labctl.kernel import places

    wanted = [*labs, *([session.lab] if session.lab and session.lab not in labs else [])]
    if wanted and everything:
        raise UsageError("down: name labs or say --all, not both")
    session.need_root()
    session.end_cleanly()
    if not wanted:
        wanted = list(places.labs()) if everything else [room.choose(None)]
    removed: dict[str, int] = {}
    for name in dict.fromkeys(wanted):
        session.terminal.progress(f"removing {name}")
        removed[name] = len(room.down(name)) if _possible(name) else 0
    if session.json:
        from labctl.report.json import down_document

        session.document(down_document(removed))
        return 0
    from labctl.report.text import count

    for name, number in removed.items():
        gone_text = f"{name} is down: {count(number, 'namespace')} removed"
        session.terminal.line(gone_text if number else f"{name} is not there: nothing to remove")
    if not removed:
        session.terminal.line("no lab runs: nothing to remove")
    return 0


def _possible(name: str) -> bool:
    """Whether a lab can bear this name at all; nothing else ever becomes part of a path."""
    return name.isascii() and all(part.isalnum() for part in name.split("-")) and len(name) <= 63


@click.command("plan", short_help="Show what a scenario becomes, building nothing.")
@click.argument("scenario", type=SCENARIO)
@click.option("--as", "form", type=click.Choice(["text", "json"]), default="text", help="The form; text by default.")
@click.option("--name", metavar="LAB", help="The lab's name, if not the scenario's own.")
@sets_option
@common()
@click.pass_obj
def plan(session: Session, scenario: str, form: str, name: str | None, sets: tuple[str, ...]) -> int:
    """Show every kernel object that a scenario becomes, without building anything; needs no root.

    \b
    Examples:
      labctl plan kubenet
      labctl plan kubenet --set routing=host --as json
    """
    from labctl import lab as labs

    lab = labs.compiled(labs.define(scenario, name or session.lab, sets))
    if form == "json" or session.json:
        from labctl.report.json import plan_document

        session.document(plan_document(lab))
    else:
        from labctl.words import plan_text

        text = plan_text(lab)
        session.terminal.lines(text.splitlines() if isinstance(text, str) else text)
    return 0


@click.command("validate", short_help="Say what is wrong with scenario files.")
@click.argument("files", nargs=-1, required=True, type=SCENARIO, metavar="FILE...")
@sets_option
@common("json")
@click.pass_obj
def validate(session: Session, files: tuple[str, ...], sets: tuple[str, ...]) -> int:
    """Say whether scenario files are right, with all mistakes of all files at once; needs no root.

    \b
    Examples:
      labctl validate my-lab.yaml
      labctl validate labs/*.yaml --json
    """
    from labctl import lab as labs

    good: dict[str, Any] = {}
    problems: list[Problem] = []
    for file in files:
        try:
            good[file] = labs.compiled(labs.define(file, None, sets))
        except ScenarioError as error:
            problems += error.problems
        except UsageError as error:
            problems.append(Problem(file, 1, 1, error.message, error.hint))
    if not session.json:
        session.terminal.lines(f"{file}: ok" for file in good)
    if problems:
        raise ScenarioError(problems)
    if session.json:
        from labctl.report.json import validate_document

        session.document(validate_document(good))
    return 0


@click.command("schema", short_help="Print the JSON Schema of scenario files.")
@common()
@click.pass_obj
def schema(session: Session) -> int:
    """Print the JSON Schema of scenario files, for editors.

    \b
    Example:
      labctl schema > labctl.schema.json
      # then, as the first line of a scenario:
      # yaml-language-server: $schema=labctl.schema.json
    """
    from labctl.schema import schema as describe

    session.document(describe())
    return 0


VERBS = (up, down, plan, validate, schema)
