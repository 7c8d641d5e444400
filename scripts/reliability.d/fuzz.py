"""Give labctl damaged input: scenarios, --set, checks, records, packets, arguments. No traceback, and no hang.

Each input is drawn from its seed, its kind and its number, so a line that is printed can be tried again:
`fuzz --seed 3 --kind records --first 1234 --count 1`. Nothing is built: the arguments are tried as a user without root.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import io
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fuzz_inputs import CHECKS, COMMANDS, LEAVES, SCRAPS, SETS, VALUES, WORDS, damaged_document, damaged_text

SLOW_S = 5.0  # processor time of one input; far more than any needs
HANG_S = 30.0  # seconds until a trace of the stack ends the process
CODES = {0, 1, 2, 3, 4}  # the exit codes of a verb that is not interrupted
LAB = "fuzz"


class Failure(Exception):
    """An input that broke a promise."""


def main(arguments: list[str] | None = None) -> int:
    """Try as many inputs as the arguments say, and print how many ended how; 1 if one broke a promise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50_000, metavar="N", help="inputs of all kinds (default 50000)")
    parser.add_argument("--seed", default="0", metavar="TEXT", help="another sample of inputs (default 0)")
    parser.add_argument("--kind", choices=[*KINDS], help="only this kind")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the number of the first input (default 0)")
    options = parser.parse_args(arguments)
    kinds = [options.kind] if options.kind else [*KINDS]
    counts: Counter[tuple[str, str]] = Counter()
    failures = 0
    with machine_without_labs() as folder:
        for kind in kinds:
            share = max(1, options.count * WEIGHTS[kind] // sum(WEIGHTS[one] for one in kinds))
            for number in range(options.first, options.first + share):
                name = f"{options.seed} {kind} {number}"
                try:
                    counts[kind, tried(kind, random.Random(name), folder)] += 1
                except Failure as failure:
                    failures += 1
                    counts[kind, "failed"] += 1
                    print(f"--- {name}: {failure}", flush=True)
    for kind in kinds:
        results = {result: number for (one, result), number in sorted(counts.items()) if one == kind}
        total = sum(results.values())
        print(f"{kind}: {total} inputs: " + ", ".join(f"{number} {what}" for what, number in results.items()))
    print(f"{sum(counts.values())} inputs with seed {options.seed}, {failures} broke a promise")
    return 1 if failures else 0


def tried(kind: str, chance: random.Random, folder: Path) -> str:
    """How one input ended. Raises Failure for a traceback, and if it takes long."""
    faulthandler.dump_traceback_later(HANG_S, exit=True, file=2)
    started = time.process_time()
    try:
        result = KINDS[kind](chance, folder)
    except Exception as error:
        raise Failure(f"{type(error).__name__}: {error!s:.300} ({_place(error)})") from error
    finally:
        faulthandler.cancel_dump_traceback_later()
    if (seconds := time.process_time() - started) > SLOW_S:
        raise Failure(f"took {seconds:.1f} s of processor time")
    return result


def _place(error: BaseException) -> str:
    """The innermost line of labctl in a traceback."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if f"{os.sep}labctl{os.sep}" in file:
            place = f"{file.rpartition(f'{os.sep}labctl{os.sep}')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


@contextlib.contextmanager
def machine_without_labs() -> Iterator[Path]:
    """A folder for state and names of namespaces, and a user without root, for whom no verb builds or enters."""
    from labctl.errors import MissingError
    from labctl.kernel import rootless, sandbox

    def refuse(*args: object, **named: object) -> Any:
        raise MissingError("nothing is started here")

    before = dict(os.environ)
    replaced: list[tuple[Any, str, Any]] = [
        (os, "geteuid", lambda: 65534),
        (rootless, "enter", refuse),
        (rootless, "holder_root", lambda: None),
        (sandbox, "run", refuse),
    ]
    originals = [(place, name, getattr(place, name)) for place, name, _ in replaced]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    cwd = os.getcwd()
    with tempfile.TemporaryDirectory(prefix="labctl-fuzz.") as name:
        folder = Path(name)
        for part in ("netns", "state", "work"):
            (folder / part).mkdir()
        (folder / f"netns/labctl.{LAB}.a").touch()
        os.environ |= {"LABCTL_NETNS_DIR": f"{folder}/netns", "LABCTL_STATE_DIR": f"{folder}/state"}
        os.environ.pop("LABCTL_ROOTLESS", None)
        os.chdir(folder / "work")
        for place, attribute, value in replaced:
            setattr(place, attribute, value)
        try:
            yield folder
        finally:
            for place, attribute, value in originals:
                setattr(place, attribute, value)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            os.chdir(cwd)
            os.environ.clear()
            os.environ.update(before)


# ---- the kinds: each draws an input, tries it, and returns how it ended ----------------------------------


def try_scenario(chance: random.Random, folder: Path) -> str:
    """A damaged scenario, parsed and compiled."""
    return _compiled(damaged_text(chance, chance.choice(_scenarios())))


def try_override(chance: random.Random, folder: Path) -> str:
    """--set arguments with damaged paths and values."""
    from labctl.scenario import catalog

    sets = []
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        path = ".".join(chance.choice(WORDS) for _ in range(chance.choice((1, 1, 2, 3, 5, 70, 2000))))
        word = chance.choice(SETS) if chance.random() < 0.6 else f"{path}={chance.choice(VALUES)}"
        sets.append(damaged_text(chance, word, most=2) if chance.random() < 0.7 else word)
    text = catalog.find("kubenet")[1] if chance.random() < 0.5 else chance.choice(_scenarios())
    return _compiled(text, tuple(sets))


def try_check(chance: random.Random, folder: Path) -> str:
    """A lab with one damaged check."""
    from labctl.scenario import catalog

    text = catalog.find("kubenet")[1].partition("checks:")[0]
    return _compiled(f"{text}checks:\n  - {{{damaged_text(chance, chance.choice(CHECKS), most=3)}}}\n")


def _compiled(text: str, overrides: tuple[str, ...] = ()) -> str:
    from labctl.errors import ScenarioError, UsageError
    from labctl.scenario.definition import parse_and_compile

    try:
        parse_and_compile(text, "fuzz.yaml", overrides=overrides)
    except (ScenarioError, UsageError) as error:
        for problem in error.problems:
            if problem.line < 1 or problem.column < 1 or not problem.what.isprintable():
                raise Failure(f"a problem without a place or with odd characters: {problem!r}") from None
        return "refused"
    return "accepted"


def try_definition(chance: random.Random, folder: Path) -> str:
    """A damaged record of a definition, as every verb reads it."""
    from labctl.errors import LabError
    from labctl.kernel.host import definition_record
    from labctl.lab import records
    from labctl.lab.node_lookup import netns_owners
    from labctl.report import lists

    _write(folder / "state" / LAB / "definition.json", damaged_document(chance, _documents()["definition"]))
    lists.labs(records.running_labs())
    netns_owners(LAB)
    if definition_record.load(LAB) is None:
        return "unreadable" if definition_record.problem(LAB) else _fail("it can be read, and cannot")
    try:
        records.load_compiled_lab(LAB)
    except LabError:
        return "read, not compiled"
    return "compiled"


def try_faults(chance: random.Random, folder: Path) -> str:
    """A damaged record of faults."""
    from labctl.errors import UsageError
    from labctl.lab import fault_records
    from labctl.render.resources import resource_line

    _write(folder / "state" / LAB / "faults.json", damaged_document(chance, _documents()["faults"]))
    found = fault_records.load(LAB)
    try:
        fault_records.load_all(LAB)
    except UsageError:
        return "unreadable"
    for item in fault_records.expected((), found):
        resource_line(item)
    return "read"


def try_plugin_records(chance: random.Random, folder: Path) -> str:
    """Damaged records of attachments and of what plugins made."""
    from labctl.kernel.cni import attachment_records

    top = folder / "state" / LAB / "cni"
    _write(top / "attachments/a.eth0.json", damaged_document(chance, _documents()["attachment"]))
    _write(top / "made.json", damaged_document(chance, _documents()["made"]))
    found = attachment_records.records(LAB)
    attachment_records.load_plugin_objects(LAB)
    attachment_records.without_record(LAB, [record.attachment for record in found])
    return "read" if found else "unreadable"


def try_work_records(chance: random.Random, folder: Path) -> str:
    """A damaged record of work."""
    from labctl.kernel.host import work_record

    lines = [json.dumps(entry).encode() for entry in _documents()["work"]]
    _write(folder / "state/.work/1-1.jsonl", damaged_document(chance, None, b"\n".join(lines) + b"\n"))
    return f"{sum(len(record.entries) for record in work_record.abandoned())} entries"


def try_packet(chance: random.Random, folder: Path) -> str:
    """A damaged frame, decoded and named as a trace does, and written to a file for Wireshark."""
    from labctl.core.resources import Interface
    from labctl.packets.decode import Frame, decode
    from labctl.packets.pcapng import pcapng

    data = bytearray(chance.choice(_frames()))
    for _ in range(chance.randint(0, 6)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    data = (
        data[: chance.randint(0, len(data))]
        if chance.random() < 0.5
        else data + chance.randbytes(chance.randint(0, 40))
    )
    kinds = chance.choice(((0x0800, 1), (0x86DD, 1), (0x0806, 1), (0x0800, 65534), (0x86DD, 65534), (0, 772)))
    frame = Frame(Interface("a", "eth0"), 1, "in", bytes(data), *kinds)
    packet = decode(frame)
    pcapng([frame], {}, "fuzz")
    str(packet)
    return "no packet" if packet is None else "a packet"


def try_arguments(chance: random.Random, folder: Path) -> str:
    """A damaged command line, run in this process as a user without root."""
    from labctl.cli import main as labctl

    words = chance.choice(COMMANDS).split()
    for _ in range(chance.randint(0, 3)):
        place = chance.randint(0, len(words))
        words[place : place + chance.randint(0, 1)] = [chance.choice(_arguments())]
    words = [damaged_text(chance, word, most=2) if chance.random() < 0.1 else word for word in words]
    # an argument has no NUL, and Python decodes its bytes to no other surrogates than those for single bytes
    words = [word.replace("\0", "").replace("\ud800", "\udc80") for word in words]
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = labctl(words)
    if code not in CODES or "Traceback" in errors.getvalue():
        raise Failure(f"{words!r} ended with {code}: {errors.getvalue()[-400:]}")
    return f"with code {code}"


def _fail(text: str) -> Any:
    raise Failure(text)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


KINDS: dict[str, Callable[[random.Random, Path], str]] = {
    "scenarios": try_scenario, "overrides": try_override, "checks": try_check, "definitions": try_definition,
    "faults": try_faults, "plugin-records": try_plugin_records, "work-records": try_work_records,
    "packets": try_packet, "arguments": try_arguments,
}  # fmt: skip
WEIGHTS = {"scenarios": 8, "overrides": 8, "checks": 6, "definitions": 6, "faults": 6, "plugin-records": 6,
           "work-records": 3, "packets": 6, "arguments": 3}  # fmt: skip


# ---- the good inputs that are damaged --------------------------------------------------------------------

_CACHE: dict[str, Any] = {}


def _once(name: str, make: Callable[[], Any]) -> Any:
    if name not in _CACHE:
        _CACHE[name] = make()
    return _CACHE[name]


def _scenarios() -> list[str]:
    """The built-in scenarios that are compiled fast, and the files with mistakes from the tests."""
    from labctl.scenario import catalog

    root = Path(__file__).resolve().parents[2]

    def make() -> list[str]:
        texts = [catalog.find(name)[1] for name in catalog.names()]
        texts += [path.read_text("utf-8", "replace") for path in sorted((root / "tests/golden/errors").rglob("*.yaml"))]
        return [text for text in texts if len(text) < 5000]

    found: list[str] = _once("scenarios", make)
    return found


def _documents() -> dict[str, Any]:
    """A good record of each kind."""

    def make() -> dict[str, Any]:
        from labctl.core.resources import Attachment
        from labctl.render.plan_json import resource_json
        from labctl.scenario.definition import define

        plan = define("kubenet").compiled.plan
        each = {type(item): item for item in plan}
        objects = [resource_json(item) for item in each.values()]
        conflist = {"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "bridge", "ipam": {"type": "host-local"}}]}
        attachment = Attachment(
            pod="a", node="node1", conflist=json.dumps(conflist), args="{}", ifname="eth0", path="/p"
        )
        addresses = {"src": "10.0.0.1", "dst": "10.0.0.2", "reply_src": "10.0.0.2", "reply_dst": "10.0.0.1"}
        numbers = {"protocol": 6, "sport": 1, "dport": 2, "reply_sport": 2, "reply_dport": 1, "zone": 0}
        fault = {
            "fault": "route-missing", "object": "node1", "hidden": True, "before": objects[:4], "after": objects[4:],
            "fixed": False, "connections": [{"node": "a", **addresses, **numbers}], "interrupted": False,
        }  # fmt: skip
        machines = [{"name": "a", "role": "pod", "on": "node1", "within": None, "addresses": ["10.0.0.1"]}]
        return {
            "definition": {"name": LAB, "model": "raw", "file": "f.yaml", "text": "model: raw\nnamespaces: [a]\n",
                           "sets": [], "approximate": [], "firewall": "legacy", "files": [["x", "y"]],
                           "machines": machines},
            "faults": {"faults": [fault, {**fault, "hidden": False}]},
            "attachment": {"attachment": resource_json(attachment), "path": "/p", "spaces": "4:1 4:2",
                           "result": {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/24"}]}},
            "made": {"covers": [["a", "eth0"]], "made": objects},
            "work": [{"kind": "work", "name": "a trace of lab fuzz"}, {"kind": "tracing", "name": "labctl-fuzz-1"},
                     {"kind": "loggers", "lab": LAB, "node": "a", "before": {"ip": "NONE"}}],
        }  # fmt: skip

    found: dict[str, Any] = _once("documents", make)
    return found


def _frames() -> list[bytes]:
    """A frame of each protocol that is decoded."""
    ethernet = bytes.fromhex("02000000000102000000000208")
    ip = bytes.fromhex("4500003c00014000400100000a0000010a000002")
    inner = ethernet + b"\0" + ip + bytes.fromhex("0800f7ff00010001") + bytes(32)
    vxlan = ip[:9] + b"\x11" + ip[10:] + bytes.fromhex("303912b500460000") + bytes.fromhex("0800000000002a00") + inner
    arp = bytes.fromhex("080600010800060400010200000000020a0000010000000000000a000002")
    ip6 = bytes.fromhex("6000000000083a40") + bytes(15) + b"\1" + bytes(15) + b"\2" + bytes.fromhex("8000000000010001")
    return [
        inner,
        ethernet + b"\0" + ip[:9] + b"\x06" + ip[10:] + bytes.fromhex("1f90005000000001000000005002200000000000"),
        ethernet + b"\0" + vxlan,
        ethernet + b"\0" + ip[:9] + b"\x04" + ip[10:] + ip + bytes(8),
        ethernet + b"\0" + ip + bytes.fromhex("0301000000000000") + ip + bytes(8),
        ethernet[:-1] + arp,
        ethernet[:-1] + bytes.fromhex("86dd") + ip6,
        ethernet[:-1] + bytes.fromhex("8100002a0800") + ip + bytes(8),
        ip + bytes(40),
        ip6,
    ]


def _arguments() -> list[str]:
    """Verbs, options, names and odd words."""

    def make() -> list[str]:
        from labctl.cli.app import VERBS, verb
        from labctl.scenario import catalog

        options = {text for name in VERBS for parameter in verb(name).params for text in parameter.opts}
        quick = [name for name in catalog.names() if name in ("kubenet", "docker-bridge", "pods")]
        slow = {"doctor", "--list"}  # they try the kernel, or every fault on a lab
        words = [*VERBS, *VERBS, *sorted(options), *quick, LAB, "a", "node1/eth0", "--", *LEAVES, *SCRAPS]
        return [word for word in words if word not in slow]

    found: list[str] = _once("arguments", make)
    return found


if __name__ == "__main__":
    sys.exit(main())
