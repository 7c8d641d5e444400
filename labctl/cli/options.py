"""Options that several verbs have."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from labctl.cli.param_types import FILE, SCENARIO
from labctl.cli.session import Session

if TYPE_CHECKING:
    from labctl.core.scenario_types import Lab


def set_global_option(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Store a global option, given before or after the verb. If it is not given, the stored value stays."""
    if value and isinstance(ctx.find_root().obj, Session):
        session: Session = ctx.find_root().obj
        setattr(session, str(param.name), value)
        session.terminal.shows_progress = session.terminal.shows_progress and not session.json
    return value


def global_options(*shown: str, verbose: str = "Print more.") -> Callable[[Any], Any]:
    """The global options, which can also stand after the verb. `--help` lists those in `shown`.

    `verbose` is the help text of -v for this verb.
    """
    from labctl.cli.param_types import LAB, LANGUAGE

    lab_help = "The lab; not needed while only one of yours runs, or LABCTL_LAB names it."
    lang_help = "The language, such as ja; by default that of the locale."
    json_help = "Print exactly one JSON document, errors included."
    lab: dict[str, Any] = {"type": LAB, "metavar": "NAME", "hidden": "lab" not in shown, "help": lab_help}
    json: dict[str, Any] = {"is_flag": True, "hidden": "json" not in shown, "help": json_help}
    lang: dict[str, Any] = {"type": LANGUAGE, "metavar": "CODE", "hidden": "lang" not in shown, "help": lang_help}
    more: dict[str, Any] = {"is_flag": True, "hidden": "verbose" not in shown, "help": verbose}

    def wrap(function: Any) -> Any:
        function = click.option(
            "-h",
            "--help",
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=show_help,
            help="Show this message and exit.",
        )(function)
        for names, settings in (
            ("--lang", lang), ("-v --verbose", more), ("--json", json), ("-l --lab", lab),
        ):  # fmt: skip
            function = click.option(*names.split(), expose_value=False, callback=set_global_option, **settings)(
                function
            )
        return function

    return wrap


def show_help(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Print the help. click's own callback fails if the output cannot be written, as on a full disk."""
    if value and not ctx.resilient_parsing:
        ctx.find_root().obj.terminal.line(ctx.get_help())
        ctx.exit()


def sets_option(function: Any) -> Any:
    """--set KEY=VALUE, repeatable."""
    text = "Set a value of the scenario, e.g. --set routing=host. Can be repeated."
    return click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help=text)(function)


def manifests_option(function: Any) -> Any:
    """--manifest FILE, repeatable."""
    text = "Add objects of Kubernetes from a YAML or JSON file; - is the standard input. Can be repeated."
    return click.option("--manifest", "manifests", multiple=True, type=FILE, metavar="FILE", help=text)(function)


def print_warnings(session: Session, lab: Lab) -> None:
    """Print the warnings of a lab on standard error; in a JSON document, they are in `warnings`."""
    if not session.json:
        for one in lab.warnings:
            session.terminal.print_stderr(f"warning: {one}")


def why_option(text: str) -> Callable[[Any], Any]:
    """--why, with its help text for a verb."""
    return click.option("--why", is_flag=True, help=text)


def approximate_option(text: str) -> Callable[[Any], Any]:
    """--approximate, with its help text for a verb."""
    return click.option("--approximate", is_flag=True, help=text)


def firewall_option(text: str) -> Callable[[Any], Any]:
    """--firewall legacy|nft, with its help text for a verb."""
    return click.option("--firewall", type=click.Choice(["legacy", "nft"]), help=text)


def force_option(function: Any) -> Any:
    """--force, for the labs of others."""
    return click.option("--force", is_flag=True, help="Also if the lab belongs to another user.")(function)


def scenario_option(function: Any) -> Any:
    """--scenario FILE, for a lab if its saved definition is lost."""
    text = "The scenario of the lab, if labctl's record of it is lost."
    return click.option("--scenario", type=SCENARIO, metavar="FILE", help=text)(function)
