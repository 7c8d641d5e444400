"""Run labs and tests under Debian's stock kernels, each in a temporary virtual machine.

Without arguments: one kernel, the default labs and those that cannot be built on this machine's own kernel
(`up --check`), and the tests that depend on the kernel. Arguments after `--` go to pytest, and then only those tests
run.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import machine
import orders

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = Path(os.environ.get("LABCTL_VM_CACHE", "/var/cache/labctl/vm"))
TOOLS = {  # each with its Debian package
    "qemu-system-x86_64": "qemu-system-x86", "mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs", "cpio": "cpio",
    "modprobe": "kmod", "xz": "xz-utils", "zstd": "zstd",
}  # fmt: skip
CANNOT = 4
FREE_MIB = {"memory": machine.MEMORY + 512, "disk": 4096}  # MiB that must be free; the disk only to build a system


@dataclass(frozen=True)
class System:
    """A kernel to test under: its name here, and the Debian release that has it."""

    kernel: str
    release: str
    debian: str


SYSTEMS = (
    System("6.1", "bookworm", "Debian 12"),
    System("6.12", "trixie", "Debian 13"),
    System("newest", "forky", "Debian's testing"),
)


class Cannot(Exception):
    """This machine cannot do it; the message is the reason."""


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"
    if options.list:
        print(*_listing(), sep="\n")
        return 0
    try:
        systems = _chosen(options)
        _tools()
        for system in systems if options.build else ():
            print(image(system))
        if options.build:
            return 0
        labs = [*orders.LABS, *(name for name in orders.unbuildable_here() if name not in orders.LABS)]
        return max([_one(system, options, labs) for system in systems])
    except Cannot as error:
        print(f"scripts/vm-test: {error}", file=sys.stderr)
        return CANNOT


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    epilog = "Exit code: 0 good, 1 something failed, 2 usage, 4 this machine cannot run virtual machines."
    parser = argparse.ArgumentParser(prog="scripts/vm-test", description=__doc__, epilog=epilog)
    names = [name for system in SYSTEMS for name in (system.kernel, system.release)]
    add = parser.add_argument
    which = f"the kernel (default 6.1); may be given several times: {', '.join(names)}"
    add("--kernel", action="append", choices=names, metavar="KERNEL", help=which)
    add("--all", action="store_true", help="all tests; on all kernels unless --kernel is given")
    add("--labs", action="store_true", help="every built-in scenario with its checks and laws, and nothing else")
    lacking = "remove the modules of legacy iptables; run the labs, their laws, and the tests of nft"
    add("--no-legacy", action="store_true", help=lacking)
    add("--list", action="store_true", help="the kernels, and whether their systems are built")
    add("--build", action="store_true", help="only build the system, about two minutes")
    add("-v", "--verbose", action="store_true", help="show the whole output of the console")
    add("tests", nargs="*", help="arguments for pytest, after --")
    return parser.parse_args(arguments)


def _chosen(options: argparse.Namespace) -> list[System]:
    named = options.kernel or ([system.kernel for system in SYSTEMS] if options.all else ["6.1"])
    return [system for system in SYSTEMS if system.kernel in named or system.release in named]


def _listing() -> Iterator[str]:
    for system in SYSTEMS:
        folder = _folder(system)
        state = f"linux {(folder / 'kernel').read_text().strip()} is ready" if folder.exists() else "not built yet"
        yield f"{system.kernel:8}{system.debian} ({system.release}): {state}"


def _tools() -> None:
    """Install missing tools if possible. Raises Cannot if a tool or memory is missing."""
    if os.uname().machine != "x86_64":
        raise Cannot(f"the virtual machines are x86-64, and this is {os.uname().machine}")
    if (free := _free_memory()) < FREE_MIB["memory"]:
        raise Cannot(f"a virtual machine needs {FREE_MIB['memory']} MiB of free memory, and {free} are free")
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"vm: installing {', '.join(missing)}", file=sys.stderr)
        apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120"]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update"], ["install", "--no-install-recommends", *missing]):
            subprocess.run(
                [*apt, *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
            )
    left = [tool for tool in TOOLS if shutil.which(tool) is None]
    if left:
        raise Cannot(f"{', '.join(left)} not installed: install {' '.join(TOOLS[tool] for tool in left)}")


def _free_memory() -> int:
    """The available memory in MiB."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("MemAvailable:"))


def _folder(system: System) -> Path:
    """The folder of a system's image; it depends on the files that the image is made from."""
    project = (ROOT / "pyproject.toml").read_text()
    needs = project[project.index("dependencies = [") : project.index("[project.scripts]")]
    made_from = [needs, *((HERE / name).read_text() for name in ("image", "debian", "initramfs", "wheels"))]
    return CACHE / f"{system.release}-{hashlib.sha256(repr(made_from).encode()).hexdigest()[:12]}"


def image(system: System) -> Path:
    """A system's image. Builds it if it does not exist, and deletes older ones of the same release."""
    folder = _folder(system)
    if folder.exists():
        return folder
    if os.geteuid() != 0:
        raise Cannot(f"building {folder} needs root: run 'sudo scripts/vm-test'")
    with _lock():
        if not folder.exists():
            for old in CACHE.glob(f"{system.release}-*"):
                shutil.rmtree(old)
            if (free := shutil.disk_usage(CACHE).free // 2**20) < FREE_MIB["disk"]:
                raise Cannot(f"building {folder} needs {FREE_MIB['disk']} MiB of disk, and {free} are free")
            done = subprocess.run([HERE / "image", system.release, folder], stdin=subprocess.DEVNULL, check=False)
            if done.returncode:
                raise Cannot(f"the system of {system.debian} could not be built: see above; is the machine online?")
    return folder


@contextmanager
def _lock() -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    fd = os.open(CACHE, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _one(system: System, options: argparse.Namespace, labs: Sequence[str]) -> int:
    """Boot one kernel, run its order, and print the report. Returns 0 if all was good."""
    try:
        folder = image(system)
    except Cannot as error:
        if not options.all or options.kernel:
            raise
        print(f"vm {system.kernel}: skipped: {error}")
        return 0
    if options.tests:
        order = [orders.test_step(options.tests)]
    elif options.labs:
        order = orders.every_lab()
    elif options.no_legacy:
        order = orders.no_legacy(labs)
    else:
        order = orders.everything(labs) if options.all else orders.ordinary(ROOT, labs)
    without = machine.LEGACY if options.no_legacy else ()
    with tempfile.TemporaryDirectory(prefix="labctl-vm.") as folder_name:
        disk = Path(folder_name, "tree.tar")
        machine.write_disk(disk, ROOT, order, without, _compiled())
        limit = 4 * 3600.0 if options.all or options.tests else 1800.0
        listener = _listener(system, options.verbose or bool(options.tests))
        run = machine.boot(folder, disk, limit, listener)
    print(*report(system, run, len(order)), sep="\n", flush=True)
    return 0 if run.good else 1


def _compiled() -> Path:
    """Compile this tree. A guest with the same Python then need not do it, which would be ten times slower."""
    prefix = sys.pycache_prefix or ""
    subprocess.run([sys.executable, "-X", f"pycache_prefix={prefix}", "-m", "compileall", "-q", ROOT / "labctl"],
                   stdout=subprocess.DEVNULL, check=False)  # fmt: skip
    return Path(f"{prefix}{ROOT}") if prefix else Path("/nonexistent")


def _listener(system: System, verbose: bool):  # type: ignore[no-untyped-def]
    """What to print while the machine runs: the end of each step, and a step's output if it failed or if `verbose`."""

    def print_line(run: machine.Run, line: str) -> None:
        if line.startswith("@vm up "):
            print(f"vm {system.kernel}: linux {run.kernel} is up", flush=True)
        elif line.startswith("@vm end "):
            print(*step_lines(system, run.steps[-1], verbose), sep="\n", flush=True)
        elif verbose and not line.startswith("@vm "):
            print(line, flush=True)

    return print_line


def step_lines(system: System, step: machine.Done, shown: bool) -> Iterator[str]:
    """The result of a step in words, preceded by its output if it failed and that is not shown yet."""
    if step.code != 0 and not shown:
        yield from step.output
    counts = next((line[7:] for line in reversed(step.output) if line.startswith("tests: ")), "")
    how = "good" if step.code == 0 else f"FAILED with exit code {step.code}"
    yield f"vm {system.kernel}: {step.name}: {how}{f' ({counts})' if counts else ''}, {step.seconds:.0f} s"


def report(system: System, run: machine.Run, steps: int) -> Iterator[str]:
    """The last lines of the report on one kernel."""
    name = f"vm {system.kernel}"
    for line in run.complaints:
        yield f"{name}: the kernel reported: {line}"
    if not run.kernel:
        yield f"{name}: FAILED: the machine did not come up, twice"
        return
    done = sum(step.code == 0 for step in run.steps)
    if run.code is None:
        last = run.steps[-1] if run.steps else machine.Done("its start")
        yield from last.output[-40:]
        yield f"{name}: FAILED: the machine ended in {last.name!r}, after {run.seconds:.0f} s"
    verdict = "all good" if run.good else "FAILED"
    yield f"{name}: {verdict}: {done} of {steps} steps on linux {run.kernel} ({run.accelerator}), {run.seconds:.0f} s"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
