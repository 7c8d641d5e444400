"""What a lab is made from is compiled once in a process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from labctl.scenario.definition import MAX_COMPILED, compile_definition, define

POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: default}
spec: {podSelector: {}, policyTypes: [Ingress]}
"""


def test_a_definition_is_compiled_once() -> None:
    """A process that runs several commands on a lab reads its record again, and need not compile it again."""
    first, other = (replace(define("kubenet", name), lab=None) for name in ("once", "too"))
    lab = compile_definition(first)

    assert compile_definition(replace(first)) is lab
    assert compile_definition(other).name == "too"
    assert compile_definition(replace(first, overrides=("mtu=1400",))) != lab
    assert compile_definition(replace(first, firewall="nft")).firewall == "nft"
    for number in range(MAX_COMPILED):
        compile_definition(replace(first, name=f"one-{number}"))
    assert compile_definition(first) == lab


def test_a_definition_without_its_files_is_compiled_again(tmp_path: Path) -> None:
    """What such a record names is read from the disk, where it can change."""
    (tmp_path / "lab.yaml").write_text(
        "name: files\nmodel: calico\nnodes: {node1: {pods: [a, b]}}\nmanifests: [objects.yaml]\n"
    )
    found = []
    for name in ("deny", "other"):
        (tmp_path / "objects.yaml").write_text(POLICY.replace("name: deny", f"name: {name}"))
        definition = define(str(tmp_path / "lab.yaml"))
        assert definition.files
        found.append(compile_definition(replace(definition, files=(), lab=None)).kubernetes)

    assert found[0] != found[1]
