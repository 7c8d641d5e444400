"""The accounting objects that rules count in: `-m nfacct --nfacct-name NAME`, as nfacct(8) makes them.

The kernel refuses a rule with a name that does not exist, and removes the objects with their namespace. kube-proxy
makes such objects (since 1.31), and its rules show only the names; so labctl makes those that its rules name.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from labctl.errors import KernelError, MissingError
from labctl.kernel.netlink.encoding import CREATE
from labctl.kernel.netlink.nfnetlink import NfnetlinkSocket, nfgenmsg
from labctl.kernel.netlink.rtnetlink import encode_attribute

_NFNL_SUBSYS_ACCT = 7
_NEW = _NFNL_SUBSYS_ACCT << 8
_NAME = 1


def create(ns: str, names: Iterable[str]) -> None:
    """Make the objects that do not exist yet in the namespace of this thread. Raises KernelError, MissingError."""
    with NfnetlinkSocket() as sock:
        for name in names:
            body = nfgenmsg(0) + encode_attribute(_NAME, name.encode() + b"\0")
            code = sock.request(_NEW, body, CREATE)
            if code in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT):
                raise MissingError(f"this kernel lacks -m nfacct, needed in {ns}", "modprobe nfnetlink_acct xt_nfacct")
            if code not in (0, errno.EBUSY, errno.EEXIST):
                raise KernelError(f"cannot add nfacct object {name} in {ns}: {os.strerror(code)}", errno=code)
