"""labctl's own CNI plugin as an executable in a folder, as a runtime finds it on CNI_PATH."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import forked


@pytest.fixture
def own_plugin(tmp_path: Path) -> Path:
    """A folder with labctl-cni in it, which is this one, forked."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "labctl-cni").symlink_to(forked.cni_plugin_program())
    return folder
