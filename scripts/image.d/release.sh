# shellcheck shell=bash disable=SC2154,SC2034
# Shared by scripts/image and scripts/bundle: the releases of Debian and Ubuntu, and how a system of one is unpacked.

releases=(bookworm trixie jammy noble)

python_of() { # RELEASE: print the version of its Python
  case $1 in
  bookworm) echo 3.11 ;;
  trixie) echo 3.13 ;;
  jammy) echo 3.10 ;;
  noble) echo 3.12 ;;
  *) return 1 ;;
  esac
}

own_release() { (. /etc/os-release && echo "${VERSION_CODENAME:-}"); }

say() { echo "${0##*/}: $* ($(date -u +%T))" >&2; }

die() { # MESSAGE [CODE]
  echo "${0##*/}: $1" >&2
  exit "${2:-4}"
}

# sources_of RELEASE: print the lines for apt: the mirrors, suites and components that this machine itself uses, with the
# other name. A release of the other distribution has no mirror here.
sources_of() {
  local keyring label
  case $1 in
  bookworm | trixie) label=Debian keyring=/usr/share/keyrings/debian-archive-keyring.gpg ;;
  *) label=Ubuntu keyring=/usr/share/keyrings/ubuntu-archive-keyring.gpg ;;
  esac
  apt-get indextargets --format '$(LABEL) $(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' |
    awk -v label="$label" -v own="$(own_release)" -v release="$1" -v keyring="$keyring" '
      ($1 == label || $1 == label "-Security") && index($3, own) == 1 && (label == "Ubuntu" || $4 == "main") &&
        !seen[$2, $3, $4]++ { print "deb [signed-by=" keyring "] " $2 " " release substr($3, length(own) + 1) " " $4 }'
}

# unpack RELEASE TARGET PACKAGE,... OPTION...: a small system, as a folder, as TARGET.tar, or with /dev/null only for its
# hooks. It mounts in a private mount namespace, so that nothing is left if it is killed.
unpack() {
  local release=$1 target=$2 packages=$3 sources
  shift 3
  sources=$(sources_of "$release")
  [[ -n $sources ]] || die "apt on this machine has no mirror with $release: choose another --release"
  local -a run=(unshare -m --propagation private mmdebstrap --quiet --variant=essential --include="$packages"
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*'
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*'
    "$@" "$release" "$target" -)
  INITRD=No "${run[@]}" <<<"$sources" >&2 || die "mmdebstrap could not unpack $release, see above" 1
}

# copy_source TARGET: copy what a wheel of labctl is built from, with the page of `labctl view` if it can be built
copy_source() {
  mkdir -p "$1/docs"
  cp -r "$root"/{labctl,scenarios,pyproject.toml,README.md,LICENSE} "$1"
  cp -r "$root"/docs/{man,completion,glossary.md} "$1/docs"
  find "$1" -name __pycache__ -prune -exec rm -r {} +
  if [[ ! -e $1/labctl/view/static/index.html ]]; then
    "$root/scripts/build-view" --out "$1/labctl/view/static" >&2 ||
      say "the page cannot be built here: only labctl view needs it"
  fi
}

# wheels RELEASE FOLDER: build a wheel of labctl and of each of its dependencies, for the Python of this release. What
# exists as source only is built in a system of that release, which is deleted again.
wheels() {
  local release=$1 folder=$2 python
  python=$(python_of "$release") || die "unknown release $release: choose one of ${releases[*]}" 2
  rm -rf "$folder" "$folder.new"
  mkdir -p "$folder.new"
  say "fetching Python packages for Python $python"
  LABCTL_PYTHON=$venv/bin/python "$root/scripts/vm.d/wheels" "$python" "$folder.new" run >&2
  copy_source "$folder.new/source"
  say "building wheels in $release"
  # shellcheck disable=SC2016 # the hook's own shell expands it
  unpack "$release" /dev/null python3-dev,python3-venv,gcc,libc6-dev --format=null \
    --customize-hook='mkdir "$1/wheels"' --customize-hook="sync-in $folder.new /wheels" \
    --customize-hook='env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" \
      CFLAGS=-g0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 chroot "$1" sh -ec "
        python3 -m venv /tmp/venv
        pip=\"/tmp/venv/bin/python -m pip -q --no-input\"
        \$pip install --no-index --find-links /wheels --upgrade setuptools wheel
        \$pip wheel --no-index --no-build-isolation --use-pep517 --no-deps --wheel-dir /wheels /wheels/python*iptables-*.tar.gz /wheels/source
        rm -r /wheels/source /wheels/*.tar.gz"' \
    --customize-hook="sync-out /wheels $folder.new"
  rm -rf "$folder.new/source" "$folder.new"/*.tar.gz
  [[ -n $(find "$folder.new" -name 'labctl-*.whl') ]] || die "no wheel of labctl was built" 1
  mv -T "$folder.new" "$folder"
}

# the moment that all files of a result have, so that the same sources give the same bytes
choose_epoch() {
  export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || stat -c %Y "$root/CHANGELOG.md")}
}

need() { # PROGRAM...
  local program
  local -a missing=()
  for program; do command -v "$program" >/dev/null || missing+=("$program"); done
  ((${#missing[@]} == 0)) || die "${missing[*]} missing: apt-get install ${missing[*]}"
}
