"""scripts/provision.sh --remove removes what it installed, and nothing else."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

import labctl

ROOT = Path(labctl.__file__).resolve().parent.parent

pytestmark = [
    pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="not a source tree"),
    pytest.mark.skipif(int(version("setuptools").split(".")[0]) < 77, reason="needs setuptools 77 or newer"),
]


def test_what_was_installed_is_removed_again_and_nothing_else(tmp_path: Path) -> None:
    """In a separate /usr/local: a simulated installation, a link of labctl, and files of another program."""
    script = f"""
        mount -t tmpfs none /usr/local
        mkdir -p /usr/local/bin /usr/local/share/man/man1 {tmp_path}/labctl/bin {tmp_path}/other
        touch {tmp_path}/labctl/pyvenv.cfg {tmp_path}/labctl/.labctl-run {tmp_path}/other/file
        ln -s {tmp_path}/labctl/bin/labctl /usr/local/bin/labctl
        ln -s {tmp_path}/other/labctl.1 /usr/local/share/man/man1/labctl.1
        made=/usr/local/share
        mkdir -p $made/fish/vendor_completions.d $made/zsh && touch $made/zsh/theirs
        printf '%s\\n' $made/fish $made/fish/vendor_completions.d '' $made/zsh >{tmp_path}/labctl/.labctl
        LABCTL_PREFIX={tmp_path}/other {ROOT}/scripts/provision.sh --remove && exit 7
        LABCTL_PREFIX={tmp_path}/labctl {ROOT}/scripts/provision.sh --remove
        LABCTL_PREFIX={tmp_path}/labctl {ROOT}/scripts/provision.sh --remove
        test ! -L /usr/local/bin/labctl
        test -L /usr/local/share/man/man1/labctl.1
        test ! -e $made/fish && test -e $made/zsh/theirs
    """
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "bash", "-ec", script], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert done.stderr.count("has other content, and is not removed") == 1
    assert done.stderr.count("is removed; the packages") == 1
    assert (tmp_path / "other/file").exists()
    assert not (tmp_path / "labctl").exists()


def test_what_was_installed_only_half_is_removed_as_well(tmp_path: Path) -> None:
    """Where pip finds nothing, there is an environment without labctl."""
    script = f"""
        mount -t tmpfs none /usr/local
        export LABCTL_PREFIX={tmp_path}/labctl PIP_NO_INDEX=1 PIP_FIND_LINKS= PIP_CONFIG_FILE=/dev/null
        {ROOT}/scripts/provision.sh && exit 7
        test -x {tmp_path}/labctl/bin/python
        {ROOT}/scripts/provision.sh --remove
    """
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "bash", "-ec", script], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert "pip could not install what labctl needs" in done.stderr
    assert not (tmp_path / "labctl").exists()
