"""A worker process of the page: it runs verbs on one lab, one after the other, and writes what they return.

It calls the same functions as the command line. It ends when its standard input ends, also in the middle of a verb, as
^C ends a verb: what the verb has made for the time of its run is removed. So nothing is left if the server is killed.
"""

from __future__ import annotations

import hashlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from labctl.errors import LabError, UsageError
from labctl.view.protocol import Document, Lines, encode, error_document

if TYPE_CHECKING:
    from types import FrameType

    from labctl.core.results import Outcome
    from labctl.core.scenario_types import Lab
    from labctl.view.reasons import LabReasons

Emit: TypeAlias = Callable[[Document], None]
Verb: TypeAlias = "Callable[[LabWorker, Document], Document]"
MAX_FRAMES_PER_S = 400  # lines of a capture; more are counted and left out, because no person could read them


class LabWorker:
    """The verbs of one lab. `emit` gets documents while a verb runs."""

    def __init__(self, name: str, emit: Emit) -> None:
        self.name = name
        self.emit = emit
        self._stamp = ""
        self._digest = ""
        self._read_at: tuple[int, int] | None = None  # the time and the number of the file that was read
        self._lab: Lab | None = None
        self._reasons: LabReasons | None = None

    @property
    def recorded(self) -> Lab:
        """The lab as its record defines it now. Compiled again only if the record changed. Raises UsageError."""
        from labctl.lab.records import load_compiled_lab, resolve_lab_name

        stamp = self.stamp()
        if self._lab is None or stamp != self._stamp:
            resolve_lab_name(self.name)
            self._lab, self._stamp = load_compiled_lab(self.name), stamp
        return self._lab

    @property
    def lab(self) -> Lab:
        """The recorded lab with what CNI plugins have made."""
        from labctl.lab.cni_attach import with_plugin_results

        return with_plugin_results(self.recorded)

    def stamp(self) -> str:
        """The digest of the record of the lab's definition, "" if it is lost. It is read again only if it changed."""
        from labctl.kernel.host import definition_record, lab_state

        path = lab_state.directory(self.name) / definition_record.DEFINITION
        try:
            found = path.stat()
            if self._read_at != (found.st_mtime_ns, found.st_ino):
                self._digest = hashlib.blake2b(path.read_bytes()).hexdigest()
                self._read_at = found.st_mtime_ns, found.st_ino
        except OSError:
            self._digest, self._read_at = "", None
        return self._digest

    def state(self, _: Document) -> Document:
        """All that the page shows at first."""
        from labctl.view.documents import lab_document

        return {**lab_document(self.lab), **self.status({})}

    def faults(self, _: Document) -> Document:
        """The faults that the lab can have. In a lab of 100 nodes, this takes a minute."""
        from labctl.view.documents import fault_documents

        return {"faults": fault_documents(self.lab)}

    def status(self, _: Document) -> Document:
        """The drift and the faults now; `gone` if the lab does not run."""
        from labctl.kernel.host import paths
        from labctl.lab import fault_records, lifecycle
        from labctl.view.documents import broken_documents, drift_documents

        if self.name not in paths.labs():
            self._lab = None
            return {"gone": True}
        begun = time.process_time()
        changes = lifecycle.status(self.name, self.recorded)
        records = fault_records.load(self.name)
        return {
            "drift": drift_documents(changes),
            "broken": broken_documents(records),
            "stamp": self.stamp(),
            "cost_s": time.process_time() - begun,
        }

    def trace(self, wanted: Document) -> Document:
        """Follow one packet."""
        from labctl.running_lab import RunningLab
        from labctl.view.steps import trace_document

        protocol, port = wanted.get("protocol", "icmp"), wanted.get("port")
        if protocol in ("tcp", "udp") and port is None:
            raise UsageError(f"a {protocol} packet needs a port")
        options: dict[str, Any] = {protocol: port} if protocol != "icmp" else {}
        options["listen"] = wanted.get("listen", False) if protocol != "icmp" else False
        options |= {"size": wanted["size"]} if wanted.get("size") else {}
        traced = RunningLab(self.name, definition=self.recorded).trace(wanted["from"], wanted["to"], **options)
        question = {"from": wanted["from"], "to": wanted["to"], "protocol": protocol, "port": port}
        return {**trace_document(self.lab, wanted["from"], traced.story), **question}

    def check(self, wanted: Document) -> Document:
        """Run the checks, or those with a word; each outcome is an event."""
        from labctl.checks.runner import select
        from labctl.running_lab import RunningLab
        from labctl.view.documents import check_document, outcome_document

        lab, word = self.recorded, wanted.get("word") or None
        chosen = {id(check) for check in select(lab.checks, word)}
        waiting = [number for number, check in enumerate(lab.checks) if id(check) in chosen]

        def announce() -> None:
            if waiting:
                number = waiting[0]
                self.emit({"check": {**check_document(number, lab.checks[number]), "state": "running"}})

        def report(outcome: Outcome) -> None:
            self.emit({"check": outcome_document(waiting.pop(0), outcome)})
            announce()

        announce()
        return {"verdict": RunningLab(self.name, definition=lab).check(word, progress=report).verdict}

    def machine(self, wanted: Document) -> Document:
        """The document of `labctl show NODE`, and its tables."""
        from labctl.lab.node_lookup import find_nodes
        from labctl.report.json_documents import show_document
        from labctl.report.node_view import sections
        from labctl.running_lab import read_views
        from labctl.view.documents import table_documents

        views = read_views(self.name, find_nodes(self.name, wanted["name"]), details=True)
        tables = [table for view in views for table in table_documents(sections(view))]
        return {**show_document(self.name, views, self.lab, shows_all=False), "tables": tables}

    def reasons(self, wanted: Document) -> Document:
        """Why the objects of a machine are there; with `object`, all that is known of that one."""
        from labctl.view.reasons import LabReasons

        lab = self.lab
        if self._reasons is None or self._reasons.lab != lab:
            self._reasons = LabReasons(lab)
        if wanted.get("object"):
            return self._reasons.explanation(wanted["name"], wanted["object"])
        return {"reasons": self._reasons.of_machine(wanted["name"])}

    def lesson(self, wanted: Document) -> Document:
        """The lesson of the lab; with `action`, after a step. `traced` is the packet of a question, as from `trace`."""
        from labctl.core.lesson_types import Prediction
        from labctl.view import lessons
        from labctl.view.steps import trace_document

        if not wanted:
            return lessons.lesson_document(self.name)
        found, outcome = lessons.act(self.name, wanted["action"], wanted.get("answer", ""), lambda _: None)
        lesson = self.recorded.lesson
        traced: Document | None = None
        if outcome is not None and outcome.trace is not None and lesson is not None:
            asked = lesson.steps[outcome.number].action
            assert isinstance(asked, Prediction)
            probe = asked.goal.probe
            question = {"from": probe.source, "to": probe.target, "protocol": probe.protocol, "port": probe.port}
            traced = {**trace_document(self.lab, probe.source, outcome.trace), **question}
        return {**found, "traced": traced}

    def break_(self, wanted: Document) -> Document:
        """Give the lab a fault: the named one, or one at random, which is hidden."""
        from labctl.faults.catalogue import find_fault
        from labctl.lab.break_fix import break_at_random, break_lab
        from labctl.view.documents import break_sentence

        if wanted.get("random"):
            _, _, record = break_at_random(self.lab, wanted.get("seed"))
        else:
            record = break_lab(self.lab, find_fault(self.lab, wanted["fault"], wanted.get("object")))
        return {"text": break_sentence(record), **self._broken()}

    def fix(self, wanted: Document) -> Document:
        """Remove the named fault, or all."""
        from labctl.lab import fault_records
        from labctl.lab.break_fix import fix, selected
        from labctl.view.documents import fix_sentence

        records = selected(fault_records.active(self.name), wanted.get("fault"), wanted.get("object"))
        fixed = fix(self.recorded, records)
        return {"text": fix_sentence([record for record, _ in fixed]), **self._broken()}

    def _broken(self) -> Document:
        from labctl.lab import fault_records
        from labctl.view.documents import broken_documents

        return {"broken": broken_documents(fault_records.load(self.name))}

    def capture(self, wanted: Document) -> Document:
        """Every frame at the point, or at all devices, as a line, until the process ends or the lab is gone."""
        from labctl.kernel.capture.stream import Capture, compile_filter
        from labctl.lab.node_lookup import address_names, resolve_points
        from labctl.report.capture_lines import frame_line

        point = wanted.get("point")
        nodes, interfaces = resolve_points(self.name, (point,) if point else ())
        names, program = address_names(self.name), compile_filter(wanted.get("filter") or "")
        second, shown, omitted = 0, 0, 0
        with Capture(self.name, nodes, interfaces, program) as stream:
            self.emit({"running": True})
            for frame in stream.frames():
                if second != (second := int(time.monotonic())):
                    if omitted:
                        self.emit({"omitted": omitted})
                    shown = omitted = 0
                if shown == MAX_FRAMES_PER_S:
                    omitted += 1
                    continue
                shown += 1
                self.emit({"line": frame_line(frame, names.near(frame.at.ns)), "point": str(frame.at)})
        return {"why": f"the lab {self.name} is gone"}


VERBS: dict[str, Verb] = {
    "state": LabWorker.state,
    "faults": LabWorker.faults,
    "status": LabWorker.status,
    "trace": LabWorker.trace,
    "check": LabWorker.check,
    "machine": LabWorker.machine,
    "reasons": LabWorker.reasons,
    "lesson": LabWorker.lesson,
    "break": LabWorker.break_,
    "fix": LabWorker.fix,
    "capture": LabWorker.capture,
}


def main(name: str, code: str) -> None:
    """Run the requests of standard input until it ends; `code` is the language of the answers. Everything else that
    prints goes to standard error."""
    from labctl.kernel.host import limits
    from labctl.translation import language

    language.use(code)
    sys.argv = ["labctl", "view", name]  # for the name of the holder of a lock
    output = os.dup(1)
    os.dup2(2, 1)
    limits.prepare_open_files()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C of the terminal is for the server, which ends this process
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    requests: queue.SimpleQueue[Document] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    current: Document = {}
    lock = threading.Lock()

    def emit(document: Document) -> None:
        data = memoryview(encode({"id": current.get("id"), **document}))
        with lock:
            while data:
                data = data[os.write(output, data) :]

    worker = LabWorker(name, lambda document: emit({"event": document}))
    while True:
        current = requests.get()
        emit(_answer(worker, current))


def _answer(worker: LabWorker, request: Document) -> Document:
    try:
        return {"result": VERBS[request["verb"]](worker, request["arguments"])}
    except LabError as error:
        return {"error": error_document(error)}
    except Exception as error:
        import traceback

        traceback.print_exc()
        hint = "this is a bug in labctl; please report it"
        return {"error": {"error": f"{type(error).__name__}: {error}", "hint": hint, "kind": "bug"}}


def _read_requests(requests: queue.SimpleQueue[Document]) -> None:
    """Collect the requests. At the end of the input, end this process, as a signal from outside would."""
    lines = Lines()
    while data := os.read(0, 65536):
        for request in lines.add(data):
            requests.put(request)
    os.kill(os.getpid(), signal.SIGTERM)


def _leave(number: int, _: FrameType | None) -> NoReturn:
    """Unwind what runs now, once: its clean-up is not interrupted again."""
    for one in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)
    sys.exit(128 + number)
