"""The records of learners in the pods of a Kubernetes cluster: the program kubectl runs labctl in each of them."""

from __future__ import annotations

import json
import shutil
from functools import partial
from typing import Any

from labctl.core.record_shape import shape_problem
from labctl.errors import KernelError, MissingError
from labctl.kernel.host.child_process import ChildOutputError, ChildTimeoutError, Finished, run
from labctl.kernel.host.thread_pool import ThreadPool
from labctl.training.class_records import MAX_BYTES, ClassRecords

NAMESPACE = "labctl"  # as in docs/examples/kubernetes
SELECTOR = "app.kubernetes.io/name=labctl"
BOARD = ("labctl", "class", "board", "--json")  # run in each pod
TIMEOUT_S = 30.0  # for one run of kubectl
AT_ONCE = 10  # pods
_PODS = {"items": [{"metadata": {"name": str}, "status": {"phase?": str}}]}


def add_pods(records: ClassRecords, namespace: str, selector: str) -> int:
    """Add what the learners in the selected pods have reached; returns how many pods there are. A pod that does not
    answer is a problem. Raises MissingError without kubectl, KernelError if the cluster does not answer."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise MissingError("there is no program kubectl", "install kubernetes-client, or kubectl of your cluster")
    command = [kubectl, "--namespace", namespace]
    pods = _pods(command, selector)
    running = [name for name, phase in pods if phase == "Running"]
    records.problems += [(f"pod {name}", f"it is {phase}") for name, phase in pods if phase != "Running"]
    answers: dict[str, Any] = {}

    def ask(names: list[str]) -> None:
        for name in names:
            answers[name] = _board(command, name)

    with ThreadPool("pods") as pool:
        calls = [pool.submit(partial(ask, running[at::AT_ONCE])) for at in range(AT_ONCE)]
    for call in calls:
        call.result()
    for name in running:
        if isinstance(answers[name], str):
            records.problems.append((f"pod {name}", answers[name]))
        else:
            records.add_document(f"pod {name}", answers[name])
    return len(pods)


def _pods(command: list[str], selector: str) -> list[tuple[str, str]]:
    """The selected pods and their phases, in the order of their names."""
    hint = "`kubectl config current-context` shows the cluster; KUBECONFIG names another one"
    try:
        done = run([*command, "get", "pods", "--selector", selector, "--output", "json"], timeout_s=TIMEOUT_S)
    except ChildTimeoutError:
        raise KernelError(f"kubectl did not answer within {TIMEOUT_S:g} s", hint) from None
    if done.returncode:
        raise KernelError(f"kubectl cannot list the pods: {_last_line(done)}", hint)
    try:
        found = json.loads(done.stdout)
    except (ValueError, RecursionError):
        raise KernelError("kubectl did not print JSON for its pods", hint) from None
    if problem := shape_problem(found, _PODS):
        raise KernelError(f"kubectl printed something else than pods: {problem}", hint)
    return sorted((one["metadata"]["name"], one["status"].get("phase", "Unknown")) for one in found["items"])


def _board(command: list[str], pod: str) -> Any:
    """The document that labctl prints in a pod; a text is the problem."""
    try:
        done = run([*command, "exec", pod, "--", *BOARD], timeout_s=TIMEOUT_S, max_bytes=MAX_BYTES)
    except ChildTimeoutError:
        return f"it did not answer within {TIMEOUT_S:g} s"
    except ChildOutputError:
        return f"it printed more than {MAX_BYTES >> 20} MiB"
    if done.returncode:
        return f"labctl class board --json: {_last_line(done)}"
    try:
        found = json.loads(done.stdout)
    except (ValueError, RecursionError):
        return "it did not print JSON"
    return found if isinstance(found, dict) else "it did not print a JSON object"


def _last_line(done: Finished) -> str:
    lines = done.stderr.strip().splitlines()
    text = "".join(one for one in (lines[-1] if lines else "") if one.isprintable())
    return text[:200] or f"exit code {done.returncode}"
