"""Cases of traces to the load balancer of Services: a port that it does not serve, no healthy node, no program."""

from __future__ import annotations

from tests.support.trace_case import case

LOAD_BALANCER = """
name: balanced
model: kubenet
nodes:
  node1: {pods: {a: {labels: {app: web}}}}
services:
  web: {type: LoadBalancer, selector: {app: web}, ports: [80], loadBalancerIP: 203.0.113.100}
"""
LABS = {"balanced": LOAD_BALANCER}
IN_TIME = "fabric: sleep 3"  # two checks fail, each within 1.5 s
# ends the one process of the fabric's namespace
END_PROGRAM = (
    'fabric: python3 -c o=__import__("os");n=o.readlink("/proc/self/ns/net");'
    'p=[x[6:].partition("/")[0]for(x)in(__import__("glob").glob("/proc/[0-9]*/ns/net"))if(o.path.exists(x)and'
    '(o.readlink(x)==n))];[o.kill(int(x),15)for(x)in(p)if(x!=str(o.getpid()))];__import__("time").sleep(.5)'
)

CASES = (
    case(
        "load-balancer-port",
        "balanced",
        "",
        "internet 203.0.113.100 --tcp 81",
        "load-balancer",
        "the load balancer at fabric/l4lb serves no TCP port 81 of 203.0.113.100",
        "has no port TCP 81: it has TCP 80",
    ),
    case(
        "load-balancer-unhealthy",
        "balanced",
        f"node1: iptables-legacy -I INPUT -p tcp --dport 10256 -j DROP; {IN_TIME}",
        "internet 203.0.113.100 --tcp 80",
        "load-balancer",
        "sent it to no node: no node passes the health check at port 10256",
    ),
    case(
        "load-balancer-ended",
        "balanced",
        END_PROGRAM,
        "internet 203.0.113.100 --tcp 80",
        "link-down",
        "fabric/l4lb has no carrier: no program reads what is sent to this TUN device",
    ),
)
