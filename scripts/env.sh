# shellcheck shell=bash disable=SC2034
# Shared by the scripts beside it: where this source tree runs, and `ready`, which makes sure that it can.
#
# Root's virtual environment lies outside the tree, so that `sudo` never leaves files there which a user
# cannot change; a user's is .venv. Both hold the dependencies only: the code runs from the source tree.

root=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd -P)
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # a user's PATH on Debian lacks the place of ip and iptables
if ((EUID == 0)); then
  venv=${LABCTL_VENV:-/var/cache/labctl/venv${root//\//-}}
else
  venv=${LABCTL_VENV:-$root/.venv}
fi
python=("$venv/bin/python" -X "pycache_prefix=$venv/pycache") # no __pycache__ of root's in the tree
unset PYTHONDONTWRITEBYTECODE                                # with a cache outside the tree there is no reason

# ready run|dev: returns at once when the environment is newer than what it was made from.
ready() {
  local stamp=$venv/.labctl-$1
  [[ $stamp -nt $root/pyproject.toml && $stamp -nt $root/scripts/provision.sh && -x $venv/bin/python ]] && return
  "$BASH" "$root/scripts/provision.sh" --source "$1" "$venv"
}
