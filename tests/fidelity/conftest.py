"""labctl's own CNI plugin as an executable in a folder, as a runtime finds it on CNI_PATH."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


@pytest.fixture
def own_plugin(tmp_path: Path) -> Path:
    """A folder with labctl-cni in it, which runs this source tree."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    root = Path(__file__).resolve().parents[2]
    file = folder / "labctl-cni"
    words = (
        f"#!{sys.executable}", "import sys", f"sys.path.insert(0, {str(root)!r})",
        f"sys.pycache_prefix = {sys.pycache_prefix!r}", "from labctl.cni_plugin.main import main", "sys.exit(main())",
    )  # fmt: skip
    file.write_text("\n".join(words))
    file.chmod(0o755)
    return folder
