"""The verbs that build and remove labs, and those that work on scenarios: up, down, plan, validate, schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from labctl.cli.app import Session, common
from labctl.cli.param_types import LAB, NAME, SCENARIO
from labctl.errors import Problem, ScenarioError, UsageError

if TYPE_CHECKING:
    from labctl.core.iptables import Backend
    from labctl.core.results import Report


def sets_option(function: Any) -> Any:
    """--set KEY=VALUE, repeatable."""
    text = "Set a value of the scenario, e.g. --set routing=host. Can be repeated."
    return click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help=text)(function)


def approximate_option(text: str) -> Callable[[Any], Any]:
    """--approximate, with its help text for a verb."""
    return click.option("--approximate", is_flag=True, help=text)


def firewall_option(text: str) -> Callable[[Any], Any]:
    """--firewall legacy|nft, with its help text for a verb."""
    return click.option("--firewall", type=click.Choice(["legacy", "nft"]), help=text)


@click.command("up", short_help="Bring a lab up, or repair a running one.")
@click.argument("scenario", type=SCENARIO)
@click.option("--name", type=NAME, metavar="LAB", help="The lab's name; by default the scenario's name.")
@click.option("--check", is_flag=True, help="Then prove every claim of the scenario, as `labctl check` does.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.option("--keep", is_flag=True, help="Keep what was built if building fails, instead of rolling back.")
@click.option("--replace", is_flag=True, help="Replace a running lab that has the same name but another definition.")
@approximate_option("Where this kernel lacks a feature, build the model's substitute, and report it.")
@firewall_option("Write rules with iptables-legacy or iptables-nft; by default with legacy where it works.")
@sets_option
@common("json", "verbose", verbose="Also print the equivalent commands.")
@click.pass_obj
def up(
    session: Session,
    scenario: str,
    name: str | None,
    check: bool,
    dry_run: bool,
    keep: bool,
    replace: bool,
    approximate: bool,
    firewall: Backend | None,
    sets: tuple[str, ...],
) -> int:
    """Bring a lab up, or repair a running one.

    SCENARIO is a built-in name (`labctl list --scenarios`) or a file. A second run changes only what differs. If
    building fails, everything that was created is removed again, unless --keep is given. A lab that needs a feature
    which this kernel lacks is refused; --approximate builds the model's substitute for the missing feature, if there
    is one, and changes nothing if no feature is missing. On a kernel without legacy iptables, the rules are written
    with iptables-nft; --firewall (or LABCTL_FIREWALL) selects one, and the lab keeps it.

    \b
    Examples:
      sudo labctl up kubenet --check
      sudo labctl up kubenet --set routing=host --name kubenet-host
      sudo labctl up ./my-lab.yaml --dry-run
    """
    import labctl
    from labctl.core.features import needed
    from labctl.kernel.host import paths
    from labctl.lab import lifecycle
    from labctl.report import up_status

    if check and dry_run:
        raise UsageError("up: --check needs a lab, but --dry-run builds none", "remove one of the two options")
    kind: dict[str, Any] = {"approximate": approximate, "firewall": firewall}
    definition = labctl.load(scenario, name=name or session.lab, set=sets, **kind)
    before = definition.name in paths.labs()
    if not dry_run or before or needed(definition.compiled.plan):
        session.need_root()
    session.end_cleanly()
    terminal = session.terminal
    session.fate = lambda: _fate(definition.name, before, keep=keep, replace=replace)
    how: dict[str, Any] = {"replace": replace, "approximate": approximate, "progress": terminal.progress}
    built = None if dry_run else labctl.up(definition, keep=keep, **how).result
    result = built or lifecycle.up(definition, dry_run=True, **how)
    session.fate = lambda: "" if dry_run else f"lab {definition.name} is up and keeps running"
    terminal.clear()
    if not session.json:
        if session.verbose:
            terminal.lines(
                up_status.by_hand(result, lambda node: paths.netns_name(result.lab.name, node), str(paths.state_dir()))
            )
        up_status.say_up(result, terminal, others=len(paths.labs()) > 1, hints=not check)
    found = _checked(session, result.lab) if check else None
    if session.json:
        from labctl.report.json_documents import up_document

        session.document(up_document(result, found))
    return 1 if found is not None and found.verdict in ("fail", "inconclusive") else 0


def _fate(name: str, before: bool, *, keep: bool, replace: bool) -> str:
    """What an interrupted `up` left of a lab. `before` is whether the lab existed when `up` began."""
    from labctl.kernel.host import lab_state, paths

    if name not in paths.labs() and name not in lab_state.records():
        return "rolled back, nothing is left" + (", and the lab to be replaced is removed too" if before else "")
    if before and not replace:
        return f"lab {name} keeps running; `labctl up` repairs what differs from the definition"
    how = "--keep: the lab is left incomplete" if keep else f"lab {name} is left, perhaps incomplete"
    return f"{how}; `labctl down {name}` removes it"


def _checked(session: Session, lab: Any) -> Report:
    from labctl.cli.inspect_commands import run_checks

    if not session.json:
        session.terminal.line()
    return run_checks(session, lab, None)


@click.command("down", short_help="Remove labs completely.")
@click.argument("labs", nargs=-1, type=LAB, metavar="[LAB]...")
@click.option("--all", "everything", is_flag=True, help="All labs on this machine.")
@common("json")
@click.pass_obj
def down(session: Session, labs: tuple[str, ...], everything: bool) -> int:
    """Remove labs completely, so that the machine is as it was before.

    Needs no scenario file and no saved state. Works after a crash, and can be repeated. LAB can be omitted while
    only one lab runs. If only the record of a lab is left, without namespaces, that is removed as well.

    \b
    Examples:
      sudo labctl down kubenet
      sudo labctl down --all
    """
    import labctl
    from labctl.kernel.host import lab_state, paths
    from labctl.lab import lifecycle

    wanted = [*labs, *([session.lab] if session.lab and session.lab not in labs else [])]
    if wanted and everything:
        raise UsageError("down: name labs or use --all, not both")
    session.need_root()
    session.end_cleanly()
    running, records = paths.labs(), lab_state.records()
    if not wanted:
        only_records = bool(records) and not running
        wanted = [*running, *records] if everything or only_records else [lifecycle.choose(None)]
    removed: dict[str, int] = {}
    for name in dict.fromkeys(wanted):
        session.terminal.progress(f"removing {name}")
        removed[name] = len(labctl.down(name, warn=lambda text: session.terminal.complain(f"labctl: {text}")))
    if session.json:
        from labctl.report.json_documents import down_document

        session.document(down_document(removed, records))
        return 0
    from labctl.report.plain_text import count

    for name, number in removed.items():
        absent = f"{name} does not exist: {'its record is removed' if name in records else 'nothing to remove'}"
        session.terminal.line(f"{name} is down: {count(number, 'namespace')} removed" if number else absent)
    if not removed:
        session.terminal.line("no lab runs: nothing to remove")
    return 0


@click.command("plan", short_help="Show the kernel objects of a scenario without building it.")
@click.argument("scenario", type=SCENARIO)
@click.option(
    "--as", "form", type=click.Choice(["text", "shell", "json"]), default="text", help="Output format; text by default."
)
@click.option("--name", type=NAME, metavar="LAB", help="The lab's name; by default the scenario's name.")
@approximate_option("Show the plan with every substitute that the model has for missing kernel features.")
@firewall_option("The iptables variant in the shell format; by default that of LABCTL_FIREWALL, or legacy.")
@sets_option
@common()
@click.pass_obj
def plan(
    session: Session,
    scenario: str,
    form: str,
    name: str | None,
    approximate: bool,
    firewall: Backend | None,
    sets: tuple[str, ...],
) -> int:
    """Show every kernel object of a scenario without building anything; needs no root.

    With `--as shell`, the output is a script that builds the same lab without labctl; `labctl down` removes that lab.

    In the text format, the last lines say where the model differs from the real system. A plan does not depend on
    this machine's kernel: with --approximate it is the plan for a kernel that lacks every feature for which the model
    has a substitute.

    \b
    Examples:
      labctl plan kubenet
      labctl plan kubenet --set routing=host --as json
      labctl plan kubenet --as shell > kubenet.sh && sudo sh kubenet.sh
    """
    import labctl
    from labctl.core.fidelity import substitutes
    from labctl.kernel.firewall.backend import wish
    from labctl.lab import lifecycle

    if session.json and form == "shell":
        raise UsageError("--json and --as shell cannot be used together", "--as json is the same as --json")

    how: dict[str, Any] = {"approximate": approximate, "firewall": wish(firewall)}
    definition = labctl.load(scenario, name=name or session.lab, set=sets, **how)
    lab = definition.compiled
    if approximate:
        lab = lifecycle.compiled(lifecycle.approximated(definition, substitutes(lab.parts)))
    if form == "json" or session.json:
        from labctl.report.json_documents import plan_document

        session.document(plan_document(lab))
    elif form == "shell":
        from labctl.kernel.host.paths import netns_name, state_dir
        from labctl.report.shell_script import plan_script

        for line in plan_script(lab, lambda node: netns_name(lab.name, node), str(state_dir())):
            session.terminal.line(line)
    else:
        from labctl.render.resources import plan_text
        from labctl.report.up_status import grade_lines

        text = plan_text(lab)
        session.terminal.lines(text.splitlines() if isinstance(text, str) else text)
        session.terminal.lines(["", *grade_lines(lab)], fold=4)
    return 0


@click.command("validate", short_help="Report the mistakes in scenario files.")
@click.argument("files", nargs=-1, required=True, type=SCENARIO, metavar="FILE...")
@sets_option
@common("json")
@click.pass_obj
def validate(session: Session, files: tuple[str, ...], sets: tuple[str, ...]) -> int:
    """Check whether scenario files are valid, and report all mistakes of all files at once; needs no root.

    \b
    Examples:
      labctl validate my-lab.yaml
      labctl validate labs/*.yaml --json
    """
    import labctl

    good: dict[str, Any] = {}
    problems: list[Problem] = []
    for file in files:
        try:
            good[file] = labctl.load(file, set=sets).compiled
        except ScenarioError as error:
            problems += error.problems
        except UsageError as error:
            problems.append(Problem(file, 1, 1, error.message, error.hint))
    if not session.json:
        session.terminal.lines(f"{file}: ok" for file in good)
    if problems:
        raise ScenarioError(problems)
    if session.json:
        from labctl.report.json_documents import validate_document

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
    from labctl.scenario.json_schema import schema as describe

    session.document(describe())
    return 0


VERBS = (up, down, plan, validate, schema)
