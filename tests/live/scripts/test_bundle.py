"""The bundle of scripts/bundle in a fresh system without a network: install, a lab, install again, remove.

LABCTL_IMAGE=FOLDER, of scripts/test, has the bundle and the system: neither can be made without a network.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.image import PATH

FOLDER = Path(os.environ.get("LABCTL_IMAGE", "/nonexistent"))
ARCHIVES = (FOLDER / "system.tar", FOLDER / "bundle.tar")
pytestmark = pytest.mark.skipif(
    not all(archive.exists() for archive in ARCHIVES),
    reason="takes minutes: LABCTL_IMAGE=FOLDER ./scripts/test builds the bundle",
)

SYSTEM = r"""
cd "$1"
shift
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
exec chroot . "$@"
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("system")
    for archive, target in zip(ARCHIVES, (folder, folder / "opt"), strict=True):
        subprocess.run(["tar", "-C", target, "-xf", archive], check=True)
    return folder


def run(system: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """In a new network namespace, whose loopback device is down: not even a proxy of this machine can be reached."""
    return subprocess.run(
        ["unshare", "-nmp", "--fork", "--kill-child", "--propagation", "private", "bash", "-ec", SYSTEM, "system",
         str(system), *command],
        capture_output=True, text=True, timeout=300, env={"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/root"},
    )  # fmt: skip


def test_a_wrong_system_is_refused_before_anything_is_installed(system: Path) -> None:
    release = system / "usr/lib/os-release"
    text = release.read_text()
    try:
        release.write_text("VERSION_CODENAME=other\n")
        done = run(system, "/opt/labctl-bundle/install")
    finally:
        release.write_text(text)

    assert done.returncode == 4
    assert "this system is other, and the bundle is for " in done.stderr
    assert not (system / "opt/labctl").exists()


def test_it_installs_all_that_a_lab_needs(system: Path) -> None:
    assert run(system, "sh", "-c", "command -v python3 ip iptables ping tcpdump").stdout == ""

    installed = run(system, "/opt/labctl-bundle/install")
    assert installed.returncode == 0, installed.stderr
    lab = run(system, "sh", "-c", "labctl up kubenet --check && labctl down && labctl explain masquerade")

    assert lab.returncode == 0, lab.stdout + lab.stderr
    assert "kubenet: 8 checks, 8 passed" in lab.stdout
    assert (system / "usr/local/share/man/man1/labctl.1").is_symlink()


def test_a_second_run_replaces_it_and_remove_removes_it(system: Path) -> None:
    stale = system / "opt/labctl/stale"
    stale.touch()
    foreign = system / "usr/local/share/man/man1/other.1"
    foreign.touch()
    again = run(system, "/opt/labctl-bundle/install")
    assert again.returncode == 0, again.stderr
    assert not stale.exists()
    assert run(system, "labctl", "--version").returncode == 0

    removed = run(system, "/opt/labctl-bundle/install", "--remove")
    assert removed.returncode == 0, removed.stderr
    assert not (system / "opt/labctl").exists()
    assert not [path for path in (system / "usr/local").rglob("*") if "labctl" in path.name]
    assert foreign.exists()


def test_a_folder_with_other_content_is_refused(system: Path) -> None:
    (system / "opt/labctl").mkdir()
    (system / "opt/labctl/file").touch()
    done = run(system, "/opt/labctl-bundle/install")

    assert done.returncode == 4
    assert "/opt/labctl has other content" in done.stderr
    assert (system / "opt/labctl/file").exists()
