"""labctl plan: show the kernel objects of a scenario."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from labctl.cli.options import (
    approximate_option,
    firewall_option,
    global_options,
    manifests_option,
    print_warnings,
    sets_option,
    why_option,
)
from labctl.cli.param_types import NAME, SCENARIO
from labctl.cli.session import Session
from labctl.errors import UsageError

if TYPE_CHECKING:
    from labctl.core.iptables import Backend


@click.command("plan", short_help="Show the kernel objects of a scenario without building it.")
@click.argument("scenario", type=SCENARIO)
@click.option(
    "--as", "form", type=click.Choice(["text", "shell", "json"]), default="text", help="Output format; text by default."
)
@click.option("--name", type=NAME, metavar="LAB", help="The lab's name; by default the scenario's name.")
@approximate_option("Show the plan with every substitute that the model has for missing kernel features.")
@firewall_option("The iptables variant in the shell format; by default that of LABCTL_FIREWALL, or legacy.")
@why_option("Say in the shell format, as comments, why each object is there and what makes it.")
@sets_option
@manifests_option
@global_options()
@click.pass_obj
def plan(
    session: Session,
    scenario: str,
    form: str,
    name: str | None,
    approximate: bool,
    firewall: Backend | None,
    why: bool,
    sets: tuple[str, ...],
    manifests: tuple[str, ...],
) -> int:
    """Show every kernel object of a scenario without building anything; needs no root.

    With `--as shell`, the output is a script that builds the same lab without labctl; `labctl down` removes that lab.

    In the text format, a table has the addresses that the lab takes of its ranges, for models of clouds that plan
    them, and the last lines say where the model differs from the real system. A plan does not depend on
    this machine's kernel: with --approximate it is the plan for a kernel that lacks every feature for which the model
    has a substitute.

    \b
    Examples:
      labctl plan kubenet
      labctl plan kubenet --set routing=host --as json
      labctl plan kubenet --as shell > kubenet.sh && sudo sh kubenet.sh
      labctl plan kubenet --as shell --why
    """
    import labctl
    from labctl.core.fidelity import substitutes
    from labctl.kernel.firewall.backend import requested_backend
    from labctl.lab import lifecycle

    if session.json and form == "shell":
        raise UsageError("--json and --as shell cannot be used together", "--as json is the same as --json")

    if why and (form != "shell" or session.json):
        raise UsageError("--why needs --as shell", f"labctl explain {scenario} -v has the reasons; --json works there")

    options: dict[str, Any] = {"approximate": approximate, "firewall": requested_backend(firewall)}
    given = name or session.chosen_lab
    definition = labctl.load(scenario, name=given, set=sets, manifests=manifests, **options)
    lab = definition.compiled
    if approximate:
        lab = lifecycle.compile_definition(lifecycle.with_substitutes(definition, substitutes(lab.parts)))
    if form != "json":
        print_warnings(session, lab)
    if form == "json" or session.json:
        from labctl.report.json_documents import plan_document

        session.print_document(plan_document(lab))
    elif form == "shell":
        from labctl.kernel.host.paths import netns_name, state_dir
        from labctl.report.shell_script import plan_script

        reasons = None
        if why:
            from labctl.explanation.planned_reasons import PlannedReasons

            reasons = PlannedReasons(lab)
        chosen = (("--name", (given,)), ("--set", sets), ("--manifest", manifests))
        options_given = [word for option, values in chosen for value in values if value for word in (option, value)]
        words = [scenario, *options_given]
        for line in plan_script(lab, lambda node: netns_name(lab.name, node), str(state_dir()), words, reasons):
            session.terminal.line(line)
    else:
        from labctl.render.resources import plan_text
        from labctl.report.up_status import address_use_table, fidelity_lines

        text = plan_text(lab)
        session.terminal.lines(text.splitlines() if isinstance(text, str) else text, fold=6)
        if lab.address_use:
            session.terminal.line()
            session.terminal.section(address_use_table(lab))
        session.terminal.lines(["", *fidelity_lines(lab)], fold=4)
    return 0


COMMAND = plan
