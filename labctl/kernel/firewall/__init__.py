"""iptables, ip6tables and ebtables rules: read and write chains with the legacy or the nft backend."""
