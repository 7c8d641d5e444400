#!/usr/bin/env bash
# Prepare a Debian or Ubuntu machine for labctl. A second run changes nothing.
#
#   provision.sh [--dev]                     as root: install labctl into /opt/labctl (LABCTL_PREFIX) and
#                                            link /usr/local/bin/labctl; --dev adds what the tests need
#   provision.sh --remove                    remove that; packages of the system stay
#   provision.sh --source run|dev DIRECTORY  only make a virtual environment that runs this source tree
#   provision.sh --subjects DIRECTORY        only unpack, for tests/fidelity, the real software that models follow
#   provision.sh --engines DIRECTORY         the same for the Docker Engines of newer Debians, with their libraries
#
# PYTHON=... chooses the interpreter (3.10 or newer, with venv and headers); the default is the system's.
# No package is installed into the system Python. Every step is reported on stderr in one line.
set -euo pipefail
shopt -s inherit_errexit
umask 022
root=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd -P)
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
unset PYTHONPATH PYTHONHOME

copy= # a copy of the source tree, to build from
trap '[[ -z $copy ]] || rm -rf "$copy"' EXIT

say() { echo "labctl set-up: $*" >&2; }
die() {
  say "$*"
  exit 4
}

# quietly WHAT COMMAND...: run it; show its output only if it fails.
quietly() {
  local what=$1 output
  shift
  say "$what"
  if ! output=$("$@" 2>&1 </dev/null); then
    printf '%s\n' "$output" | tail -n 25 >&2
    return 1
  fi
}

# ---- the system's packages ---------------------------------------------------------------------------

# each package, and a command that succeeds if it is installed
packages() {
  cat <<'LIST'
iproute2 ip -V
iptables iptables-legacy-restore --version
iputils-ping ping -V
tcpdump tcpdump --version
conntrack conntrack --version
ipset command -v ipset
kmod modprobe --version
procps sysctl --version
util-linux unshare --version
mount mount --version
ca-certificates test -s /etc/ssl/certs/ca-certificates.crt
gcc gcc --version
libc6-dev test -e /usr/include/stdio.h
LIST
}

# Packages for some labs only, in the same form. A machine where they cannot be installed is ready as well.
welcome() {
  cat <<'LIST'
containernetworking-plugins test -x /usr/lib/cni/bridge -o -x /opt/cni/bin/bridge
nftables test -x /usr/sbin/nft -o -x /sbin/nft
LIST
}

# What only the tests need, in the same form: the browser for those of `labctl view`. Ubuntu has no such package.
welcome_tests() {
  cat <<'LIST'
chromium command -v chromium
LIST
}

# install_welcome LEVEL: install them; those of the tests for the level dev
install_welcome() {
  local level=$1 package probe
  local -a apt=(apt-get -q -y -o DPkg::Lock::Timeout=300)
  ((EUID == 0)) && command -v apt-get >/dev/null || return 0
  while read -r package probe; do
    ! $probe >/dev/null 2>&1 </dev/null || continue
    DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
      quietly "installing $package, which some labs or tests need" "${apt[@]}" install --no-install-recommends "$package" ||
      { quietly "reading the package lists" "${apt[@]}" update &&
        DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
          quietly "installing $package again" "${apt[@]}" install --no-install-recommends "$package"; } ||
      say "$package cannot be installed here: only labs and tests that need it are affected"
  done < <(welcome && [[ $level != dev ]] || welcome_tests)
}

missing() {
  local package probe
  while read -r package probe; do
    $probe >/dev/null 2>&1 </dev/null || echo "$package"
  done < <(packages)
  if ! choose_python >/dev/null; then
    printf '%s\n' python3 python3-venv python3-dev
  fi
}

install_missing() {
  local -a wanted
  mapfile -t wanted < <(missing)
  ((${#wanted[@]})) || return 0
  if ((EUID != 0)); then
    die "${wanted[*]} missing on this machine: run 'sudo $root/scripts/provision.sh' once, or install them yourself"
  fi
  command -v apt-get >/dev/null || die "${wanted[*]} missing and there is no apt-get here: install them, then run this again"
  export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
  local -a apt=(apt-get -q -y -o DPkg::Lock::Timeout=300)
  quietly "reading the package lists" "${apt[@]}" update || say "apt-get update failed; trying with the old lists"
  quietly "installing ${wanted[*]}" "${apt[@]}" install --no-install-recommends "${wanted[@]}" ||
    die "apt-get could not install ${wanted[*]}: see above; is the machine online?"
  mapfile -t wanted < <(missing)
  ((${#wanted[@]} == 0)) || die "${wanted[*]} still not usable after installing; set PYTHON= to a Python 3.10 or newer if it is about Python"
}

# ---- Python ------------------------------------------------------------------------------------------

# The first usable Python: new enough, can make environments, can compile extensions.
choose_python() {
  local candidate
  for candidate in ${PYTHON:-/usr/bin/python3 python3 python3.13 python3.12 python3.11 python3.10}; do
    if "$candidate" - 2>/dev/null <<'CODE'; then
import ensurepip, os, sys, sysconfig, venv
sys.exit(sys.version_info < (3, 10) or not os.path.exists(sysconfig.get_path("include") + "/Python.h"))
CODE
      command -v "$candidate"
      return
    fi
  done
  return 1
}

make_venv() {
  local target=$1 python
  if "$target/bin/python" -c 'import pip' 2>/dev/null; then
    return
  fi
  if [[ -d $target && ! -e $target/pyvenv.cfg && -n $(ls -A "$target") ]]; then
    die "$target has other content: choose another folder (LABCTL_PREFIX, LABCTL_VENV) or remove it"
  fi
  python=$(choose_python) || die "PYTHON=${PYTHON:-} is not a Python 3.10 or newer with venv and headers"
  mkdir -p "$target"
  quietly "creating $target with $python" "$python" -m venv --clear "$target" || die "$python could not create $target"
}

# requirements PYTHON LEVEL: print the requirements of pyproject.toml, one per line
requirements() {
  "$1" - "$root/pyproject.toml" "$2" <<'CODE'
import sys
try:
    import tomllib
except ImportError:  # Python 3.10
    from pip._vendor import tomli as tomllib
with open(sys.argv[1], encoding="utf-8") as file:
    project = tomllib.loads(file.read())["project"]
extras = project["optional-dependencies"]
needs = [*project["dependencies"], *extras["view"], *(extras["test"] if sys.argv[2] == "dev" else ())]
print(*(one for one in needs if not one.startswith("labctl[")), sep="\n")
CODE
}

pip_install() {
  local target=$1 what=$2
  shift 2
  quietly "installing $what into $target" "$target/bin/python" -m pip install -q --retries 2 "$@" ||
    die "pip could not install $what into $target: see above; is the machine online?"
}

# ---- the actions -------------------------------------------------------------------------------------

digest() { cat -- "$@" | sha256sum | cut -d' ' -f1; }

# Only one process at a time works on an environment; a second one finds it ready. The lock is on the folder that
# contains the environment, so that no lock file is left.
lock() {
  mkdir -p "${1%/*}" 2>/dev/null || die "cannot create ${1%/*}: permission denied; use sudo (sudo ./scripts/labctl), or set LABCTL_VENV to a place of yours"
  [[ -w ${1%/*} ]] || die "cannot write in ${1%/*}: permission denied; use sudo (sudo ./scripts/labctl), or set LABCTL_VENV to a place of yours"
  exec 9<"${1%/*}"
  flock 9
}

source_tree() {
  local level=$1 target=$2 now
  local stamp=$target/.labctl-$level
  lock "$target"
  now="$root $(digest "$root/pyproject.toml" "$root/scripts/provision.sh")"
  if [[ -e $stamp && $(<"$stamp") == "$now" && -x $target/bin/python ]]; then
    touch "$stamp"
    return
  fi
  install_missing
  install_welcome "$level"
  make_venv "$target"
  local -a needs
  mapfile -t needs < <(requirements "$target/bin/python" "$level")
  ((${#needs[@]})) || die "cannot read $root/pyproject.toml"
  pip_install "$target" "what labctl needs" "${needs[@]}"
  "$target/bin/python" - "$root" "$target" <<'CODE'
import sys, sysconfig
root, target = sys.argv[1:]
with open(sysconfig.get_path("purelib") + "/labctl-source.pth", "w") as path:
    path.write(root + "\n")
with open(f"{target}/bin/labctl", "w") as script:
    script.write(f"#!{sys.executable}\nfrom labctl.cli import run_program\n\nrun_program()\n")
with open(f"{target}/bin/labctl-cni", "w") as script:  # a runtime calls it without an environment of ours
    script.write(f"#!{sys.executable} -Xpycache_prefix={target}/pycache\n")
    script.write("import sys\n\nfrom labctl.cni_plugin.main import main\n\nsys.exit(main())\n")
CODE
  chmod +x "$target/bin/labctl" "$target/bin/labctl-cni"
  [[ $level == run ]] || built_page "$target" --if-needed # scripts/labctl builds it for `labctl view`
  echo "$now" >"$target/.labctl-run"
  [[ $level == run ]] || echo "$now" >"$stamp"
}

# built_page PREFIX ARGUMENT...: build the page of `labctl view`, with the pip of this environment. A machine where that
# fails is ready as well.
built_page() {
  quietly "building the page of labctl view" env LABCTL_VENV="$1" "$BASH" "$root/scripts/build-view" "${@:2}" ||
    say "the page cannot be built here: only labctl view needs it"
}

# linked LINK FILE: make the link, unless it exists; record the folders that were created, for --remove
linked() {
  local folder=${1%/*}
  local -a made=()
  [[ ! -L $1 || $(readlink "$1") != "$2" ]] || return 1
  while [[ ! -d $folder ]]; do made+=("$folder") && folder=${folder%/*}; done
  mkdir -p "${1%/*}"
  printf '%s\n' "${made[@]}" >>"${LABCTL_PREFIX:-/opt/labctl}/.labctl"
  ln -sfn "$2" "$1"
}

# the links for man and the shells, and their files below share/ of the installation; fish reads /usr/local/share only
# if XDG_DATA_DIRS contains it
places() {
  cat <<'LIST'
/usr/local/share/man/man1/labctl.1 man/man1/labctl.1
/usr/local/share/bash-completion/completions/labctl bash-completion/completions/labctl
/usr/local/share/zsh/site-functions/_labctl zsh/site-functions/_labctl
/etc/fish/completions/labctl.fish fish/vendor_completions.d/labctl.fish
LIST
}

installed() {
  local level=$1 target=${LABCTL_PREFIX:-/opt/labctl} now link=/usr/local/bin/labctl
  ((EUID == 0)) || die "installing into $target needs root: run 'sudo $0', or 'pip install $root' into an environment of yours"
  export PIP_NO_CACHE_DIR=1 # no pip cache, so that --remove leaves only packages
  lock "$target"
  install_missing
  install_welcome "$level"
  now=$(find "$root"/{labctl,scenarios,docs/man,docs/completion,docs/glossary.md,pyproject.toml,scripts/provision.sh} -type f \
    ! -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum | sha256sum)
  if [[ -e $target/.labctl-$level && $(<"$target/.labctl-$level") == "$now" && -x $target/bin/labctl ]]; then
    say "$target is up to date"
  else
    make_venv "$target"
    touch "$target/.labctl" # from now on it is ours: --remove deletes it, even if the rest fails
    copy=$(mktemp -d)
    cp -r "$root"/{labctl,scenarios,pyproject.toml,README.md,LICENSE} "$copy" # building writes into its tree
    LABCTL_VIEW_BUILD=$copy/build built_page "$target" --out "$copy/labctl/view/static"
    mkdir "$copy/docs" && cp -r "$root"/docs/{man,completion,glossary.md} "$copy/docs"
    local -a needs
    mapfile -t needs < <(requirements "$target/bin/python" "$level")
    ((${#needs[@]})) || die "cannot read $root/pyproject.toml"
    pip_install "$target" "what labctl needs" "${needs[@]}"
    # the code may change without the version: replace it in any case
    pip_install "$target" "labctl itself" --force-reinstall --no-deps "$copy"
    rm -f "$target"/.labctl-*
    echo "$now" >"$target/.labctl-run"
    echo "$now" >"$target/.labctl-$level"
  fi
  [[ ! -e $link || -L $link ]] || die "$link exists and does not belong to labctl: remove it, or run $target/bin/labctl"
  ! linked "$link" "$target/bin/labctl" || say "labctl is in $link: try 'sudo labctl up kubenet'"
  local file
  while read -r link file; do # an existing file that is not a link belongs to other software
    if [[ -e $target/share/$file && (! -e $link || -L $link) ]]; then
      linked "$link" "$target/share/$file" || true
    fi
  done < <(places)
}

# removed: delete the installation and the links to it, and nothing that is not ours
removed() {
  local target=${LABCTL_PREFIX:-/opt/labctl} link folder
  ((EUID == 0)) || die "removing $target needs root: run 'sudo $0 --remove'"
  if [[ -e $target && ! (-e $target/pyvenv.cfg && (-e $target/.labctl || -e $target/.labctl-run)) ]]; then
    die "$target has other content, and is not removed"
  fi
  while read -r link _; do
    if [[ -L $link && $(readlink "$link") == "$target"/* ]]; then rm "$link"; fi
  done < <(places && echo /usr/local/bin/labctl)
  [[ -e $target ]] || { say "$target does not exist" && return 0; }
  while read -r folder; do # deepest first; folders with other files stay
    [[ -z $folder ]] || rmdir "$folder" 2>/dev/null || true
  done < <(sort -ru "$target/.labctl" 2>/dev/null)
  rm -rf "$target"
  say "$target is removed; the packages that it needed and running labs stay"
}

# The real software that the models are compared with, unpacked and not installed: an installed docker.io would start a
# daemon that changes this machine's network. Returns 1 if the packages cannot be downloaded.
subjects() {
  local target=$1 package
  local -a wanted=(containernetworking-plugins docker.io containerd runc busybox-static)
  local -a download=(apt-get -q -o APT::Sandbox::User=root download "${wanted[@]}")
  lock "$target"
  [[ ! -e $target ]] || return 0
  if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then return 1; fi
  copy=$(mktemp -d "$target.XXXXXX")
  mkdir "$copy/debs" "$copy/tree" && cd "$copy/debs" || return 1
  if ! quietly "fetching ${wanted[*]}" "${download[@]}"; then
    ((EUID == 0)) && quietly "reading the package lists" apt-get -q -o DPkg::Lock::Timeout=300 update || return 1
    quietly "fetching ${wanted[*]} again" "${download[@]}" || return 1
  fi
  for package in *.deb; do dpkg-deb -x "$package" "$copy/tree" || return 1; done
  if ! newer forky "$copy/tree/forky" containernetworking-plugins netavark libc6 libgcc-s1 ||
    ! newer experimental "$copy/tree/experimental" netavark; then
    say "newer CNI plugins and netavark cannot be downloaded here"
  fi
  chmod 755 "$copy/tree"
  mv -T "$copy/tree" "$target"
}

# newer SUITE DIRECTORY PACKAGE...: unpack packages of another Debian. Forky has CNI plugins that write rules of nft (1.9),
# and netavark 1.17, with the C library that it needs; experimental has netavark 2.0.
newer() {
  local suite=$1 tree=$2 own=$copy/$1 package
  of_suite "$own" "$suite" || return 1
  cd "$own/archives" || return 1
  quietly "fetching ${*:3} of Debian $suite" "${apt[@]}" download "${@:3}" || return 1
  for package in "$own"/archives/*.deb; do dpkg-deb -x "$package" "$tree" || return 1; done
}

# of_suite FOLDER SUITE...: read the package lists of another Debian, from the mirror that this one uses, into a folder;
# `apt` is then the command for it. apt's own lists and its list of installed packages do not change.
of_suite() {
  local own=$1 mirror
  shift
  mirror=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | awk '$1 == "Debian" && !found++ {print $2}')
  [[ -n $mirror ]] || return 1
  mkdir -p "$own/lists/partial" "$own/archives/partial" || return 1
  : >"$own/status"
  printf "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror %s main\n" "$@" >"$own/sources.list"
  apt=(apt-get -q -o "Dir::Etc::SourceList=$own/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$own/lists" -o "Dir::State::Status=$own/status" -o "Dir::Cache::Archives=$own/archives"
    -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root
    -o Acquire::Check-Valid-Until=false -o Acquire::Languages=none)
  quietly "reading the package lists of Debian $*" "${apt[@]}" update
}

# engines DIRECTORY: unpack one tree for each newer Debian
engines() {
  local target=$1 suite own
  lock "$target"
  [[ ! -e $target ]] || return 0
  if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then return 1; fi
  copy=$(mktemp -d "$target.XXXXXX")
  for suite in trixie forky; do
    own=$copy/apt/$suite
    engine "$suite" "$own" || return 1
    rm -rf "$copy/trees/$suite/usr/share" "$own"
  done
  chmod 755 "$copy/trees"
  mv -T "$copy/trees" "$target"
}

# engine SUITE FOLDER: unpack the programs of one Debian below $copy/trees
engine() {
  local suite=$1 own=$2 package
  mkdir -p "$copy/trees/$suite"
  of_suite "$own" "$suite" || return 1
  quietly "fetching docker.io of Debian $suite" "${apt[@]}" -y --no-install-recommends --download-only install \
    docker.io iptables || return 1
  for package in "$own"/archives/*.deb; do dpkg-deb -x "$package" "$copy/trees/$suite" || return 1; done
}

case ${1:-} in
--engines)
  [[ -n ${2:-} ]] || die "usage: provision.sh --engines DIRECTORY"
  engines "$2" || { say "newer Docker Engines cannot be downloaded here; tests that need them are skipped" && exit 1; }
  ;;
--subjects)
  [[ -n ${2:-} ]] || die "usage: provision.sh --subjects DIRECTORY"
  subjects "$2" || { say "the real software cannot be downloaded here; tests that need it are skipped" && exit 1; }
  ;;
--source)
  [[ ${2:-} == run || ${2:-} == dev ]] && [[ -n ${3:-} ]] || die "usage: provision.sh --source run|dev DIRECTORY"
  source_tree "$2" "$3"
  ;;
--dev) installed dev ;;
--remove) removed ;;
'') installed run ;;
*) die "usage: provision.sh [--dev|--remove] | --source run|dev DIRECTORY | --subjects|--engines DIRECTORY" ;;
esac
