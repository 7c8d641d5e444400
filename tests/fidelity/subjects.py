"""The real things that labctl's models are held against: where they are, and how they are run in a sandbox.

`scripts/test` unpacks Debian's packages into a separate folder (LABCTL_SUBJECTS) instead of installing
them: an installed docker.io would start a daemon that rewrites the machine's own network.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from labctl.core.iptables import Backend
from labctl.kernel.firewall import backend, commands
from labctl.kernel.host import paths
from labctl.kernel.namespaces.thread import MS_BIND, mount
from tests.support import kernels

UNPACKED = Path(os.environ.get("LABCTL_SUBJECTS", "/nonexistent"))
# what the real things write rules with, as the labs that they are compared with do: LABCTL_FIREWALL, or what works
BACKEND: Backend = backend.requested_backend(None) or ("nft" if kernels.backend_problem("legacy") else "legacy")
NEWER = Path(os.environ.get("LABCTL_ENGINES", "/nonexistent"))  # Docker Engines of newer distributions, each a tree


def run(*words: str | Path, env: dict[str, str] | None = None, text: str | None = None, check: bool = True) -> str:
    """Run a command and return what it printed. Raises AssertionError with its words and its complaint."""
    done = subprocess.run(
        [str(word) for word in words], input=text, capture_output=True, text=True, env=env, timeout=60
    )
    said = f"{' '.join(map(str, words))}: {done.stdout}{done.stderr}"
    assert done.returncode == 0 or not check, said
    return done.stdout


def ip(words: str) -> None:
    """Run one `ip` command."""
    run("ip", *words.split())


def add(lab: str, *nodes: str) -> None:
    """Namespaces under the names that labctl's observer knows, made by `ip netns`."""
    for node in nodes:
        ip(f"netns add {paths.netns_name(lab, node)}")


def remove(lab: str) -> None:
    """Every namespace of a lab that was made here."""
    for node in paths.labs().get(lab, ()):
        run("ip", "netns", "del", paths.netns_name(lab, node), check=False)


def write(lab: str, node: str, settings: dict[str, int]) -> None:
    """Write kernel settings, by their names below `net.`, in a namespace."""
    for name, value in settings.items():
        inside(lab, node, "sh", "-c", f"echo {value} > /proc/sys/net/{name.replace('.', '/')}")


def inside(
    lab: str,
    node: str,
    *words: str | Path,
    env: dict[str, str] | None = None,
    text: str | None = None,
    check: bool = True,
) -> str:
    """Run a command in the network of a namespace, and nothing else of it."""
    return run("nsenter", f"--net={paths.netns_path(lab, node)}", *words, env=env, text=text, check=check)


def cable(lab: str, node: str, other: str, device: str) -> None:
    """A cable from `node`'s eth0 to a device of another namespace, both ends up."""
    one, two = paths.netns_name(lab, node), paths.netns_name(lab, other)
    ip(f"link add eth0 netns {one} type veth peer name {device} netns {two}")
    ip(f"-n {one} link set eth0 up")
    ip(f"-n {two} link set {device} up")


# ---- CNI plugins -------------------------------------------------------------------------------------


def cni_folder() -> Path | None:
    """Where the reference plugins of CNI are; None if they are nowhere."""
    folders = (UNPACKED / "usr/lib/cni", Path("/usr/lib/cni"), Path("/opt/cni/bin"))
    return next((folder for folder in folders if (folder / "bridge").exists()), None)


def newer_cni_folder() -> Path | None:
    """Where the reference plugins of CNI 1.9 are, which write rules of nft; None if they are nowhere."""
    folders = (UNPACKED / "forky/usr/lib/cni", NEWER / "forky/usr/lib/cni")
    return next((folder for folder in folders if (folder / "bridge").exists()), None)


class Cni:
    """The runtime's part of CNI, as a kubelet plays it: a chain of plugins, ADD for one pod after the other."""

    def __init__(self, lab: str, node: str, work: Path, *folders: Path, backend: Backend = BACKEND) -> None:
        self.lab, self.node, self.work, self.folders = lab, node, work, folders
        self.path = f"{commands.make_tool_directory(work / 'bin', backend)}:{os.environ['PATH']}"

    def add(self, pod: str, plugins: list[dict[str, Any]], runtime: dict[str, Any] | None = None) -> dict[str, Any]:
        """Wire one pod by a chain of plugins; the result of the last."""
        result: dict[str, Any] = {}
        for plugin in plugins:
            said = self._call("ADD", pod, plugin, result, runtime)
            result = json.loads(said) if plugin["type"] != "loopback" else result
        return result

    def remove(
        self, pod: str, plugins: list[dict[str, Any]], result: dict[str, Any], runtime: dict[str, Any] | None = None
    ) -> None:
        """Take one pod's wiring away again, by the same chain the other way round."""
        for plugin in reversed(plugins):  # with nft, DEL of the reference plugins fails after it has removed all
            check = plugin.get("ipMasqBackend") != "nftables"
            self._call("DEL", pod, plugin, result, runtime, check=check)

    def _call(
        self,
        command: str,
        pod: str,
        plugin: dict[str, Any],
        result: dict[str, Any],
        runtime: dict[str, Any] | None,
        *,
        check: bool = True,
    ) -> str:
        asked = {"cniVersion": "0.4.0", "name": "net", **plugin}
        if "ipam" in asked:
            asked["ipam"] = {"dataDir": str(self.work / "ipam"), **asked["ipam"]}
        if runtime and asked.get("capabilities"):
            asked["runtimeConfig"] = {key: runtime[key] for key in asked.pop("capabilities") if key in runtime}
        if result:
            asked["prevResult"] = result
        env = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": pod,
            "CNI_NETNS": str(paths.netns_path(self.lab, pod)),
            "CNI_IFNAME": "lo" if plugin["type"] == "loopback" else "eth0",
            "CNI_PATH": ":".join(map(str, self.folders)),
            "PATH": self.path,
        }
        file = next(folder / plugin["type"] for folder in self.folders if (folder / plugin["type"]).exists())
        return inside(self.lab, self.node, file, env=env, text=json.dumps(asked), check=check)


# ---- Docker ------------------------------------------------------------------------------------------

DAEMON = """
# a mount and process namespace of its own: what the daemon writes outside its folders goes with it
set -e
mount -t tmpfs none "$WORK"
mkdir "$WORK/upper" "$WORK/scratch"
if [[ -n $TREE ]]; then # an engine of another distribution, with its own libraries and its own iptables
  mkdir "$WORK/root"
  mount -t overlay -o "lowerdir=$TREE,upperdir=$WORK/upper,workdir=$WORK/scratch" none "$WORK/root"
  cd "$WORK/root"
  mkdir -p proc sys dev run tmp etc var/lib usr/local/sbin ".$WORK"
  for folder in bin sbin lib lib64; do [[ -e $folder ]] || ln -s "usr/$folder" "$folder"; done
  for tool in iptables ip6tables; do ln -s "/usr/sbin/xtables-$BACKEND-multi" "usr/local/sbin/$tool"; done
  for folder in proc sys dev; do mount --rbind "/$folder" "$folder"; done
  mount --bind "$WORK" ".$WORK"
  PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
  cd /
  enter=(chroot "$WORK/root")
else
  mount -t overlay -o "lowerdir=/etc,upperdir=$WORK/upper,workdir=$WORK/scratch" none /etc
  mount -t tmpfs none /var/lib
  mount -t tmpfs none /run
  enter=()
fi
echo '{}' >"$WORK/none.json"
exec nsenter --net=/proc/self/fd/0 "${enter[@]}" dockerd --data-root "$WORK/data" --exec-root "$WORK/exec" \
  -H "unix://$WORK/sock" -p "$WORK/pid" --config-file "$WORK/none.json" \
  --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$GROUP" $MORE
"""
PATIENCE = 30.0  # seconds; it is up in one


def docker_path() -> str | None:
    """A PATH on which a whole Docker Engine is; None if there is none."""
    path = f"{UNPACKED}/usr/bin:{UNPACKED}/usr/sbin:{UNPACKED}/sbin:{os.environ['PATH']}"
    return path if all(shutil.which(tool, path=path) for tool in ("dockerd", "docker", "containerd", "runc")) else None


def busybox() -> Path | None:
    """A busybox that needs no library, to make an image of."""
    places_of_it = (UNPACKED / "bin/busybox", UNPACKED / "usr/bin/busybox", Path("/bin/busybox"))
    static = (file for file in places_of_it if file.exists() and b"/ld-" not in file.read_bytes()[:4096])
    return next(static, None)


class Docker:
    """A Docker daemon in one namespace of a lab, and in separate mount and process namespaces.

    Ending its first process ends all that it started; its mounts and files go with its namespaces. `more` are words
    for dockerd; `tree` is the root of another distribution: its engine, libraries and iptables run then.
    """

    def __init__(self, lab: str, host: str, work: Path, path: str, more: str = "", tree: str = "") -> None:
        self.lab, self.work, self.group = lab, work, f"labctl-fidelity-{os.getpid()}"
        self.env = {
            **os.environ,
            "PATH": f"{commands.make_tool_directory(work.parent / 'tools', BACKEND)}:{path}",
            "WORK": str(work),
            "GROUP": self.group,
            "MORE": more,
            "TREE": tree,
            "BACKEND": BACKEND,
        }
        work.mkdir()
        self.log = work.parent / "dockerd.log"
        words = ["unshare", "--mount", "--mount-proc", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        with self.log.open("w") as log, paths.netns_path(lab, host).open() as network:  # the daemon's mounts hide it
            self.process = subprocess.Popen(
                [*words, "bash", "-c", DAEMON], env=self.env, stdin=network, stdout=log, stderr=log
            )

    @property
    def pid(self) -> int:
        """The daemon, as this side knows it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children else 0

    def wait(self) -> None:
        """Wait until the daemon answers. Skips where it gave up; raises AssertionError where it never answers."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and self.process.poll() is None:
            if self.pid and self._client("version").returncode == 0:
                return
            time.sleep(0.05)
        if self.process.poll() is not None:
            pytest.skip(f"a Docker Engine cannot run here: {self.log.read_text()[-300:].strip()}")
        raise AssertionError(f"dockerd does not answer: {self.log.read_text()[-800:]}")

    def _client(self, *words: str, stdin: Any = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
        enter = ["nsenter", "-t", str(self.pid), "--mount", "docker", "-H", f"unix://{self.work}/sock"]
        return subprocess.run([*enter, *words], env=self.env, stdin=stdin, capture_output=True, text=True, timeout=60)

    def __call__(self, words: str) -> str:
        """Run one docker command and return what it printed. Raises AssertionError with its complaint."""
        done = self._client(*words.split())
        assert done.returncode == 0, f"docker {words}: {done.stderr}"
        return done.stdout.strip()

    def image(self, binary: Path) -> None:
        """An image called `busy` that holds nothing but a static busybox."""
        tree = self.work.parent / "image"
        (tree / "bin").mkdir(parents=True)
        shutil.copy(binary, tree / "bin/busybox")
        (tree / "bin/sleep").symlink_to("busybox")
        with subprocess.Popen(["tar", "-C", str(tree), "-c", "."], stdout=subprocess.PIPE) as tar:
            done = self._client("import", "-", "busy", stdin=tar.stdout)
        assert done.returncode == 0, done.stderr

    def start(self, name: str, words: str = "") -> None:
        """A container that sleeps; its namespace gets its name in the lab, so that labctl's observer sees it."""
        self(f"run -d --name {name} {words} busy /bin/sleep 600")
        self.show(name)

    def show(self, name: str) -> None:
        """Bind a running container's network namespace to the name `labctl.<lab>.<container>`."""
        key = self("inspect -f {{.NetworkSettings.SandboxKey}} " + name)
        target = paths.netns_path(self.lab, name)
        target.touch()
        mount(f"/proc/{self.pid}/root{key}", str(target), None, MS_BIND)

    def shown(self) -> tuple[str, ...]:
        """Every namespace of this lab: the host, what it hangs on, and the containers."""
        return paths.labs()[self.lab]

    def close(self) -> None:
        """End the daemon and all it started; take away the cgroups that it made."""
        with suppress(AssertionError, ProcessLookupError, subprocess.TimeoutExpired):
            if self.pid:
                self("rm -f " + self("ps -aq").replace("\n", " "))  # what sleeps takes ten seconds to stop
                os.kill(self.pid, signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()  # and, by --kill-child, all below it
            self.process.wait(PATIENCE)
        for made in Path("/sys/fs/cgroup").glob(f"**/{self.group}"):
            for folder, _, _ in os.walk(made, topdown=False):
                with suppress(OSError):
                    os.rmdir(folder)
