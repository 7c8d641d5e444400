"""Run a user's command inside a node: `exec` and `shell`.

The command is a child process, and labctl returns its exit code: 127 if it is not found, 126 if it is not executable,
128 + the number of the signal that ended it. The command controls the terminal: ^C and ^\\ go to the command and not to
labctl, ^Z stops both, SIGTERM and SIGHUP are forwarded. `labctl exec` loads only this module and its top-level imports,
so these are few and fast.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn

from labctl.kernel.host import definition_record, paths
from labctl.kernel.host.syscalls import CLONE_NEWNS, MS_REC, MS_SLAVE, mount, unshare
from labctl.kernel.namespaces.entry import enter_netns, open_netns
from labctl.kernel.node_exec import mounts

TERMINAL_SIGNALS = (signal.SIGINT, signal.SIGQUIT)  # the terminal sends them to the command as well
FORWARDED_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
CANNOT_ENTER = 70  # the exit code if the node cannot be entered


def run(lab: str, node: str, command: list[str]) -> int:
    """Run a command in a node and return its exit code.

    Raises UsageError if there is no such node, KernelError if it cannot be entered.
    """
    return _run(lab, node, command, _environment(lab, node))


def shell(lab: str, node: str) -> int:
    """Run the user's bash (or sh) in a node, with a prompt that shows the lab and the node; returns its exit code.

    Raises as `run` does.
    """
    environment = _environment(lab, node)
    bash = _bash(environment["PATH"])
    if bash is None:
        return _run(lab, node, ["/bin/sh"], {**environment, "PS1": f"{lab}/{node}:# ", "ENV": ""})
    startup = os.memfd_create("labctl-bashrc", 0)
    try:
        os.write(startup, _startup(lab, node, environment["PATH"], startup).encode())
        return _run(lab, node, [bash, "--rcfile", f"/proc/self/fd/{startup}"], environment)
    finally:
        os.close(startup)


def become(lab: str, node: str, command: list[str]) -> tuple[int, str]:
    """Continue this process, which must have only one thread, as a command in a node.

    Returns only if the command cannot be run: the exit code for that, and why. Raises as `run` does.
    """
    environment, fd, texts = _environment(lab, node), _open(lab, node), mounts.files(lab, names(lab, node))
    try:
        _enter(fd, texts)
    except OSError as error:
        raise _entry_error(lab, node, error) from None
    restore_signal_defaults()
    return exec_command(command, environment)


def names(lab: str, node: str) -> list[tuple[str, str]]:
    """The names of the lab, each with its address: from the lab's record, or, if that is lost, from the kernel.

    A pod may leave out its own Kubernetes namespace, as with cluster DNS. So in a pod of `shop`, `web` is `web.shop`,
    and not the Service `web` of the namespace `default`.
    """
    record = definition_record.load(lab) or {}
    machines = record.get("machines")
    if machines is None:
        return _observed_addresses(lab)
    found = [(machine["name"], machine["addresses"][0]) for machine in machines if machine["addresses"]]
    used = {name for name, _ in found}
    services = [
        (name, one["addresses"][0]) for one in record.get("services", ()) if one["addresses"] for name in one["names"]
    ]
    services += [(one["name"], one["address"]) for one in record.get("dns", ())]
    own = next((machine.get("namespace") for machine in machines if machine["name"] == node), None) or "default"
    if own != "default":
        full = {name for name, _ in services}
        services = [one for one in services if f"{one[0]}.default.svc" not in full]
    suffix = f".{own}"
    short = [(name.removesuffix(suffix), address) for name, address in services if name.endswith(suffix)]
    return found + [(name, address) for name, address in dict.fromkeys(short + services) if name not in used]


def _observed_addresses(lab: str) -> list[tuple[str, str]]:
    """One address for each node: one of eth0 if it has any, else the first one that is not a loopback address."""
    from labctl.core.resources import Address
    from labctl.kernel.lab_kernel import KernelLab

    with KernelLab(lab) as kernel:
        found = [item for item in kernel.observe() if isinstance(item, Address)]
    usable = [item for item in found if not (item.addr.ip.is_loopback or item.addr.ip.is_link_local)]
    usable.sort(key=lambda item: (item.ns, item.at.dev != "eth0", item.addr.version))
    first: dict[str, str] = {}
    for item in usable:
        first.setdefault(item.ns, str(item.addr.ip))
    return list(first.items())


def _environment(lab: str, node: str) -> dict[str, str]:
    path = os.environ.get("PATH") or os.defpath
    tools = f"{paths.state_dir()}/{lab}/bin"
    if not os.path.isdir(tools) or os.path.islink(os.path.dirname(tools)):
        tools = _tools(lab)
    folders = [tools, path] if tools else [path]
    return {**os.environ, "PATH": ":".join(folders), "LABCTL_LAB": lab, "LABCTL_NODE": node}


def _tools(lab: str) -> str:
    """Create the folder in which `iptables` is the variant that wrote the lab's rules; "" if that is not possible."""
    from labctl.errors import LabError
    from labctl.kernel.firewall.backend import backend_of
    from labctl.kernel.firewall.commands import make_tool_directory
    from labctl.kernel.host.state_files import make_folder

    try:
        return str(make_tool_directory(make_folder(lab, "bin"), backend_of(lab)))
    except (OSError, LabError) as error:
        print(f"labctl: `iptables` is the machine's default variant here: {error}", file=sys.stderr)
        return ""


def _bash(path: str) -> str | None:
    wanted = os.environ.get("SHELL", "")
    candidates = [f"{folder}/bash" for folder in path.split(":") if folder]
    if os.path.basename(wanted) == "bash":
        candidates.insert(0, wanted)
    return next((name for name in candidates if os.access(name, os.X_OK) and os.path.isfile(name)), None)


def _startup(lab: str, node: str, path: str, fd: int) -> str:
    """The bash startup file: first the user's own, then labctl's PATH and prompt."""
    quoted_path = "'" + path.replace("'", "'\\''") + "'"
    prompt = f"PS1='{lab}/{node}:\\w\\$ '"
    return f"[ -f ~/.bashrc ] && . ~/.bashrc\nPATH={quoted_path}\nunset PROMPT_COMMAND\n{prompt}\nexec {fd}<&-\n"


def _run(lab: str, node: str, command: list[str], environment: dict[str, str]) -> int:
    fd = _open(lab, node)
    texts = mounts.files(lab, names(lab, node))
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    error_pipe, error_fd = os.pipe()
    sigchld_handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # with SIG_IGN the exit status of a child is lost
    old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, *TERMINAL_SIGNALS, *FORWARDED_SIGNALS})
    try:
        pid = os.fork()
    except (OSError, MemoryError) as error:
        from labctl.kernel.host.limits import start_error

        raise start_error(command[0], error) or error from None
    if pid == 0:
        _child(fd, texts, command, environment, error_fd, old_mask)
    os.close(fd)
    os.close(error_fd)
    # under nohup, both ignore SIGHUP
    forwarded = {number for number in FORWARDED_SIGNALS if signal.getsignal(number) != signal.SIG_IGN}
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in TERMINAL_SIGNALS}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TERMINAL_SIGNALS)  # a blocked signal would stay pending and come later
    try:
        with os.fdopen(error_pipe, "rb") as pipe:
            problem = pipe.read().decode(errors="replace")
        code = _wait(pid, forwarded)
    finally:
        for number, handler in {**handlers, signal.SIGCHLD: sigchld_handler}.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)
    if problem:
        code_text, _, text = problem.partition(" ")
        raise _entry_error(lab, node, OSError(int(code_text), text), "labctl doctor shows what is missing")
    return code


def _entry_error(lab: str, node: str, error: OSError, hint: str = "") -> Exception:
    """The error for a node that cannot be entered."""
    from labctl.errors import KernelError
    from labctl.kernel.host.limits import limit_error

    return limit_error(error) or KernelError(f"cannot enter {lab}/{node}: {error.args[-1]}", hint, error.errno or 0)


def _open(lab: str, node: str) -> int:
    try:
        return open_netns(f"{paths.netns_dir()}/{paths.netns_name(lab, node)}")
    except OSError as error:
        nodes = paths.labs().get(lab, ())
        if not isinstance(error, FileNotFoundError) or node in nodes:
            raise _entry_error(lab, node, error) from error
        from labctl.errors import UsageError

        hint = f"its nodes are {', '.join(nodes)}" if nodes else ""
        raise UsageError(f"lab {lab} has no node {node!r}", hint) from None


def _wait(pid: int, forwarded: set[signal.Signals]) -> int:
    """Wait for a child, forward the signals in `forwarded` to it, and return its exit code.

    These signals and SIGCHLD are blocked, so they stay pending until `sigwait`. A handler would miss a signal that
    comes just before a blocking call.
    """
    group = os.getpgrp()
    while True:
        ended, status = os.waitpid(pid, os.WUNTRACED | os.WNOHANG)
        if not ended:
            if (number := signal.sigwait({signal.SIGCHLD, *forwarded})) != signal.SIGCHLD:
                os.kill(pid, number)
            continue
        if not os.WIFSTOPPED(status):
            return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        child_group = os.getpgid(pid)
        if child_group != group:  # a shell with a separate process group suspends: stop together with it
            os.kill(os.getpid(), signal.SIGSTOP)
            os.killpg(child_group, signal.SIGCONT)


def _child(
    fd: int, texts: dict[str, str], command: list[str], environment: dict[str, str], error_fd: int, mask: set[Any]
) -> NoReturn:
    code = CANNOT_ENTER
    try:
        _enter(fd, texts)
        restore_signal_defaults()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code, _ = exec_command(command, environment)
    except Exception as error:
        number = error.errno or 0 if isinstance(error, OSError) else 0
        os.write(error_fd, f"{number} {error.args[-1] if error.args else error}".encode())
    finally:
        os._exit(code)


def _enter(fd: int, texts: dict[str, str]) -> None:
    """Enter the network namespace of `fd`, in a new mount namespace with the files of the node. Raises OSError."""
    unshare(CLONE_NEWNS)
    mount("none", "/", None, MS_REC | MS_SLAVE)
    enter_netns(fd)
    mounts.mount_node_files(texts)


def restore_signal_defaults() -> None:
    """Undo what Python does to signals at its start, so that the command starts with the usual defaults."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _command_exists(command: str, path: str) -> bool:
    """Whether there is a file for a command, even if it is not executable."""
    return "/" in command or any(os.path.isfile(os.path.join(folder, command)) for folder in path.split(":"))


def exec_command(command: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Become a command. Returns only if that fails: prints why, and returns the exit code for it (127, 126) and why."""
    try:
        os.execvpe(command[0], command, environment)
    except (FileNotFoundError, ValueError):  # ValueError: exec does not accept an empty command
        code, problem = 127, "command not found"
    except OSError as error:
        code, problem = 126, error.strerror or "cannot be run"
        if not _command_exists(command[0], environment["PATH"]):
            # EACCES may only mean a folder in PATH that is not readable
            code, problem = 127, "command not found"
    os.write(2, f"labctl: {command[0]}: {problem}\n".encode(errors="surrogateescape"))
    return code, problem
