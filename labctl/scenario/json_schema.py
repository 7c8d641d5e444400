"""The JSON Schema and the reference page of the scenario language.

Both are generated from the table that the parser uses (`labctl.scenario.language`), with one branch for each model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from labctl import models
from labctl.scenario.check_language import CHECK, SEE
from labctl.scenario.exercise_language import COMPARE, EXERCISE, HINT, LOCATE, PREDICT, TASK, TRANSLATION
from labctl.scenario.field_types import Json, Key, key_schema, object_schema
from labctl.scenario.ipset_field import IP_SET
from labctl.scenario.language import (
    common_keys,
    machine_keys,
    model_keys,
    network_keys,
    option_keys,
    setting_keys,
)
from labctl.scenario.lesson_language import LESSON, LESSON_TEXTS, STEP, STEP_KINDS, STEP_TEXTS
from labctl.scenario.manifests.keys import CLUSTER_KEYS, OBJECT_KEYS
from labctl.scenario.nftables_field import CHAIN as NFT_CHAIN
from labctl.scenario.nftables_field import FLOWTABLE, SET, TABLE
from labctl.scenario.nodes_field import singular
from labctl.scenario.own_language import definitions, own_keys
from labctl.scenario.raw_language import CHAIN, LINK, NAMESPACE
from labctl.scenario.settings_field import SettingsField

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> Json:
    """The JSON Schema (draft 2020-12) of a scenario file; `model` decides which keys are allowed."""
    known = models.model_names()
    base = {key.name: key_schema(key) for key in common_keys(known) if key.name != "checks"}
    return {
        "$schema": DRAFT,
        "title": "labctl scenario",
        "description": "a container-network lab: a model, its machines, and checks that packets prove",
        "type": "object",
        "required": ["model"],
        "properties": base,
        "allOf": [_branch(name) for name in known],
        "$defs": {**{_definition(name): _model_schema(name, known) for name in known}, **definitions()},
    }


def _branch(name: str) -> Json:
    chosen = {"required": ["model"], "properties": {"model": {"const": name}}}
    return {"if": chosen, "then": {"$ref": f"#/$defs/{_definition(name)}"}}


def _definition(name: str) -> str:
    return f"model-{name}"


def _model_schema(name: str, known: tuple[str, ...]) -> Json:
    """The schema of a scenario of one model: every key that is allowed."""
    model = models.find_model(name)
    branch = object_schema(model_keys(model, known))
    branch["properties"]["model"] = {"const": name, "description": summary(model)}
    branch["description"] = summary(model)
    machines = [key for key in machine_keys(model) if key.name in _machine_key_names(model)]
    if machines:
        branch["oneOf"] = [{"required": [key.name]} for key in machines]
    return branch


def _machine_key_names(model: Any) -> tuple[str, ...]:
    """The keys that can list a model's machines; none for a raw scenario."""
    return (model.MACHINES[0], "nodes") if model.MACHINES[1] else ()


def summary(model: Any) -> str:
    """The first line of a model's docstring."""
    return (model.__doc__ or "").strip().partition("\n")[0].rstrip(".")


def reference() -> str:
    """The reference of the scenario language as Markdown."""
    return "\n".join(_reference()) + "\n"


def _reference() -> Iterator[str]:
    known = models.model_names()
    yield "# The scenario language"
    yield ""
    yield "A scenario is one YAML file: a model, its machines, and checks. This page is generated from the table that"
    yield "the parser uses; `labctl schema` prints the same as a JSON Schema for editors."
    yield from _table("Every scenario", common_keys(known), "")
    text = "Scenarios of all models with nodes and pods also have these."
    yield from _table("Objects of Kubernetes", (*OBJECT_KEYS, *CLUSTER_KEYS), text)
    yield from _table("A check", CHECK.keys, f"Exactly one of {_code(CHECK.exactly_one)} is required.")
    yield from _BALANCE.splitlines()
    yield from _table("`see` and `not see`", SEE.keys, "One mapping, or a list of mappings.")
    yield from _exercise_tables()
    yield from _lesson_tables()
    for name in known:
        model = models.find_model(name)
        if model.MACHINES[1]:
            yield from _table(f"Model `{name}`", _model_rows(model), summary(model) + ".")
            for title, keys in inner_keys(model):
                yield from _table(f"{title} of `{name}`", keys, "")
    yield from _table("On top of every model", own_keys(), _ON_TOP)
    yield from _ON_TOP_EXAMPLE.splitlines()
    yield from _raw_tables()
    yield from _OVERLAP.splitlines()
    yield from _VALUES.splitlines()


def _model_rows(model: Any) -> tuple[Key, ...]:
    return (*machine_keys(model), *network_keys(model), *option_keys(model))


def inner_keys(model: Any) -> Iterator[tuple[str, tuple[Key, ...]]]:
    """The keys of a model's networks and of its pods (or containers, ...), and of the options that are sections, each
    group with a title."""
    for name, title in (("Network", "network"), ("Container", singular(model.MACHINES[1]))):
        settings = setting_keys(model, name)
        if settings is not None:
            yield f"{'An' if title[0] in 'aeiou' else 'A'} {title}", settings.keys
    for key in option_keys(model):
        if isinstance(key.field_type, SettingsField):
            yield f"The section `{key.name}`", key.field_type.settings.keys


def _exercise_tables() -> Iterator[str]:
    yield from _table("The section `exercise`", EXERCISE.keys, "[How to write an exercise](exercises.md#write-one).")
    yield from _table("A task of `exercise`", TASK.keys, f"Exactly one of {_code(TASK.exactly_one)} is required.")
    probe = f"Exactly one of {_code(PREDICT.exactly_one)} is required."
    for section, text in ((PREDICT, probe), (LOCATE, probe), (COMPARE, ""), (HINT, ""), (TRANSLATION, "")):
        yield from _table(f"`{section.label}` of `exercise`", section.keys, text)


def _lesson_tables() -> Iterator[str]:
    yield from _table("The section `lesson`", LESSON.keys, "[How to write a lesson](lessons.md#write-one).")
    text = f"At most one of {_code(STEP_KINDS)}. `predict` has the keys of `predict` of `exercise`."
    yield from _table("A step of `lesson`", STEP.keys, text)
    yield from _table("`texts` of `lesson`", LESSON_TEXTS.keys, "")
    yield from _table("A step in `texts` of `lesson`", STEP_TEXTS.keys, "")


def _raw_tables() -> Iterator[str]:
    model = models.find_model("raw")
    yield from _table("Model `raw`", machine_keys(model), summary(model) + ".")
    yield from _table("A namespace of `namespaces`", NAMESPACE.keys, "")
    yield from _table("A link of `links`", LINK.keys, f"Exactly one of {_code(LINK.exactly_one)} is required.")
    yield from _table("A chain of `firewall`", CHAIN.keys, "A list of rules is also allowed.")
    yield from _table("An IP set of `ipsets`", IP_SET.keys, "A list of members is also allowed.")
    yield from _table(
        "A table of `nftables`", TABLE.keys, "Its name has the family: `inet filter`. Without, it is `ip`."
    )
    yield from _table("A chain of `nftables`", NFT_CHAIN.keys, "A list of rules is also allowed.")
    yield from _table("A set or map of `nftables`", SET.keys, "The elements of a map may be a mapping.")
    yield from _table("A flow table of `nftables`", FLOWTABLE.keys, "")
    yield from _PASTED.splitlines()


def _table(title: str, keys: Iterable[Key], text: str) -> Iterator[str]:
    yield from ("", f"## {title}", "")
    if text:
        yield from (text, "")
    yield "| key | takes | default | meaning |"
    yield "|---|---|---|---|"
    for key in keys:
        default = "required" if key.required else f"`{key.default}`" if _literal(key) else key.default
        cells = (f"`{key.name}`", key.field_type.what, default, key.meaning)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _literal(key: Key) -> bool:
    """Whether a default is a literal value, not a remark."""
    return bool(key.default) and " " not in key.default


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


_BALANCE = """
## Balanced connections

`balance` opens many connections to an address with several servers behind it, and reads from each answer which machine
served it and which client that machine saw:

```yaml
model: kubenet
nodes:
  node1: {pods: {a: {labels: {app: web}}, b: {labels: {app: web}}}}
  node2: {pods: {c: {labels: {app: web}}, d: }}
services:
  web: {selector: {app: web}, ports: [80]}
checks:
  - {balance: d -> web:80, answered_by: [a, b, c], saw: d}
  - {balance: node1 -> web:80, answered_by: [a, b, c], saw: [node1/cbr0, node1/eth0]}
  - {balance: d -> b:80, answered_by: b}
```

- Every connection must be answered, by a machine of `answered_by`, and each of them must answer. One answer that is not
  as claimed is a failure; `saw` is judged exactly.
- The shares are judged by Pearson's chi-square test. If fair balancing differs so much from the weights in less than
  one of a million runs (p below 1e-06), the check fails. With the default number of connections, up to ten machines,
  this finds a machine that gets half of its share.
- `sticky` fails if two machines answer. It passes if without affinity one machine answers all in less than one of a
  million runs.
- If there are too few answers to say so, or if a server answers that is not labctl's, the check is inconclusive.

labctl's servers are those of `containers`, and the pods behind a Service. They answer `GET /who` as JSON, also to curl.

## HTTP requests

`http` sends one request. Its answer must have the `status`, and come from a machine of `answered_by`, which sees one of
`saw` as the client. Behind a proxy, that is the proxy; `forwarded_for` is the client that the proxy names. `see` is for
the packets of the client's connection, and of those that proxies open for it:

```yaml
model: kubenet
nodes:
  node1: {pods: {a: {labels: {app: web}}}}
services:
  web: {type: NodePort, selector: {app: web}, ports: [80]}
ingress:
  shop: {rules: {shop.example/cart: web:80}}
checks:
  - {http: internet -> shop.example/cart, answered_by: a, forwarded_for: internet, see: {at: node1/eth0, src: lb}}
  - {http: internet -> shop.example/, status: 404}
```

An answer that is not as claimed fails the check at once; another try could have another answer.
"""
_ON_TOP = "The keys of `raw`, beside those of the model: this model, plus mine."
_ON_TOP_EXAMPLE = """
What is stated is verified as in a raw scenario, against the objects of the model and of Kubernetes:

- Names of machines and devices are those of the lab (`labctl graph`). New ones must not be there already; an address, a
  route, a neighbour, a rule or a set that the model makes cannot be stated again.
- Rules of `firewall` are put behind those that the chain has. A built-in chain keeps its policy if none is given.
- A text of `nftables` continues the tables that are there: `insert rule` puts a rule before the model's, `add rule`
  behind them. It can add to them, and remove nothing of them; `flush ruleset` removes only what the text itself made.
- A sysctl takes the place of the model's.
- `machines` is `namespaces` of `raw`: models of Kubernetes have that key for its namespaces.

```yaml
name: plus-mine
model: docker-bridge
hosts:
  host1: {containers: [c1]}
machines: [admin]
links:
  - veth: [admin/eth0, host1/eth9]
addresses:
  admin/eth0: 198.18.0.2/24
  host1/eth9: 198.18.0.1/24
routes: {admin: default via 198.18.0.1}
sysctls: {host1: {net.ipv4.conf.eth9.rp_filter: 1}}
firewall:
  host1:
    filter:
      INPUT: [-i eth9 -p tcp --dport 22 -j DROP]
nftables:
  host1: |
    table inet mine {
      chain input {
        type filter hook input priority filter + 10; policy accept;
        iifname eth9 tcp dport 23 counter drop
      }
    }
checks:
  - {ping: admin -> host1/eth9}
  - {tcp: admin -> host1/eth9:22, expect: timeout}
```
"""
_PASTED = """
## A firewall as it is

What `iptables-save` prints can be the firewall of a machine, also with counters (`-c`), which are left out. The text of
`ip6tables-save` belongs to `firewall6`, that of `ebtables-save` to `ebtables`, that of `ipset save` to `ipsets`. A list
may have texts and mappings; rules of one chain follow each other.

```yaml
name: pasted
model: raw
namespaces: [node, peer]
links: [{veth: [node/eth0, peer/eth0]}]
addresses: {node/eth0: 192.0.2.1/24, peer/eth0: 192.0.2.2/24}
ipsets:
  node: |
    create blocked hash:net family inet
    add blocked 203.0.113.0/24
firewall:
  node: |
    *filter
    :INPUT ACCEPT [0:0]
    :FORWARD DROP [0:0]
    :LIMITED - [0:0]
    [12:720] -A INPUT -m set --match-set blocked src -j DROP
    -A INPUT -p tcp -m tcp --dport 22 -m conntrack --ctstate NEW -j LIMITED
    -A LIMITED -m limit --limit 3/min -j ACCEPT
    -A LIMITED -j DROP
    COMMIT
checks:
  - {ping: peer -> node}
  - {tcp: peer -> node:22}
```

A rule has the matches and targets of iptables-extensions(8) and nothing else: a host name, a command of iptables, or an
option that reads a file is refused. Sets of other types than `hash:net`, `hash:ip` and `hash:ip,port` are not
supported.

The rules that the text does not have do not exist, as after `iptables-restore` without `--noflush`: a text of `*filter`
alone leaves the other tables empty. A table that is there twice is refused, and so is a rule of a chain that the text
does not declare, because `iptables-restore` would drop one of them or fail.

## nftables

`nftables` takes what nft itself reads and prints: the text of `nft list ruleset`, a file such as /etc/nftables.conf, or
commands. Counts and handles are left out. Commands are carried out in their order, on a machine without rules:

```yaml
name: native
model: raw
namespaces: [node, peer]
links: [{veth: [node/eth0, peer/eth0]}]
addresses: {node/eth0: 192.0.2.1/24, peer/eth0: 192.0.2.2/24}
nftables:
  node: |
    flush ruleset
    define WEB = { 80, 443 }
    table inet filter { # handle 1
      set blocked {
        type ipv4_addr
        flags interval
        elements = { 203.0.113.0/24, 198.51.100.7 }
      }
      chain input {
        type filter hook input priority 0; policy drop;
        ct state vmap { established : accept, invalid : drop }
        ip saddr @blocked counter packets 3 bytes 180 drop
        tcp dport $WEB accept
        icmp type echo-request accept
      }
    }
    add rule inet filter input iif lo accept
checks:
  - {ping: peer -> node}
  - {tcp: peer -> node:443}
  - {tcp: peer -> node:22, expect: timeout}
```

The same as a mapping, for files that are written for a lab:

```yaml
name: native-tables
model: raw
namespaces: [node, peer]
links: [{veth: [node/eth0, peer/eth0]}]
addresses: {node/eth0: 192.0.2.1/24, peer/eth0: 192.0.2.2/24}
nftables:
  node:
    inet filter:
      chains:
        input:
          type: filter
          hook: input
          priority: filter
          policy: drop
          rules:
            - tcp dport vmap @ports
            - icmp type echo-request accept
        web: [counter accept]
      maps:
        ports: {type: "inet_service : verdict", elements: {80: jump web, 443: jump web}}
checks:
  - {ping: peer -> node}
  - {tcp: peer -> node:443}
  - {tcp: peer -> node:22, expect: timeout}
```

A machine may have a list of texts and mappings: each adds to those before it. `include` is refused, and so are a rule
that is deleted by its handle, and the rules of iptables-nft that nft prints as `xt match` or `xt target`: paste what
`iptables-save` prints of these tables. Devices after `iif`, `oif` and `device` must exist; `iifname` and `oifname`
compare names. What is inside a rule, nft itself reads: `up` asks it before anything is built, `validate` does it for
root. What nft or the kernel refuses is reported with its line.
"""
_OVERLAP = """
## Addresses that overlap

Two networks that were planned apart often have the same ranges: a VPN and Docker's 172.17.0.0/16, a subnet of the
company and the range of Services. `overlap: true` allows it: for the ranges in a model's options, for `service_cidr`,
and for the addresses on top of a model. A raw scenario may have equal addresses without it. In checks, the name of a
machine means its own address, and who answers is known by the namespace that the packet entered. Traces, drawings and
captures name the machine of an address only where one alone has it, or one is nearer than all others:

```yaml
name: same-range
model: docker-bridge
overlap: true
hosts:
  host1: {containers: [c1]}
machines: [office]
links:
  - veth: [office/eth0, host1/eth9]
addresses:
  office/eth0: [172.17.0.2/24, 198.18.0.2/24]
  host1/eth9: 198.18.0.1/24
routes:
  office: 192.168.50.0/24 via 198.18.0.1
checks:
  - say: the host takes the address of the office for its container's
    ping: host1 -> 172.17.0.2
    see: {at: c1/eth0, dst: c1}
    not see: {at: office/eth0, dst: c1}
  - {ping: office -> host1/eth9, see: {at: host1/eth9, src: 198.18.0.2}}
```
"""
_VALUES = """
## Values

- A **name** is a DNS label: a-z, 0-9 and dashes, at most 63 characters, not a number. Names are unique in the lab.
  `fabric`, `internet`, `vm` and `localhost` are reserved, and the names of other machines that the model creates.
- A **point** is a device of a machine: `node1/eth0`. Where an address is needed, a point means the device's address.
- A **duration** is `500ms`, `5s`, `1m`, or a number of seconds.
- A **range** is in CIDR notation without host bits. The ranges of one lab do not overlap, unless it says
  [`overlap: true`](#addresses-that-overlap).
- YAML's implicit types are not used: `on` is a boolean where a boolean is needed, and a text elsewhere.
- `nodes: {count: 3, pods: 2}` makes `node1` to `node3`, each with `pod1-1`, `pod1-2`, and so on.
- `--set KEY=VALUE` sets a key: `routing=host`, `nodes.count=5`, `nodes.node1.pods=[a, b]`, `checks.0.within=2s`.
"""
