"""labctl shell: open a shell in a node."""

from __future__ import annotations

from typing import Any

import click

from labctl.cli.options import global_options
from labctl.cli.param_types import NODE
from labctl.cli.session import Session
from labctl.lab.node_lookup import find_nodes


@click.command("shell", short_help="Open a shell inside a node.")
@click.argument("node", type=NODE)
@global_options("lab")
@click.pass_obj
def shell(session: Session, node: str) -> Any:
    """Open a shell inside a node; the prompt shows the node, `exit` ends the shell.

    \b
    Example:
      sudo labctl shell node1
      kubenet/node1:~# ip route
    """
    from labctl.kernel.node_exec import exec
    from labctl.lab import lifecycle

    session.require_root(spare_files=False)
    lab = lifecycle.resolve_lab_name(session.lab)
    (namespace,) = find_nodes(lab, node)
    return exec.shell(lab, namespace)


COMMAND = shell
