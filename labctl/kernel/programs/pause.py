"""A pod's sandbox: `pause FILE`, started in the pod's network namespace, which is bound to FILE.

It has two processes, like the sandbox of a container runtime. `pause` is the first process of a separate process
namespace. It does nothing; when it ends, the kernel ends every process in that namespace. Its parent, the shim, waits
for it, and then removes the name of the network namespace. The network namespace ends with the last process in it, and
the pod's address is gone. If the shim itself gets a signal to end, it ends its pause and keeps the name.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from labctl.kernel.host.syscalls import CLONE_NEWPID, MNT_DETACH, UMOUNT_NOFOLLOW, libc, umount, unshare
from labctl.kernel.programs.daemon import daemonize, report_ready, set_process_name

PR_SET_PDEATHSIG = 1


def main(args: Sequence[str]) -> int:
    """Run until the sandbox has ended, then remove the file that its network namespace is bound to."""
    (path,) = args
    daemonize("sandbox-shim")
    net = os.stat("/proc/self/ns/net")
    try:
        unshare(CLONE_NEWPID)
    except OSError as error:
        print(f"cannot create a process namespace: {error}", flush=True)
        return 1
    signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    pid = os.fork()
    if pid == 0:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        reap_children()
    number = signal.sigwait(signals)
    while number == signal.SIGCHLD and os.waitpid(pid, os.WNOHANG)[0] == 0:
        number = signal.sigwait(signals)
    if number != signal.SIGCHLD:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return 0
    try:
        bound = os.lstat(path)
        if (bound.st_dev, bound.st_ino) == (net.st_dev, net.st_ino):  # it is still this pod's namespace
            umount(path, MNT_DETACH | UMOUNT_NOFOLLOW)
            os.unlink(path)
    except OSError:
        pass  # it is gone already
    return 0


def reap_children() -> None:
    """Wait for a signal to end. Meanwhile reap children: the first process of a namespace adopts its orphans."""
    set_process_name("pause")
    signals = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
    report_ready()
    while signal.sigwait(signals) == signal.SIGCHLD:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
    os._exit(0)
