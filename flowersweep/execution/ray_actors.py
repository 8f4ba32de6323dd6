"""Workers as actors on a Ray cluster that is there already: Ray finds each a node with the
resources it needs.

Messages go over Ray, checkpoints and results with them, so that nodes need share no folder: the
coordinator alone writes the study's.
"""

from __future__ import annotations

import importlib
import logging
import queue
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from flowersweep import signals
from flowersweep.errors import ConfigError

log = logging.getLogger(__name__)

UNSHOWN = ("memory", "object_store_memory")
# that Ray names otherwise in a request; the rest go by their names
RESOURCES = {"CPU": "num_cpus", "GPU": "num_gpus"}


class RayWorkerActor:
    """A worker in its actor: what the coordinator tells it, and what it has to say."""

    def __init__(self, path: Sequence[str]) -> None:
        sys.path += [folder for folder in path if folder not in sys.path]
        worker = importlib.import_module("flowersweep.execution.worker")
        self._inbox: queue.Queue[Any] = queue.Queue()
        self._outbox: queue.Queue[Any] = queue.Queue()
        threading.Thread(
            target=worker.serve, args=(self._inbox.get, self._outbox.put), daemon=True
        ).start()

    def tell(self, message: Any) -> None:
        """Take a message of the coordinator."""
        self._inbox.put(message)

    def hear(self) -> Any:
        """Wait for the next message to the coordinator."""
        return self._outbox.get()


class RayConnection:
    """A worker's actor, and the message that is awaited from it.

    It dies with the coordinator: Ray ends what a driver started.
    """

    def __init__(self, ray: Any, actor: Any) -> None:
        self.ray, self.actor, self.awaited = ray, actor, actor.hear.remote()

    def send(self, message: Any) -> None:
        self.actor.tell.remote(message)  # if it is gone, what is heard next says so

    def receive(self) -> Any:
        try:
            message = self.ray.get(self.awaited)
        except self.ray.exceptions.RayTaskError:  # a bug of ours, in the actor
            raise
        except self.ray.exceptions.RayError as error:  # it died, has no memory, or cannot start
            said = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise EOFError(" ".join(dict.fromkeys([said[0], said[-1]]))) from None
        self.awaited = self.actor.hear.remote()
        return message

    def end(self) -> None:
        with suppress(Exception):  # whatever Ray says of an actor that is gone already
            self.ray.kill(self.actor)


class RayBackend:
    """Starts workers on the cluster.

    Raises ConfigError if Ray or the cluster is not there, or no node has what a worker needs.
    """

    local, ordered = False, False  # a node that is lost would hold up all others

    def __init__(
        self,
        workers: int,
        address: str,
        resources: Mapping[str, float] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
    ) -> None:
        self._ray, resources = _ray(), resources or {"CPU": 1}
        self._joined = not self._ray.is_initialized()
        if self._joined:
            _join(self._ray, address, dict(runtime_env or {}))
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        try:
            require_room(resources, nodes, workers)
        except ConfigError:
            self.close()
            raise
        named = {RESOURCES[name]: amount for name, amount in resources.items() if name in RESOURCES}
        others = {name: amount for name, amount in resources.items() if name not in RESOURCES}
        # two methods at a time: one takes messages while the other waits for some; a worker that is
        # gone is our own to replace
        self._options = {
            "num_cpus": 0,
            **named,
            "resources": others,
            "max_restarts": 0,
            "max_task_retries": 0,
            "max_concurrency": 2,
        }

    def start(self) -> RayConnection:
        return RayConnection(
            self._ray, self._ray.remote(RayWorkerActor).options(**self._options).remote(sys.path)
        )

    def ready(self, links: Sequence[RayConnection], seconds: float) -> list[RayConnection]:
        by_message = {link.awaited: link for link in links}
        done, _ = self._ray.wait([*by_message], timeout=seconds)
        return [by_message[message] for message in done]

    def close(self) -> None:
        if self._joined:
            self._ray.shutdown()


def _ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise ConfigError(
            "executor=ray needs Ray: pip install 'flowersweep[ray]', on every node of the cluster"
        ) from error
    return ray


def _join(ray: Any, address: str, runtime_env: dict[str, Any]) -> None:
    try:
        with signals.preserve_sigterm():  # Ray would end this process by sys.exit
            ray.init(
                address=address,
                runtime_env=runtime_env or None,
                log_to_driver=True,
                logging_level="WARNING",
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"executor.address={address}: no Ray cluster is found there ({error}). "
            "Start one: ray start --head"
        ) from error


def require_room(
    resources: Mapping[str, float], nodes: Sequence[Mapping[str, float]], workers: int
) -> None:
    """Raise ConfigError if no node has, even with nothing else on it, what one worker needs; Ray
    would wait for it for ever.

    Warns if the cluster has room for fewer workers than are wanted: trials then run on those that
    there are.
    """
    wanted = {name: amount for name, amount in resources.items() if amount > 0}
    room = sum(
        min((int(node.get(name, 0) // amount) for name, amount in wanted.items()), default=workers)
        for node in nodes
    )
    if room == 0:
        asked = ", ".join(f"{name}: {amount:g}" for name, amount in wanted.items())
        there = (
            "; ".join(f"{name} ({times} x)" for name, times in Counter(map(_named, nodes)).items())
            or "none"
        )
        raise ConfigError(
            f"executor.resources={{{asked}}} is more than any node of the Ray cluster has. "
            f"Nodes: {there}"
        )
    if room < workers:
        log.warning(
            "the Ray cluster has room for %d of sweep.workers=%d; the others begin when it has "
            "more",
            room,
            workers,
        )


def _named(node: Mapping[str, float]) -> str:
    """What a node has that can be asked for by name: not what Ray counts for itself."""
    shown = {
        name: amount
        for name, amount in node.items()
        if name not in UNSHOWN and not name.startswith("node:")
    }
    return ", ".join(f"{name}: {amount:g}" for name, amount in sorted(shown.items()))
