"""Attachments as text: the device, the node, the network with its plugins, and the capability arguments."""

from __future__ import annotations

import json
from collections.abc import Iterator

from labctl.cni.conflist import parse_config_list
from labctl.core.resources import Attachment


def attachment_text(item: Attachment) -> str:
    """An attachment in one line: device, node, network, the plugins in order, the capability arguments."""
    what = parse_config_list(item.conflist)
    args_text = "" if item.args == "{}" else f" with {item.args}"
    return f"{item.ifname} to {item.node} by {what.name} ({', '.join(one['type'] for one in what.plugins)}){args_text}"


def attachment_lines(item: Attachment) -> Iterator[str]:
    """An attachment, then each plugin of its list as JSON."""
    what = parse_config_list(item.conflist)
    yield f"{attachment_text(item)}, cniVersion {what.version}"
    yield from (f"  {json.dumps(plugin)}" for plugin in what.plugins)
