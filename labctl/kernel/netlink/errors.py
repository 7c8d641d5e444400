"""From the errno of a refused change to an error sentence and a hint how to fix it."""

from __future__ import annotations

import errno
from typing import NoReturn

from labctl.core.resources import Link, Neighbour, Resource, Route, Sysctl
from labctl.errors import KernelError
from labctl.kernel.netlink.rtnetlink import Refusal


def fail(item: Resource, cause: str, hint: str = "", number: int = 0, verb: str = "add") -> NoReturn:
    """Raise a KernelError with the verb, the object, its namespace and the cause."""
    from labctl.render.resources import resource_line

    raise KernelError(f"cannot {verb} {resource_line(item)} in {item.ns}: {cause}", hint, number)


def fail_refused(refusal: Refusal) -> NoReturn:
    """Raise a KernelError for a netlink message that the kernel refused; its tag is (verb, object)."""
    verb, item = refusal.tag
    fail(item, str(refusal), hint_for(item, refusal.errno), refusal.errno, verb)


def fail_sysctl(item: Sysctl, error: OSError) -> NoReturn:
    """Raise a KernelError for a sysctl that could not be written."""
    hint = ""
    if error.errno == errno.ENOENT and "bridge" in item.name:
        hint = "load the module first: modprobe br_netfilter"
    elif error.errno == errno.ENOENT:
        hint = "this kernel has no such sysctl, or the device does not exist"
    fail(item, error.strerror or str(error), hint, error.errno or 0, "set")


def hint_for(item: Resource, number: int) -> str:
    """The hint for an errno; "" if there is none."""
    if isinstance(item, Route) and number == errno.ENETUNREACH:
        return f"{item.ns} has no address in the network of {item.via}; add `onlink`, or first a route to {item.via}"
    if isinstance(item, Link) and number == errno.EOPNOTSUPP:
        return f"this kernel has no {item.kind} devices; try: modprobe {item.kind}"
    if isinstance(item, Link) and number == errno.EXFULL:
        return "a Linux bridge can have at most 1023 ports"
    if isinstance(item, Link) and number == errno.EEXIST:
        return "a device of this name exists already in the namespace"
    if isinstance(item, Neighbour) and number == errno.ENOBUFS:
        from labctl.core.neighbour_tables import FullTable

        return (
            f"the machine's neighbour table, which all labs share, is full: {FullTable(item.ip.version).raise_command}"
        )
    return "run it as root: sudo labctl ..." if number == errno.EPERM else ""
