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
    file.write_text(
        f"#!{sys.executable}\nimport sys\n\nsys.path.insert(0, {str(root)!r})\n"
        "from labctl.cni_entry import main\n\nsys.exit(main())\n"
    )
    file.chmod(0o755)
    return folder
