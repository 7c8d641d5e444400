#!/usr/bin/env bash
# podman 4.3.1: `--ulimit nofile=500:600` sets the limit of open files, as its manual says, and also changes another
# limit: that of processes becomes 1048576, although without the option it is the kernel's pid_max. So a container that
# is given fewer open files may have 32 times as many processes (seen with a pid_max of 32768).
#
# Run it as root on Debian 12: it unpacks the pinned package and the libraries that it needs in a temporary folder. It
# only creates the configuration of containers, from an empty folder; none is started.
set -euo pipefail
version=4.3.1+ds1-8+deb12u1+b3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get -qq -o APT::Sandbox::User=root download "podman=$version" conmon crun golang-github-containers-common \
  libgpgme11 libassuan0 libsubid4 libdevmapper1.02.1 libyajl2
for package in ./*.deb; do dpkg -x "$package" root; done
mkdir rootfs
libraries=$(dirname "$(find "$work/root" -name 'libgpgme.so.11' | head -n 1)")
cat >containers.conf <<CONF
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
conmon_path = ["$work/root/usr/bin/conmon"]
runtime = "crun"
[engine.runtimes]
crun = ["$work/root/usr/bin/crun"]
CONF

podman() {
  env LD_LIBRARY_PATH="$libraries" CONTAINERS_CONF="$work/containers.conf" "$work/root/usr/bin/podman" \
    --root "$work/storage" --runroot "$work/run" --tmpdir "$work/tmp" --storage-driver vfs "$@"
}

# limits OPTION...: the limits in the configuration of a container with these options
limits() {
  local id
  id=$(podman create --network none "$@" --rootfs "$work/rootfs" true)
  podman inspect --format '{{range .HostConfig.Ulimits}}{{.Name}}={{.Soft}}:{{.Hard}} {{end}}' "$id"
  podman rm "$id" >/dev/null
}

without=$(limits)
with=$(limits --ulimit nofile=500:600)
echo "without options:         $without"
echo "--ulimit nofile=500:600: $with"
pid_max=$(</proc/sys/kernel/pid_max)
if [[ $without != *"RLIMIT_NPROC=$pid_max:$pid_max"* || $with != *RLIMIT_NOFILE=500:600* ||
  $with != *RLIMIT_NPROC=1048576:1048576* || $pid_max == 1048576 ]]; then
  echo "this is not the behaviour that was seen on 2026-11-30 (or this kernel has another pid_max)"
  exit 1
fi
echo "as on 2026-11-30 with podman $version: the limit of processes changed, too"
