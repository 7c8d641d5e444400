"""Traces: send one packet, record what every namespace saw of it, and name the place and the cause of a loss.

Read the modules in this order; those of the last seven lines are pure, and work on recorded traces as well:
`request` (the question), `run` (send the probe and wait), `instruments` (all that observes it),
`collect` (read the namespaces afterwards), `rule_context` (the rules around a rule),
`probe_packets` (captured frames), `hops` (observations of a packet, its path), `evidence` (all that was recorded),
`hop_routing` (routes and NAT of one hop), `drop_reasons`, `drop_attribution` (the kernel's drops),
`nat_choice`, `stale_connection` (a connection that is older than the nat rules),
`loss_point` (where the packet was seen last), `causes`, `kept_source`, `translated_source`, `untracked`,
`dead_destination` (the cause behind a cause), `taker` (who took the request), `hop_notes`, `diagnosis`, `loss` and
`result` (the explanation),
`comparison` (two results).
"""

MAX_PAYLOAD_BYTES = 65_000  # bytes of payload that a probe may have
