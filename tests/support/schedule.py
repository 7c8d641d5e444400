"""Which tests one worker runs together, and which files begin first, when several workers share the tests."""

from __future__ import annotations

from functools import cache

from tests.support.paths import ROOT

# The files that take longest, the longest first: what begins last must be short, because the whole run waits for it.
LONG = (
    "tests/live/tracing/test_diagnosis.py",
    "tests/fidelity/test_docker.py",
    "tests/fidelity/test_cni.py",
    "tests/fidelity/test_alike.py",
    "tests/fidelity/test_overlay.py",
    "tests/fidelity/test_podman.py",
    "tests/live/compare/test_compare.py",
    "tests/live/kernel/test_firewall_backend.py",
    "tests/live/lab/test_mutation.py",
    "tests/live/testing/test_pytest_plugin.py",
    "tests/live/kubernetes/test_service_flows.py",
    "tests/live/tracing/test_accuracy.py",
    "tests/live/training/test_exercises.py",
    "tests/live/training/test_lessons.py",
    "tests/live/checks/test_advice.py",
    "tests/live/tracing/test_advice.py",
    "tests/live/report/test_shell_script.py",
    "tests/live/cni_plugin/test_cni_plugin.py",
    "tests/live/lab/test_laws.py",
    "tests/live/cni_runtime/test_network_lists.py",
    "tests/live/test_docs.py",
    "tests/unit/scripts/test_new_model.py",
    "tests/unit/kubernetes/test_policy_engines.py",
    "tests/unit/tracing/test_diagnosis.py",
    "tests/unit/translation/test_catalogues.py",
)
WIDE = ('scope="module"', 'scope="class"', 'scope="session"')


def unit_of(nodeid: str) -> str:
    """What one worker runs alone: a test with root; its file, if the tests of the file share a fixture, or need no
    root, because they are short then; and all tests that start Docker, because a machine has one."""
    file = nodeid.partition("::")[0]
    if file.startswith("tests/fidelity/"):
        return "fidelity"
    return file if not file.startswith("tests/live/") or shares_fixtures(file) else nodeid


def rank(nodeid: str) -> int:
    """The place of a test in the order of beginning."""
    file = nodeid.partition("::")[0]
    return LONG.index(file) if file in LONG else len(LONG)


@cache
def shares_fixtures(file: str) -> bool:
    """Whether a fixture of the file, or of the files in its folder, lives longer than one test."""
    path = ROOT / file
    texts = [one.read_text() for one in (path, path.parent / "conftest.py") if one.exists()]
    return any(word in text for word in WIDE for text in texts)
