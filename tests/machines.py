"""Machines that are really apart: namespaces of this one, joined by a switch that can fail.

A machine has its own network, processes, host name and files: /mnt is its disk, and /dev/shm and
the disks of the others are hidden. The switch passes Ethernet frames on. It can cut a machine off,
delay frames and lose some of them, by a seeded generator.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import select
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pytest

from tests.conftest import environment

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
FRAME = 65536  # bytes, at least those of one frame
NETWORK = "10.77.0."

# the first process waits for the end of its standard input, which ends with the test; with it ends
# the whole machine
INIT = """
mount --bind "$2" /mnt && mount -t tmpfs tmpfs "$3" && mount -t tmpfs tmpfs /dev/shm
mount --bind /mnt/hosts /etc/hosts
mkdir -p /mnt/tmp && hostname "$1" && ip link set lo up && echo ready
cat
echo off  # a shell that does not become cat collects the processes whose parents have ended
"""


class Machine:
    """A machine that runs commands."""

    def __init__(self, names: Sequence[str], place: int, disks: Path) -> None:
        addresses = [f"{NETWORK}{number}" for number in range(1, len(names) + 1)]
        self.name, self.address, self.disk = names[place], addresses[place], disks / names[place]
        self.disk.mkdir()
        self._started: list[subprocess.Popen[str]] = []
        known = zip(["127.0.0.1", *addresses], ["localhost", *names], strict=True)
        (self.disk / "hosts").write_text("".join(f"{where} {who}\n" for where, who in known))
        words = ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc"]
        words += ["--propagation=private", "--kill-child", "sh", "-ec", INIT, "init", self.name]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [*words, str(self.disk), str(disks)], stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        assert self._process.stdout
        assert self._process.stderr
        if self._process.stdout.readline() != "ready\n":
            refused = self._process.stderr.read().strip()
            self.kill()
            raise OSError(refused)
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        self.init = int(children.read_text())

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command whose working directory is the machine's disk."""
        inside = [
            "nsenter",
            "-t",
            str(self.init),
            "-n",
            "-m",
            "-u",
            "-i",
            "-p",
            "env",
            "-C",
            "/mnt",
        ]
        own = {"HOME": "/mnt", "TMPDIR": "/mnt/tmp", "RAY_ADDRESS": "", "PYTHONUNBUFFERED": "1"}
        options = {"env": {**environment(), **own}, "stdin": subprocess.DEVNULL, **options}
        self._started.append(subprocess.Popen([*inside, *words], text=True, **options))
        return self._started[-1]

    def run(self, *words: str, **options: Any) -> str:
        """Run a command to its end; return what it printed. Raises AssertionError if it fails."""
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = self.start(*words, **pipe, **options)
        printed, _ = process.communicate(timeout=300)
        assert process.returncode == 0, printed
        return printed

    def signal(self, name: str) -> None:
        """Send a signal to every process of the machine, such as STOP."""
        self.run("sh", "-c", f"kill -{name} -1")

    def kill(self) -> None:
        """Switch it off: all of its processes end at once. Its disk stays."""
        self._process.kill()
        self._process.communicate()
        for process in self._started:
            process.wait(30)


class Switch:
    """Joins machines. A context manager; while it is open a thread passes frames on."""

    def __init__(self, machines: Sequence[Machine], seed: int = 0) -> None:
        self.delay_s, self.loss = 0.0, 0.0  # of every frame; the share that is lost
        self.cut: set[int] = set()  # the machines, by their place, that no frame reaches or leaves
        self._chance, self._over = np.random.default_rng(seed), threading.Event()
        self._count = count()
        self._waiting: list[tuple[float, int, int, bytes]] = []  # when, which, to whom, the frame
        self._taps = [_join(machine, n) for n, machine in enumerate(machines)]
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Switch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        for tap in self._taps:
            os.close(tap)

    def _work(self) -> None:
        place = {tap: n for n, tap in enumerate(self._taps)}
        while not self._over.is_set():
            due = self._waiting[0][0] - time.monotonic() if self._waiting else 0.1
            for tap in select.select(self._taps, [], [], min(0.1, max(0.0, due)))[0]:
                with suppress(OSError):  # its machine is off
                    self._take(place[tap], os.read(tap, FRAME))
            while self._waiting and self._waiting[0][0] <= time.monotonic():
                _, _, receiver, frame = heapq.heappop(self._waiting)
                with suppress(OSError):
                    os.write(self._taps[receiver], frame)

    def _take(self, sender: int, frame: bytes) -> None:
        everybody = frame[0] & 1
        receivers = range(len(self._taps)) if everybody else [frame[5]]
        for receiver in receivers:
            if receiver == sender or not 0 <= receiver < len(self._taps):
                continue
            if {sender, receiver} & self.cut or self._chance.random() < self.loss:
                continue
            item = time.monotonic() + self.delay_s, next(self._count)
            heapq.heappush(self._waiting, (*item, receiver, frame))


def _join(machine: Machine, place: int) -> int:
    """Give a machine its network card; return the other end of the cable."""
    name = f"fs{os.getpid() % 100000}x{place}"  # at most 15 characters
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
    # the last byte of its address says who it is
    hardware = f"02:00:00:00:00:{place:02x}"
    subprocess.run(["ip", "link", "set", name, "address", hardware, "mtu", "9000"], check=True)
    subprocess.run(["ip", "link", "set", name, "netns", str(machine.init)], check=True)
    machine.run("ip", "address", "add", f"{machine.address}/24", "dev", name)
    machine.run("ip", "link", "set", name, "up")
    return tap


@contextmanager
def machines_apart(disks: Path, *names: str) -> Iterator[tuple[list[Machine], Switch]]:
    """Yield machines that are on, and their switch; skip the test where namespaces are refused."""
    machines: list[Machine] = []
    with ExitStack() as stack:
        try:
            for place in range(len(names)):
                machines.append(Machine(names, place, disks))
                stack.callback(machines[-1].kill)
            switch = Switch(machines)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no machines in namespaces here: {error}")
        yield machines, stack.enter_context(switch)
