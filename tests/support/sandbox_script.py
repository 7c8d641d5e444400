"""What a script runs first in new namespaces (`unshare -nm`), so that its labs leave nothing on the machine."""

SANDBOX = """
mount -t tmpfs -o mode=755 none /run
mkdir /run/netns /run/labctl
mount -t tmpfs none /run/netns
mount -t tmpfs none /run/labctl
ip link set lo up
export XTABLES_LOCKFILE=/run/xtables.lock
exec "$@"
"""
