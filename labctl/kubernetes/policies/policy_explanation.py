"""Why policies allow or deny a connection, in sentences: who isolates, which rule decides, and which rule nearly
fits. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from labctl.core.resources import IP
from labctl.core.sentence import Sentence, listed, sentence
from labctl.kubernetes.api.cluster_policy_objects import ClusterPolicy, Tier
from labctl.kubernetes.api.policy_objects import Direction, NetworkPolicy, Pod
from labctl.kubernetes.policies.policy_oracle import Decision, Endpoint, PolicyOracle, RuleName, Traffic, Verdict
from labctl.kubernetes.policies.policy_ways import Way
from labctl.kubernetes.policies.policy_words import endpoint_name, misses, rule_words, traffic_words


@dataclass(frozen=True, slots=True)
class RuleMiss:
    """A rule that would have decided otherwise, and why it does not fit: the fewer `reasons`, the nearer it is."""

    policy: str
    rule: int
    words: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"rule {self.rule} of {self.policy} {self.words}, but {' and '.join(self.reasons)}"


@dataclass(frozen=True, slots=True)
class DirectionExplanation:
    """The decision for one direction of a pod, explained.

    `reason` is the sentence about it, `details` are further facts, `misses` the rules that do not fit, the nearest
    first, `remedy` what would allow a denied connection ("" for an allowed one). `rule_words` is the deciding rule.
    """

    pod: str
    decision: Decision
    reason: str
    details: tuple[str, ...] = ()
    misses: tuple[RuleMiss, ...] = ()
    remedy: str = ""
    rule_words: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The verdict on one connection, with the explanation of each direction; the source's comes first.

    `seen_as` is the source that the target's node judges, None for `source` itself. `ways` are the ways to a backend of
    a Service for which this is the explanation: on each of them a node masquerades the connection, or on none.
    """

    source: Endpoint
    target: Endpoint
    protocol: Traffic
    port: int
    verdict: Verdict
    directions: tuple[DirectionExplanation, ...] = ()
    ways: tuple[Way, ...] = ()
    seen_as: IP | None = None

    @property
    def denial(self) -> str:
        """Who denies the connection, and why, in one sentence; "" if it is allowed."""
        denying = next((one for one in self.directions if not one.decision.allowed), None)
        return denying.reason if denying is not None else ""


def explain(
    oracle: PolicyOracle,
    source: Endpoint,
    target: Endpoint,
    protocol: Traffic,
    port: int,
    *,
    hairpin: bool = False,
    seen_as: IP | None = None,
) -> Explanation:
    """Explain the verdict of the oracle on a connection. The arguments are those of `PolicyOracle.verdict`."""
    verdict = oracle.verdict(source, target, protocol, port, hairpin=hairpin, seen_as=seen_as)
    found = []
    for decision in verdict.decisions:
        pod, other = (source, target) if decision.direction == "Egress" else (target, seen_as or source)
        if isinstance(pod, Pod):
            found.append(_Direction(oracle, decision, pod, other, target, protocol, port).explanation())
    return Explanation(source, target, protocol, port, verdict, tuple(found), seen_as=seen_as)


def denial_sentence(decision: Decision, what: str, rule_text: str = "") -> Sentence:
    """Who denies a connection, and why. `what` is the connection as seen from the pod: `TCP 80 from a`."""
    side = decision.direction.lower()
    if decision.tier in ("Admin", "Baseline"):
        number = f"{decision.rule} ({decision.rule_name})" if decision.rule_name else decision.rule
        return sentence(
            "ClusterNetworkPolicy {policy} ({tier} tier, {side}) denies it: rule {number} {does}",
            policy=decision.policy,
            tier=decision.tier,
            side=side,
            number=number,
            does=rule_text or sentence("denies {connection}", connection=what),
        )
    if len(decision.policies) == 1:
        return sentence(
            "NetworkPolicy {policy} ({side}) denies it: no rule allows {connection}",
            policy=decision.policies[0],
            side=side,
            connection=what,
        )
    return sentence(
        "NetworkPolicies {policies} ({side}) deny it: no rule of them allows {connection}",
        policies=listed(decision.policies),
        side=side,
        connection=what,
    )


@dataclass(frozen=True, slots=True)
class _Direction:
    """One direction of a connection: the pod that is asked, and the other end."""

    oracle: PolicyOracle
    decision: Decision
    pod: Pod
    other: Endpoint
    target: Endpoint
    protocol: Traffic
    port: int

    def explanation(self) -> DirectionExplanation:
        decision, words = self.decision, self._deciding_words()
        reason = self._allowed_reason(words) if decision.allowed else denial_sentence(decision, self._what, words)
        details = tuple(self._details())
        if decision.allowed:
            return DirectionExplanation(endpoint_name(self.pod), decision, reason, details, rule_words=words)
        near = tuple(sorted(self._misses(), key=lambda one: len(one.reasons)))
        return DirectionExplanation(
            endpoint_name(self.pod), decision, reason, details, near, self._remedy(), rule_words=words
        )

    @property
    def _what(self) -> str:
        words = {"traffic": traffic_words(self.protocol, self.port), "other": endpoint_name(self.other)}
        if self.decision.direction == "Ingress":
            return sentence("{traffic} from {other}", **words)
        return sentence("{traffic} to {other}", **words)

    @property
    def _side(self) -> str:
        return self.decision.direction.lower()

    def _deciding_words(self) -> str:
        decision = self.decision
        if not decision.rule:
            return ""
        direction: Direction = decision.direction
        if decision.tier == "NetworkPolicy":
            policy = next(one for one in self._selecting if str(one) == decision.policy)
            return rule_words(policy.rules(direction)[decision.rule - 1], policy.namespace, direction)
        cluster = next(one for one in self.oracle.cluster_policies if one.name == decision.policy)
        return rule_words(cluster.rules(direction)[decision.rule - 1], "", direction)

    @property
    def _selecting(self) -> tuple[NetworkPolicy, ...]:
        return tuple(self.oracle.selecting(self.pod, self.decision.direction))

    def _allowed_reason(self, words: str) -> str:
        decision = self.decision
        if decision.tier in ("Admin", "Baseline"):
            rule = RuleName(decision.policy, decision.rule, decision.rule_name)
            return f"ClusterNetworkPolicy {rule}, in the {decision.tier} tier, {words}"
        if decision.tier == "NetworkPolicy":
            return f"rule {decision.rule} of NetworkPolicy {decision.policy} {words}"
        if decision.passed or self._asked:
            return f"no NetworkPolicy selects {endpoint_name(self.pod)}, and no ClusterNetworkPolicy decides"
        return f"no policy selects {endpoint_name(self.pod)} for {self._side}"

    @property
    def _asked(self) -> list[ClusterPolicy]:
        tiers: tuple[Tier, ...] = ("Admin", "Baseline")
        asked = (self.oracle.cluster_policies_of(self.pod, self.decision.direction, tier) for tier in tiers)
        return [one for tier in asked for one in tier]

    def _details(self) -> Iterator[str]:
        decision = self.decision
        for one in decision.passed:
            yield f"ClusterNetworkPolicy {one} passes it on to the next tier"
        if decision.tier == "NetworkPolicy":
            verb = "selects" if len(decision.policies) == 1 else "select"
            what = f"{_and(decision.policies)} {verb} {endpoint_name(self.pod)} for {self._side}"
            yield f"{what}: only what a rule allows passes"
        elif decision.tier == "Admin" and decision.policies:
            yield f"{_and(decision.policies)} cannot change that: the Admin tier decides before NetworkPolicies"
        if decision.unclear:
            others = _and(decision.unclear)
            yield f"{others} has the same priority and disagrees: the API does not say which of them decides"

    def _misses(self) -> Iterator[RuleMiss]:
        """The rules that would allow it, if they fitted."""
        direction = self.decision.direction
        connection = (self.other, self.target, self.protocol, self.port)
        if self.decision.tier == "NetworkPolicy":
            for policy in self._selecting:
                for number, rule in enumerate(policy.rules(direction), 1):
                    words = rule_words(rule, policy.namespace, direction)
                    reasons = misses(self.oracle, rule, policy.namespace, *connection)
                    yield RuleMiss(str(policy), number, words, reasons)
            return
        for cluster in self._asked:
            for number, one in enumerate(cluster.rules(direction), 1):
                if (cluster.name, number) == (self.decision.policy, self.decision.rule):
                    return
                reasons = misses(self.oracle, one, "", *connection)
                if one.action != "Deny" and reasons:
                    yield RuleMiss(cluster.name, number, rule_words(one, "", direction), reasons)

    def _remedy(self) -> str:
        decision = self.decision
        if decision.tier == "Admin":
            rule = f"rule {decision.rule} of {decision.policy}"
            return f"a rule in front of {rule} with the action Accept, or Pass if NetworkPolicies should decide"
        pod = endpoint_name(self.pod)
        text = f"{_article(self._side)} {self._side} rule for {self._what} in a NetworkPolicy of namespace"
        text = f"{text} {self.pod.namespace} that selects {pod}"
        if decision.tier == "Baseline":
            return f"{text}: it decides before the Baseline tier"
        return text


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _and(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
