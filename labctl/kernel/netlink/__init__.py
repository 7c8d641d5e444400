"""Netlink: read and write links, addresses, routes, IP sets, nft tables and connections."""
