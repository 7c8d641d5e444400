"""The numbers of rtnetlink messages, the types of their values, and pyroute2's classes for the messages."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Sequence
from functools import cache
from typing import Any

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
RTM_GETNEIGHTBL = 66
RTM_GETNETCONF = 82
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
REPLACE, EXCL, CREATE = 0x100, 0x200, 0x400

Attrs = Sequence[tuple[str, Any]]


class U32(int):
    """A 32-bit number."""


class Mac(str):
    """A link-layer address."""


@cache
def message_class(name: str) -> Any:
    """One of pyroute2's rtnetlink message classes, without importing all of pyroute2.

    `import pyroute2` loads 370 modules in 150 ms; these five classes need 28 of them. The package's own __init__ is
    skipped during this import only; a later `import pyroute2` finds it as usual.
    """
    if "pyroute2" in sys.modules:
        return getattr(importlib.import_module(f"pyroute2.netlink.rtnl.{name}"), name)
    spec = importlib.util.find_spec("pyroute2")
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError("pyroute2 is not installed")
    stub = types.ModuleType("pyroute2")
    stub.__path__ = list(spec.submodule_search_locations)
    sys.modules["pyroute2"] = stub
    try:
        return getattr(importlib.import_module(f"pyroute2.netlink.rtnl.{name}"), name)
    finally:
        del sys.modules["pyroute2"]
