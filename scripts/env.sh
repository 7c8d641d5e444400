# shellcheck shell=bash disable=SC2034
# Shared by the other scripts of this folder: the virtual environment of this source tree, and `ready`, which makes it.
#
# Root's virtual environment is outside the tree, so that `sudo` never leaves files in the tree that a user
# cannot change. A user's is .venv. Both contain the dependencies only: the code runs from the source tree.

root=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd -P)
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # a user's PATH on Debian lacks the folders of ip and iptables
if ((EUID == 0)); then
  venv=${LABCTL_VENV:-/var/cache/labctl/venv${root//\//-}}
else
  venv=${LABCTL_VENV:-$root/.venv}
fi
python=("$venv/bin/python" -X "pycache_prefix=$venv/pycache") # root writes no __pycache__ into the tree
unset PYTHONDONTWRITEBYTECODE                                # not needed, because the cache is outside the tree

# ready run|dev: make the environment; return at once if it is newer than the files that it was made from.
ready() {
  local stamp=$venv/.labctl-$1
  [[ $stamp -nt $root/pyproject.toml && $stamp -nt $root/scripts/provision.sh && -x $venv/bin/python ]] && return
  "$BASH" "$root/scripts/provision.sh" --source "$1" "$venv"
}

# page_is_built: whether the page of `labctl view` is built, and newer than its sources; see build-view
page_is_built() {
  local page=$root/labctl/view/static/index.html
  [[ -e $page && -z $(find "$root/labctl/view/page" -newer "$page" -print -quit) ]]
}
