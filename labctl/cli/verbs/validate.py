"""labctl validate: report the mistakes in scenario files."""

from __future__ import annotations

from typing import Any

import click

from labctl.cli.options import global_options, manifests_option, print_warnings, sets_option
from labctl.cli.param_types import SCENARIO
from labctl.cli.session import Session
from labctl.errors import Problem, ScenarioError, UsageError


@click.command("validate", short_help="Report the mistakes in scenario files.")
@click.argument("files", nargs=-1, required=True, type=SCENARIO, metavar="FILE...")
@sets_option
@manifests_option
@global_options("json")
@click.pass_obj
def validate(session: Session, files: tuple[str, ...], sets: tuple[str, ...], manifests: tuple[str, ...]) -> int:
    """Check whether scenario files are valid, and report all mistakes of all files at once; needs no root. Root also
    learns what nft refuses of the rules of `nftables:`.

    \b
    Examples:
      labctl validate my-lab.yaml
      labctl validate labs/*.yaml --json
      labctl validate kubenet --manifest shop.yaml
    """
    import labctl
    from labctl.lab.nft_acceptance import problems_if_possible

    good: dict[str, Any] = {}
    problems: list[Problem] = []
    for file in files:
        try:
            definition = labctl.load(file, set=sets, manifests=manifests)
            refused = problems_if_possible(definition, definition.compiled)
            problems += refused
            if not refused:
                good[file] = definition.compiled
        except ScenarioError as error:
            problems += error.problems
        except UsageError as error:
            problems.append(Problem(file, 1, 1, error.message, error.hint))
    for lab in good.values():
        print_warnings(session, lab)
    if not session.json:
        session.terminal.lines((f"{file}: ok" for file in good), fold=4)
    if problems:
        raise ScenarioError(problems)
    if session.json:
        from labctl.report.json_documents import validate_document

        session.print_document(validate_document(good))
    return 0


COMMAND = validate
