"""A pod's sandbox: `pause FILE`, where FILE is what the namespace is bound to, started in the pod's network namespace.

Two processes, as a container runtime has them. `pause` is the first process of a process namespace of its own:
it does nothing, and the kernel ends everything in that namespace when it ends. Its parent, the shim, waits for
it, and then takes the name of the network namespace away: with the last process in it that goes, and the pod's
address with it. The shim itself ends its pause when it is told to end, and leaves the name alone.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from labctl.kernel.host.syscalls import CLONE_NEWPID, MNT_DETACH, UMOUNT_NOFOLLOW, libc, umount, unshare
from labctl.kernel.programs.daemon import called, leave, ready

PR_SET_PDEATHSIG = 1


def main(words: Sequence[str]) -> int:
    """Run until the sandbox has ended, then remove the name that its network namespace is bound to."""
    (path,) = words
    leave("sandbox-shim")
    net = os.stat("/proc/self/ns/net")
    try:
        unshare(CLONE_NEWPID)
    except OSError as error:
        print(f"no process namespace of its own: {error}", flush=True)
        return 1
    told = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, told)
    pid = os.fork()
    if pid == 0:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        pause()
    number = signal.sigwait(told)
    while number == signal.SIGCHLD and os.waitpid(pid, os.WNOHANG)[0] == 0:
        number = signal.sigwait(told)
    if number != signal.SIGCHLD:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return 0
    try:
        bound = os.lstat(path)
        if (bound.st_dev, bound.st_ino) == (net.st_dev, net.st_ino):  # nobody else's by now
            umount(path, MNT_DETACH | UMOUNT_NOFOLLOW)
            os.unlink(path)
    except OSError:
        pass  # it is gone already
    return 0


def pause() -> None:
    """Wait for the end, and bury what dies meanwhile: the first process of a namespace inherits its orphans."""
    called("pause")
    told = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
    ready()
    while signal.sigwait(told) == signal.SIGCHLD:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
    os._exit(0)
