#!/usr/bin/env bash
# The iptables target REJECT answers with an ICMP error, so a client is refused at once. But the kernel limits these
# errors for each address (net.ipv4.icmp_ratelimit, 1000 ms): six at once, then one each second. A client that is
# refused more often meets silence, as with DROP. So a policy engine that rejects (kube-router) and one that drops cannot
# be told apart by one connection: of twelve that a client opens at the same time, six are refused and six wait. An
# engine that wants to refuse each of them needs icmp_ratelimit 0, or tcp-reset, which has no such limit.
#
# Run it as root: it works in network namespaces that end with it. It needs iptables, iproute2 and Python.
set -euo pipefail

refused() { # how many of twelve connections that begin at the same time are refused within half a second
  python3 - <<'END'
import socket, time
clients = [socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) for _ in range(12)]
for port, client in enumerate(clients, 8001):
    client.connect_ex(("192.0.2.1", port))
time.sleep(0.5)
print(sum(client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 111 for client in clients))  # ECONNREFUSED
END
}
inside() { # in new network and mount namespaces
  mount -t tmpfs none /run
  mkdir /run/netns
  export XTABLES_LOCKFILE=/run/xtables.lock
  ip netns add node
  ip link set lo up
  ip link add eth0 type veth peer name eth0 netns node
  ip addr add 192.0.2.2/24 dev eth0
  ip link set eth0 up
  ip -n node addr add 192.0.2.1/24 dev eth0
  ip -n node link set eth0 up
  ip netns exec node iptables -A INPUT -p tcp -j REJECT
  sleep 1.5 # no error was sent before
  local limited unlimited reset
  limited=$(refused)
  ip netns exec node sysctl -qw net.ipv4.icmp_ratelimit=0
  unlimited=$(refused)
  ip netns exec node sysctl -qw net.ipv4.icmp_ratelimit=1000
  ip netns exec node iptables -R INPUT 1 -p tcp -j REJECT --reject-with tcp-reset
  reset=$(refused)
  echo "refused of 12: $limited with the usual limit, $unlimited without it, $reset by tcp-reset"
  ((limited >= 5 && limited <= 7 && unlimited == 12 && reset == 12))
}
export -f refused inside
if unshare -nm --propagation private bash -euo pipefail -c inside; then
  echo "as on 2026-11-29: half of the connections meet silence"
else
  echo "this is not the behaviour that was seen on 2026-11-29 with Linux 6.18"
  exit 1
fi
