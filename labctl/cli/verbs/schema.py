"""labctl schema: print the JSON Schema."""

from __future__ import annotations

import click

from labctl.cli.options import global_options
from labctl.cli.session import Session


@click.command("schema", short_help="Print the JSON Schema of scenario files.")
@global_options()
@click.pass_obj
def schema(session: Session) -> int:
    """Print the JSON Schema of scenario files, for editors.

    \b
    Example:
      labctl schema > labctl.schema.json
      # then, as the first line of a scenario:
      # yaml-language-server: $schema=labctl.schema.json
    """
    from labctl.scenario import json_schema

    session.print_document(json_schema.schema())
    return 0


COMMAND = schema
