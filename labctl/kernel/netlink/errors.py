"""Why the kernel refused something, in a sentence, and what a person can do about it."""

from __future__ import annotations

import errno
from typing import NoReturn

from labctl.core.resources import Link, Resource, Route, Sysctl
from labctl.errors import KernelError
from labctl.kernel.netlink.rtnetlink import Refusal


def fail(item: Resource, cause: str, hint: str = "", number: int = 0, verb: str = "add") -> NoReturn:
    """Raise the KernelError: verb, object, place, cause."""
    from labctl.render.resources import line

    raise KernelError(f"cannot {verb} {line(item)} in {item.ns}: {cause}", hint, number)


def fail_refused(refusal: Refusal) -> NoReturn:
    """Raise for a netlink message that the kernel refused; its tag is (verb, object)."""
    verb, item = refusal.tag
    fail(item, str(refusal), refused(item, refusal.errno), refusal.errno, verb)


def fail_sysctl(item: Sysctl, error: OSError) -> NoReturn:
    """Raise for a setting that could not be written."""
    hint = ""
    if error.errno == errno.ENOENT and "bridge" in item.name:
        hint = "load the module first: modprobe br_netfilter"
    elif error.errno == errno.ENOENT:
        hint = "this kernel has no such setting, or the device is not there"
    fail(item, error.strerror or str(error), hint, error.errno or 0, "set")


def refused(item: Resource, number: int) -> str:
    """What a person can do about an errno, where that is known."""
    if isinstance(item, Route) and number == errno.ENETUNREACH:
        return f"no address in {item.ns} covers {item.via}; add `onlink` or a route to it first"
    if isinstance(item, Link) and number == errno.EOPNOTSUPP:
        return f"this kernel has no {item.kind} devices; try: modprobe {item.kind}"
    if isinstance(item, Link) and number == errno.EXFULL:
        return "a Linux bridge takes at most 1023 ports"
    if isinstance(item, Link) and number == errno.EEXIST:
        return "two devices of one name in one namespace"
    return "run it as root: sudo labctl ..." if number == errno.EPERM else ""
