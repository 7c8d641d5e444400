"""The files of a node that a command sees, and signals before the wait."""

from __future__ import annotations

import subprocess
import sys

from labctl.kernel.node_exec import mounts

DEADLINE = 20.0


def test_hosts_has_the_labs_names_and_the_machines_own() -> None:
    text = mounts.hosts("kubenet", [("a", "10.244.0.2"), ("node1", "10.224.0.4")], "laptop")

    assert "10.244.0.2 a\n10.224.0.4 node1\n127.0.1.1 laptop\n" in text
    assert text.splitlines()[1:3] == ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]


def test_a_node_goes_before_a_machine_of_the_same_name() -> None:
    assert "127.0.1.1" not in mounts.hosts("kubenet", [("vm", "10.225.0.4")], "vm")


def test_nsswitch_keeps_all_but_the_hosts_line() -> None:
    before = "passwd: files systemd\nhosts:  files resolve [!UNAVAIL=return] dns\n# hosts: old\nnetworks: files\n"

    assert mounts.nsswitch(before) == "passwd: files systemd\n# hosts: old\nnetworks: files\nhosts: files\n"


def test_a_signal_that_comes_before_the_waiting_is_not_lost() -> None:
    """As it is when it comes between a look at what has come and the call that blocks."""
    script = """
import os, signal
from labctl.kernel.node_exec import exec
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
pid = os.fork()
if pid == 0:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.execvp("sleep", ["sleep", "60"])
os.kill(os.getpid(), signal.SIGTERM)
print(exec._wait(pid, {signal.SIGTERM}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert done.stdout == "143\n"
