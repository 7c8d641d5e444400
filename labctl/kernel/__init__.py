"""The only package that touches the kernel: namespaces, netlink, firewall, processes, packets."""
