"""Attachments as text: the device, the node, the network with its plugins, and the capability arguments."""

from __future__ import annotations

import json
from collections.abc import Iterator

from labctl.cni.conflist import parse_config_list
from labctl.core.resources import Attachment


def attachment_text(item: Attachment) -> str:
    """An attachment in one line: device, node, network, the plugins in order, the capability arguments."""
    config_list = parse_config_list(item.conflist)
    args_text = "" if item.args == "{}" else f" with {item.args}"
    types = ", ".join(plugin["type"] for plugin in config_list.plugins)
    return f"{item.ifname} to {item.node} by {config_list.name} ({types}){args_text}"


def attachment_lines(item: Attachment) -> Iterator[str]:
    """An attachment, then each plugin of its list as JSON."""
    config_list = parse_config_list(item.conflist)
    yield f"{attachment_text(item)}, cniVersion {config_list.version}"
    yield from (f"  {json.dumps(plugin, ensure_ascii=False)}" for plugin in config_list.plugins)
