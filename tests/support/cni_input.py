"""Input for `labctl-cni` as Hypothesis draws it, and for labctl as a CNI runtime; and what must hold for all of it.

Most of each input is as a runtime writes it, and some part is anything: else every input would end at its first byte.
No namespace is made: of a call, everything runs except its netlink messages and programs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from labctl.cni import spec
from labctl.cni.spec import VALID_ATTACHMENTS, VALID_ATTACHMENTS_KEYS, DecodeError
from labctl.cni_plugin import config, iptables_rules, wiring
from labctl.cni_plugin.commands import _ipv4_addresses
from labctl.cni_plugin.config import Failure
from labctl.cni_runtime.observed_state import result_addresses
from labctl.core.resources import Attachment
from labctl.kernel.cni import attachment_records, plugins
from labctl.render.plan_json import resource_json

CODES = {1, 2, 3, 4, 6, 7, 100}  # of errors that need no kernel, no program and no lock
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-1, 2**33), st.floats(), st.text(max_size=12),
    st.sampled_from(["", "..", "a/b", "eth0", "10.9.0.1", "10.9.0.1/24", "fd00::2/64", "1.0.0", "\0", "%d", 9 * "é"]),
)  # fmt: skip
ANYTHING: SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


HOW_MANY_BROKEN = st.sampled_from([0, 0, 0, 0, 1, 1, 2])  # of the entries of one mapping


@st.composite
def mappings(draw: DrawFn, usual: Mapping[str, Any], optional: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A mapping with usual values and some of the optional entries; of few entries the value is missing or anything."""
    found = dict(usual)
    if optional:
        chosen = draw(st.lists(st.sampled_from(sorted(optional)), unique=True, max_size=3))
        found |= {key: optional[key] for key in chosen}
    broken = {draw(st.sampled_from([*found, "x/y"])) for _ in range(draw(HOW_MANY_BROKEN))}
    found = {key: value for key, value in found.items() if key not in broken}
    document = {key: draw(value) if isinstance(value, SearchStrategy) else value for key, value in found.items()}
    return document | {key: draw(ANYTHING) for key in broken if draw(st.booleans())}


ADDRESSES = st.sampled_from(["10.9.0.2/24", "10.9.0.77/16", "192.0.2.1/32", "fd00::2/64", "0.0.0.0/0"])
RESULTS = mappings(
    {
        "cniVersion": st.sampled_from(spec.VERSIONS),
        "ips": st.lists(
            mappings({"address": ADDRESSES}, {"gateway": "10.9.0.1", "interface": 0}), min_size=1, max_size=3
        ),
    },
    {
        "interfaces": st.lists(
            mappings({"name": "eth0"}, {"mac": "02:00:00:00:00:01", "sandbox": "/n/a", "mtu": 1500}), max_size=3
        ),
        "routes": st.lists(mappings({"dst": "0.0.0.0/0"}, {"gw": "10.9.0.1", "mtu": 1400, "priority": 7}), max_size=2),
        "ip4": mappings({"ip": ADDRESSES}, {"gateway": "10.9.0.1", "routes": []}),
        "dns": mappings({"nameservers": ["10.9.0.1"]}),
    },
)
ATTACHMENTS = st.lists(mappings({"containerID": "c-one", "ifname": "eth0"}), max_size=3)
USUAL_VALUES = {str: "cni0", bool: True, int: 1400}
CONFIGURATIONS = mappings(
    {
        "cniVersion": st.sampled_from(["0.2.0", "0.4.0", "1.0.0", "1.1.0", "1.1.0", "1.1.0"]),
        "name": st.sampled_from(["net", "a.b_c-d", "n" * 300]),
        "type": "labctl-cni",
        "ipam": mappings({"type": "host-local"}, {"subnet": "10.9.0.0/24"}),
        "prevResult": RESULTS,
        VALID_ATTACHMENTS: ATTACHMENTS,
    },
    {key: USUAL_VALUES[kind] for key, (_, kind, _) in config.KEYS.items() if kind in USUAL_VALUES}
    | {key: values[0] for key, (values, _) in config.REFERENCE_KEYS.items()}
    | {
        VALID_ATTACHMENTS_KEYS[1]: ATTACHMENTS,
        "shape": st.sampled_from(config.SHAPES),
        "dns": mappings({"search": ["example.com"]}),
        "runtimeConfig": mappings({"mac": "02:00:00:00:00:01"}),
        "args": mappings({"cni": mappings({"mac": "02:00:00:00:00:02"})}),
    },
)
VARIABLES: dict[str, Any] = {
    "CNI_COMMAND": st.sampled_from(spec.COMMANDS),
    "CNI_CONTAINERID": st.sampled_from(["c-one", "c" * 300]),
    "CNI_NETNS": "/n/a",
    "CNI_IFNAME": st.sampled_from(["eth0", "eth.1", "tunl0"]),
    "CNI_PATH": "/nowhere",
    "CNI_ARGS": st.sampled_from(["", "IgnoreUnknown=1;MAC=02:00:00:00:00:03"]),
}
# what a process can have in its environment: bytes without NUL, those that are not UTF-8 as Python reads them
VALUES = st.binary(max_size=20).map(lambda raw: raw.replace(b"\0", b"").decode("utf-8", "surrogateescape"))


@st.composite
def environments(draw: DrawFn) -> dict[str, str]:
    """The environment of a call: usual values; few are missing or any bytes."""
    broken = {draw(st.sampled_from(sorted(VARIABLES))) for _ in range(draw(HOW_MANY_BROKEN))}
    usual = {name: value for name, value in VARIABLES.items() if name not in broken}
    found = {name: draw(value) if isinstance(value, SearchStrategy) else value for name, value in usual.items()}
    return found | {name: draw(VALUES) for name in broken if draw(st.booleans())}


@st.composite
def texts(draw: DrawFn, documents: SearchStrategy[Any]) -> str:
    """The JSON text of a document, at times with a part cut out, put in, or nested thousands of levels deep."""
    text = json.dumps(draw(documents))
    change = draw(st.sampled_from(["none"] * 8 + ["cut", "deep"]))
    if change == "cut":
        start, end = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
        return text[:start] + draw(st.text(max_size=3)) + text[end:]
    if change == "deep":
        depth = draw(st.sampled_from([50, 99, 101, 900, 5000]))
        return text.replace("[]", "[" * depth + "]" * depth) if "[]" in text else "[" * depth
    return text


def code_of_call(environment: Mapping[str, str], text: str, ipam_text: str) -> int:
    """The error code of one call of `labctl-cni`, 0 if it has none.

    `ipam_text` is the answer of the IPAM plugin. Raises whatever the program would print a traceback for.
    """
    try:
        config.command_of(environment)
        _serve(config.parse_request(environment, text), ipam_text)
    except Failure as failure:
        error = failure.error
        assert error.msg
        assert len(error.msg) < 500, "the message repeats the input"
        json.dumps(spec.error_json(error))
        return error.code
    return 0


def _serve(request: config.Request, ipam_text: str) -> None:
    if request.command == "ADD":
        try:
            given = spec.read_result(ipam_text)
        except DecodeError as error:
            raise Failure(100, "the answer of the IPAM plugin is invalid", str(error)) from None
        given = wiring.complete_ipam_result(request, given)
        wiring.link_alias(request, given)
        plan = wiring.wiring(request, given, ipv6=True)
        assert all(isinstance(resource_json(item), dict) for item in plan)
        iptables_rules.rules(request.config, request.container_id, _ipv4_addresses(given))
        spec.read_result(json.dumps(spec.result_json(wiring.add_result(request, given, {}))))
    elif request.command == "CHECK":
        wiring.with_result_macs(request, wiring.wiring(request, wiring.attachment_part(request), ipv6=True))
    elif request.command == "DEL":
        wiring.host_veth_name(request)
        iptables_rules.rules(request.config, request.container_id, _ipv4_addresses(wiring.attachment_part(request)))
    elif request.command == "GC":
        assert any(key in request.config.raw for key in VALID_ATTACHMENTS_KEYS)


ATTACHMENT = Attachment("a", "node1", json.dumps({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "bridge"}]}))
RECORDS = mappings(
    {
        "attachment": mappings(resource_json(ATTACHMENT)),
        "path": "/usr/lib/cni",
        "result": RESULTS,
        "spaces": "4:1 4:2",
    },
    {
        "covers": st.lists(st.just(["a", "eth0"]) | ANYTHING, max_size=2),
        "made": st.lists(mappings(resource_json(ATTACHMENT)), max_size=2),
    },
)


def read_records(state: Path, text: str) -> int:
    """Read the records of a lab `x` from files with a text, in the state directory `state`: how many are records.

    Raises whatever labctl would print a traceback for.
    """
    folder = state / "x/cni/attachments"
    folder.mkdir(parents=True, exist_ok=True)
    for file in (folder / "a.eth0.json", folder.parent / "made.json"):
        file.write_text(text, "utf-8", "surrogatepass")
    found = attachment_records.records("x")
    for record in found:
        result_addresses(record.result or {})
    attachment_records.load_plugin_objects("x")
    attachment_records.lost_nodes("x")
    assert len(found) + len(attachment_records.without_record("x", (ATTACHMENT,))) == 1
    return len(found)


def read_answers(text: str, log: str) -> None:
    """Read a text as each kind of answer of a plugin. Raises whatever labctl would print a traceback for."""
    for read in (spec.read_result, spec.read_error, spec.read_versions):
        with suppress(DecodeError):
            read(text)
    assert plugins._plugin_error("x ADD", 1, text, log).message
