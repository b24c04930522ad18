"""Several nodes on one machine: each raylet in a network namespace of its own, which is a host to Ray."""

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

BIN = Path(sys.executable).parent
COUNT = itertools.count()
TOKEN = "0123456789abcdef" * 4
GCS_PORT, DASHBOARD_PORT = 6394, 8269
UP_S = 120


def ip(*words):
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def namespaces_permitted():
    """Whether this user may make what the machines are made of, and run something in it."""
    if shutil.which("ip") is None:
        return False
    name = f"sb{os.getpid()}p"
    try:
        ip("netns", "add", name)
        try:
            ip("link", "add", name, "type", "bridge")
            ip("link", "add", f"{name}v", "master", name, "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("netns", "exec", name, "sh", "-c", "mount --bind /tmp /tmp")
        finally:
            ip("netns", "del", name)
            ip("link", "del", name)
    except subprocess.CalledProcessError:
        return False
    return True


class Machines:
    """A head without cores and nodes of one core each. Node 1 is the head; numbers are not used twice.

    What runs on the host itself is reached at ``host``.
    """

    def __init__(self, *, token=True):
        count = next(COUNT)
        self.name = f"sb{os.getpid()}{chr(ord('a') + count)}"
        self.subnet = f"10.{77 + count}.{os.getpid() % 250}"
        self.host = f"{self.subnet}.254"
        self.temporary = Path(tempfile.mkdtemp(prefix="sb-", dir="/tmp"))  # sockets allow short paths only
        self._ray = self.temporary / "ray"
        self._ray.mkdir()
        self.nodes, self._last = {}, 0
        authentication = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN} if token else {"RAY_AUTH_MODE": "disabled"}
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
            **authentication,
            "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{DASHBOARD_PORT}",
            "RAY_USAGE_STATS_ENABLED": "0",
            "HOME": str(self.temporary),
            "TMPDIR": str(self.temporary),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "GLOO_SOCKET_IFNAME": "eth0",
        }
        ip("link", "add", self.name, "type", "bridge")
        ip("addr", "add", f"{self.host}/24", "dev", self.name)
        ip("link", "set", self.name, "up")

    @property
    def address(self):
        return f"{self.subnet}.1:{GCS_PORT}"

    def start_head(self, *options):
        joined = ("--head", f"--port={GCS_PORT}", f"--dashboard-port={DASHBOARD_PORT}", f"--temp-dir={self._ray}")
        self._start(*joined, "--num-cpus=0", *options)
        self.wait("job", "list")

    def start_node(self):
        """One more node of one core; returns its number once it is there."""
        number = self._start(f"--address={self.address}", "--num-cpus=1")
        self._until_joined(number)
        return number

    def _until_joined(self, number):
        said, limit = self.temporary / f"node-{number}.out", time.monotonic() + UP_S
        while "Ray runtime started" not in said.read_text():
            assert time.monotonic() < limit, f"node {number} did not start: {said.read_text()[-500:]}"
            time.sleep(0.2)

    def _start(self, *options):
        self._last += 1
        number = self._last
        words = [str(BIN / "ray"), "start", "--block", "--disable-usage-stats", "--object-store-memory=80000000"]
        self._make_namespace(number)
        words.append(f"--node-ip-address={self.subnet}.{number}")
        own = {"XDG_CACHE_HOME": str(self.temporary / f"cache-{number}")}
        with (self.temporary / f"node-{number}.out").open("wb") as said:
            self.nodes[number] = subprocess.Popen(
                [*self.inside(number), *self._on_own_disk(number), *words, *options],
                env=self.environment | own,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return number

    def _on_own_disk(self, number):
        """Nodes share all but Ray's folder, where the agent of a new one unpacks a job over what it finds."""
        if number == 1:
            return []
        (disk := self.temporary / f"disk-{number}").mkdir()
        return ["sh", "-c", f'mount --bind {disk} {self._ray} && exec "$@"', "sh"]

    def _make_namespace(self, number):
        namespace, outer = f"{self.name}-{number}", f"{self.name}v{number}"
        ip("netns", "add", namespace)
        ip("link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        ip("link", "set", outer, "master", self.name)
        ip("link", "set", outer, "up")
        inside = ("-n", namespace)
        ip(*inside, "addr", "add", f"{self.subnet}.{number}/24", "dev", "eth0")
        ip(*inside, "link", "set", "eth0", "up")
        ip(*inside, "link", "set", "lo", "up")
        ip(*inside, "route", "add", "default", "via", self.host)  # by it Ray finds what address a node has

    def inside(self, number):
        """The words before a command that runs on a node."""
        return ["ip", "netns", "exec", f"{self.name}-{number}"]

    def processes(self, number):
        """Everything that runs on a node."""
        for word in ip("netns", "pids", f"{self.name}-{number}").split():
            with contextlib.suppress(psutil.NoSuchProcess):
                yield psutil.Process(int(word))

    def titles(self, number):
        for process in self.processes(number):
            with contextlib.suppress(psutil.NoSuchProcess):
                yield " ".join(process.cmdline())

    def busy_with(self, title):
        """A node that runs what Ray calls ``title``, or None."""
        nodes = [number for number in self.nodes if number > 1]
        return next((n for n in nodes if any(line.startswith(title) for line in self.titles(n))), None)

    def kill(self, number):
        """End every process of a node at once, as a machine that loses power does."""
        for process in list(self.processes(number)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.nodes.pop(number).wait(30)
        ip("netns", "del", f"{self.name}-{number}")

    def command(self, *words, **options):
        """What ``subprocess`` takes to run something beside the head, as a user logged in there would."""
        return {
            "args": [*self.inside(1), *map(str, words)],
            "env": self.environment,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            **options,
        }

    def ray(self, *words, **options):
        return subprocess.run(**self.command(BIN / "ray", *words, **options), timeout=UP_S, check=False)

    def wait(self, *words):
        """Until a command of Ray's succeeds on the head."""
        limit = time.monotonic() + UP_S
        while (asked := self.ray(*words)).returncode:
            assert time.monotonic() < limit, asked.stderr[-500:]
            time.sleep(1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for number in reversed(list(self.nodes)):
            self.kill(number)
        ip("link", "del", self.name)
        shutil.rmtree(self.temporary, ignore_errors=True)
