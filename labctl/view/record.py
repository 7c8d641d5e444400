"""What an exported page shows of a running lab: its state now, and with `play` the checks and traces of its claims."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TypeAlias

from labctl.errors import LabError
from labctl.view.documents import table_documents
from labctl.view.export import trace_requests
from labctl.view.protocol import Document
from labctl.view.reasons import LabReasons
from labctl.view.worker import LabWorker

Notify: TypeAlias = Callable[[str], None]


def record(name: str, notify: Notify, *, play: bool) -> Document:
    """The document of an exported page. With `play`, the checks run, and the packets that they speak of are traced.

    Raises LabError.
    """
    from labctl.kernel.host import paths
    from labctl.report.node_view import sections
    from labctl.running_lab import read_views

    notify(f"reading {name}")
    outcomes: dict[str, Document] = {}

    def keep(event: Document) -> None:
        outcomes[event["check"]["id"]] = event["check"]

    worker = LabWorker(name, keep)
    state = worker.state({})
    del state["stamp"], state["cost_s"]
    traces: list[Document] = []
    if play:
        if state["checks"]:
            notify("running the checks")
            worker.check({})
            state["checks"] = [outcomes[check["id"]] for check in state["checks"]]
        traces = list(_traces(worker, notify))
    views = read_views(name, paths.labs().get(name, ()), details=True)
    reasons = LabReasons(worker.lab)
    machines = {
        view.node: {
            "tables": table_documents(sections(view)),
            "reasons": reasons.of_machine(view.node),
        }
        for view in views
    }
    return {
        **state,
        "exported": True,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "traces": traces,
        "machine_documents": machines,
    }


def _traces(worker: LabWorker, notify: Notify) -> Iterator[Document]:
    for number, (title, request) in enumerate(trace_requests(worker.lab), 1):
        notify(f"tracing {title}")
        try:
            yield {"id": number, "title": title, **worker.trace(request)}
        except LabError as error:
            notify(f"{title} is left out: {error.message}")
