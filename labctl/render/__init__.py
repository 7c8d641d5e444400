"""Resources and checks as text: the words of ip and iptables, equivalent commands, JSON. No I/O."""
