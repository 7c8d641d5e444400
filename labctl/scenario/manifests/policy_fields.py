"""The fields of NetworkPolicy (networking.k8s.io/v1).

All of its mappings are closed: a policy without one of its fields would open or close more than its author wrote.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from typing import Any

from labctl.scenario.manifests.api_types import ApiChoice, ApiFields, ApiList, ApiNumber, ApiPort, Path
from labctl.scenario.manifests.common_fields import DNS_NAME, PROTOCOL, RANGE, SELECTOR, metadata


def _exceptions(item: Mapping[str, Any]) -> Iterator[tuple[Path, str, str]]:
    block = ip_network(item["cidr"].strip(), strict=False)
    for number, text in enumerate(item.get("except") or ()):
        one = ip_network(text.strip(), strict=False)
        inside = one.version == block.version and one.subnet_of(block) and one != block  # type: ignore[arg-type]
        if not inside:
            yield (
                ("except", number),
                f"{text} is not a part of {item['cidr']}",
                "an exception is smaller than its range",
            )


_BLOCK = ApiFields({"cidr": RANGE, "except": ApiList(RANGE)}, ("cidr",), closed=True, rules=(_exceptions,))


def _peer_rules(item: Mapping[str, Any]) -> Iterator[tuple[Path, str, str]]:
    if not item:
        yield (
            (),
            "a peer needs podSelector, namespaceSelector or ipBlock",
            "podSelector: {} means all pods of the namespace",
        )
    if "ipBlock" in item and len(item) > 1:
        yield ("ipBlock",), "ipBlock cannot be beside a selector in one peer", "write an entry for each"


_PEER = ApiFields(
    {"podSelector": SELECTOR, "namespaceSelector": SELECTOR, "ipBlock": _BLOCK},
    elsewhere={"cidr": "write ipBlock: {cidr: ...}", "matchLabels": "write podSelector: {matchLabels: ...}"},
    closed=True,
    rules=(_peer_rules,),
)


def _port_rules(item: Mapping[str, Any]) -> Iterator[tuple[Path, str, str]]:
    if "endPort" not in item:
        return
    if "port" not in item or isinstance(item["port"], str):
        yield ("endPort",), "endPort needs a port that is a number", ""
    elif item["endPort"] < item["port"]:
        yield ("endPort",), f"endPort {item['endPort']} is less than port {item['port']}", ""


POLICY_PORT = ApiFields(
    {"protocol": PROTOCOL, "port": ApiPort(), "endPort": ApiNumber(1, 65535)}, closed=True, rules=(_port_rules,)
)


def _rule(side: str, wrong: str, direction: str) -> ApiFields:
    return ApiFields(
        {side: ApiList(_PEER), "ports": ApiList(POLICY_PORT)},
        elsewhere={wrong: f"the peers of an {direction} rule are below `{side}`"},
        closed=True,
    )


POLICY_SPEC = ApiFields(
    {
        "podSelector": SELECTOR,
        "policyTypes": ApiList(ApiChoice(("Ingress", "Egress"))),
        "ingress": ApiList(_rule("from", "to", "ingress")),
        "egress": ApiList(_rule("to", "from", "egress")),
    },
    elsewhere={
        "namespaceSelector": "a policy selects pods of its own namespace; a peer has namespaceSelector",
        "selector": "a policy has podSelector",
    },
    closed=True,
)
NETWORK_POLICY = {"metadata": metadata(DNS_NAME), "spec": POLICY_SPEC}
