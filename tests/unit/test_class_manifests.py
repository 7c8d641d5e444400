"""docs/examples/kubernetes: the manifests of a class, rendered by kubectl and held against Kubernetes' own schemas."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.support.image import CAPABILITIES
from tests.support.paths import ROOT

FOLDER = ROOT / "docs/examples/kubernetes"
CLASSES = {"class-10": 10, "class-50": 50}
# the first version with the field appArmorProfile, and the newest whose schemas the package has
VERSIONS = ("1.30", "1.37")
BASELINE = {  # the capabilities that the Pod Security level `baseline` allows
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}  # fmt: skip

Object = dict[str, Any]


@cache
def kubectl() -> str | None:
    """Why kubectl cannot render these files; None if it can."""
    if shutil.which("kubectl") is None:
        return "kubectl is not installed: apt-get install kubernetes-client"
    text = subprocess.run(["kubectl", "version", "--client", "-o", "json"], capture_output=True, text=True).stdout
    version = json.loads(text)["clientVersion"]
    number = (int(version["major"]), int(re.sub(r"\D.*", "", version["minor"])))
    return None if number >= (1, 22) else f"kubectl {version['gitVersion']} has a Kustomize that is too old"


@cache
def render(folder: Path) -> tuple[Object, ...]:
    if reason := kubectl():
        pytest.skip(reason)
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return tuple(yaml.safe_load_all(done.stdout))


def one(folder: Path, kind: str) -> Object:
    (found,) = (item for item in render(folder) if item["kind"] == kind)
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", CLASSES)
def test_kubernetes_own_schemas_accept_every_object(name: str, version: str) -> None:
    for item in render(FOLDER / name):
        kubernetes_validate.validate(item, version, strict=True)


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_has_one_pod_for_each_learner(name: str) -> None:
    learners = one(FOLDER / name, "StatefulSet")

    assert learners["spec"]["replicas"] == CLASSES[name]
    assert learners["spec"]["selector"]["matchLabels"] == {"app.kubernetes.io/name": "labctl"}
    (container,) = learners["spec"]["template"]["spec"]["containers"]
    assert {"name": "LABCTL_LEARNER", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}} in container["env"]


def test_every_namespaced_object_is_in_the_namespace_of_the_class() -> None:
    for item in render(FOLDER / "class-10"):
        if item["kind"] != "Namespace":
            assert item["metadata"]["namespace"] == one(FOLDER / "class-10", "Namespace")["metadata"]["name"]


def test_the_policy_selects_the_pods_and_allows_nothing() -> None:
    policy = one(FOLDER / "class-10", "NetworkPolicy")
    pods = one(FOLDER / "class-10", "StatefulSet")["spec"]["template"]["metadata"]["labels"]

    assert set(policy["spec"]["podSelector"]) <= {"matchLabels"}
    assert policy["spec"]["podSelector"].get("matchLabels", {}).items() <= pods.items()
    assert sorted(policy["spec"]["policyTypes"]) == ["Egress", "Ingress"]
    assert not policy["spec"].get("ingress")
    assert not policy["spec"].get("egress")


def test_a_pod_has_the_proven_capabilities_and_nothing_of_its_node() -> None:
    pod = one(FOLDER / "class-10", "StatefulSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    security = container["securityContext"]

    assert security["capabilities"] == {"drop": ["ALL"], "add": sorted(CAPABILITIES)}
    assert not security["privileged"]
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["hostUsers"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers"} & set(pod)
    assert not any("hostPath" in volume for volume in pod["volumes"])


def test_a_pod_has_no_token() -> None:
    account = one(FOLDER / "class-10", "ServiceAccount")
    pod = one(FOLDER / "class-10", "StatefulSet")["spec"]["template"]["spec"]

    assert pod["serviceAccountName"] == account["metadata"]["name"]
    assert (pod["automountServiceAccountToken"], account["automountServiceAccountToken"]) == (False, False)


def test_the_namespace_admits_the_pods() -> None:
    """The level `baseline` would refuse some of the capabilities, so the namespace has the level `privileged`."""
    labels = one(FOLDER / "class-10", "Namespace")["metadata"]["labels"]

    assert set(CAPABILITIES) - BASELINE
    assert labels["pod-security.kubernetes.io/enforce"] == "privileged"


def test_a_cluster_without_user_namespaces_has_a_component(tmp_path: Path) -> None:
    """As the line `components` of a class says."""
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    file = tmp_path / "kubernetes/class-10/kustomization.yaml"
    text = file.read_text()
    assert "# components: [../host-users]" in text
    file.write_text(text.replace("# components: ", "components: "))
    objects = render(file.parent)

    for item in objects:
        kubernetes_validate.validate(item, VERSIONS[0], strict=True)
    assert one(file.parent, "StatefulSet")["spec"]["template"]["spec"]["hostUsers"] is True


def test_memory_and_processor_time_have_limits() -> None:
    (container,) = one(FOLDER / "class-50", "StatefulSet")["spec"]["template"]["spec"]["containers"]

    for resource in ("cpu", "memory", "ephemeral-storage"):
        assert resource in container["resources"]["requests"]
        assert resource in container["resources"]["limits"]


def test_the_schemas_are_strict() -> None:
    """An unknown key is refused, so that a passing test means something."""
    learners = json.loads(json.dumps(one(FOLDER / "class-10", "StatefulSet")))
    learners["spec"]["template"]["spec"]["containers"][0]["securityContext"]["capabilties"] = {}

    for version in VERSIONS:
        with pytest.raises(kubernetes_validate.ValidationError, match="capabilties"):
            kubernetes_validate.validate(learners, version, strict=True)
