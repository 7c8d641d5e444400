"""The image of scripts/image in a container: what it can do, and which capabilities it needs.

The tests are in a sandbox without a network, where no image can be built: LABCTL_IMAGE=FOLDER, of scripts/test, has it.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import image
from tests.support.image import CAPABILITIES, NAMES, STEPS

ARCHIVE = Path(os.environ.get("LABCTL_IMAGE", "/nonexistent")) / "image.tar"
pytestmark = pytest.mark.skipif(
    not ARCHIVE.exists(), reason="takes minutes: LABCTL_IMAGE=FOLDER ./scripts/test builds the image"
)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layout")
    subprocess.run(["tar", "-C", folder, "-xf", ARCHIVE], check=True)
    return folder


@pytest.fixture(scope="module")
def root(layout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    subprocess.run(["tar", "-C", folder, "-xzf", image.first_manifest(layout)[2]], check=True)
    return folder


def steps(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_podman_and_containerd_find_its_name(layout: Path) -> None:
    entry, config, layer = image.first_manifest(layout)

    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "localhost/labctl:latest"
    assert entry["annotations"]["io.containerd.image.name"] == "localhost/labctl:latest"
    assert config["config"]["Entrypoint"] == ["tini", "--", "labctl-container"]
    assert layer.stat().st_size < 150_000_000


def test_a_lab_in_a_container(root: Path) -> None:
    done = image.run(root, "labctl up kubenet --check && labctl trace a c && labctl exercise list && labctl down")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "kubenet: 8 checks, 8 passed" in done.stdout
    assert "OK  answered" in done.stdout
    assert "first-cable" in done.stdout
    assert done.stderr == ""


def test_the_capabilities_are_enough(root: Path) -> None:
    assert steps(image.run(root, STEPS)) == [f"good {name}" for name in NAMES]


def test_they_are_enough_in_a_user_namespace(root: Path) -> None:
    """As with `hostUsers: false`: what is allowed there is allowed for the container only."""
    done = image.run(root, STEPS, user_namespace=True)

    assert steps(done) == [f"good {name}" for name in NAMES]


@pytest.mark.parametrize("missing", CAPABILITIES)
def test_each_capability_is_needed(root: Path, missing: str) -> None:
    told = steps(image.run(root, STEPS, CAPABILITIES.keys() - {missing}))

    (first, *_) = (line.removeprefix("bad ") for line in told if line.startswith("bad "))
    assert first == CAPABILITIES[missing]


def test_without_mounts_it_says_so(root: Path) -> None:
    done = image.run(root, "labctl --version", CAPABILITIES.keys() - {"SYS_ADMIN"})

    assert "lacks CAP_SYS_ADMIN" in done.stderr


def test_it_waits_for_shells(root: Path) -> None:
    """Without a command and without a terminal, the container stays."""
    done = image.run(root, "timeout 2 labctl-container")

    assert done.returncode == 124


def test_settings_outside_of_the_network_stay_read_only(root: Path) -> None:
    done = image.run(root, "echo 1 >/proc/sys/net/ipv4/ip_forward && echo x >/proc/sys/kernel/domainname")

    assert done.returncode != 0
    assert "domainname" in done.stderr


def test_it_does_not_name_the_mirror_that_it_was_made_from(root: Path) -> None:
    lines = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)"], capture_output=True, text=True
    ).stdout.split()
    files = [path for path in (root / "etc/apt").rglob("*") if path.is_file()]

    assert lines
    assert not [path for path in files for line in lines if line in path.read_text()]


def test_podman_runs_it(tmp_path: Path) -> None:
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed")
    # crun refuses version 1 of cgroups beside version 2
    alone = ["unshare", "-m", "--propagation", "private", "sh", "-c", 'umount /sys/fs/cgroup/unified; exec "$@"', "sh"]
    folders = ["--root", tmp_path / "storage", "--runroot", tmp_path / "run"]
    podman = [*alone, "podman", *folders, "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    loaded = subprocess.run([*podman, "load", "-i", ARCHIVE], capture_output=True, text=True, timeout=200)
    assert "localhost/labctl:latest" in loaded.stdout, loaded.stderr
    options = ["--network", "none", "--cgroups", "disabled", "--ulimit", f"nofile={soft}:{hard}", "--ulimit",
               "nproc=2000:2000", "--cap-drop", "all", *(f"--cap-add={name}" for name in CAPABILITIES)]  # fmt: skip
    done = subprocess.run(
        [*podman, "run", "--rm", *options, "localhost/labctl:latest", "labctl", "up", "kubenet", "--check"],
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "kubenet: 8 checks, 8 passed" in done.stdout
