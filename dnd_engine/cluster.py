"""Runs many independent jobs on a Ray cluster. Knows nothing about their content.

Without a cluster, callers do the same work one after the other with `map`. Ray is optional: the
extra `ray` installs it.
"""

import logging
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from dnd_engine.errors import ConfigError, DndError, JobError
from dnd_engine.files import existing
from dnd_engine.limits import check_least, check_positive

Job = TypeVar("Job")
Result = TypeVar("Result")

_HOST_AND_PORT = re.compile(r"([^\s/]+):(\d+)")
_CONNECT_SECONDS = 30.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A Ray cluster and the resources that each job reserves."""

    address: str = "auto"
    """Address of the head node, `HOST:PORT`. `auto` finds the cluster that this machine is part of;
    `local` starts one on this machine alone."""
    cpus: float = 1
    """Processors that each job reserves, and threads that it uses."""
    gpus: float = 0
    """GPUs that each job reserves; 0.5 lets two jobs share one."""
    retries: int = 3
    """Number of restarts of a job whose process or machine died."""

    def __post_init__(self) -> None:
        check_positive(self, "cpus")
        check_least(self, 0, "gpus", "retries")
        if self.address not in ("auto", "local") and not _HOST_AND_PORT.fullmatch(self.address):
            raise ConfigError(
                f"`{self.address}` is not a cluster address. Give HOST:PORT as `ray start "
                "--head` prints it, `auto` on a machine of the cluster, or `local`."
            )

    def run(self, work: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        """Do the work for every job, and yield results as they come, in no order.

        Jobs that are left when the caller stops are cancelled.

        Args:
            work: A function that other processes can import, or a `partial` of one.
            jobs: Arguments, one call each. A call must be safe to repeat, because jobs may restart.

        Raises:
            DndError: Raised by a job, which is then not retried.
            JobError: If there is no cluster, or it lost one job too often.
        """
        if not jobs:
            return
        ray = _ray()
        with self._connected(ray):
            self._warn_of_waiting(ray)
            # Sent once, and not again with every job.
            once = ray.put(work)
            # `ray.remote` refuses a `partial`, so `_do` is sent instead and calls it.
            remote = ray.remote(_do).options(
                num_cpus=self.cpus, num_gpus=self.gpus, max_retries=self.retries
            )
            waiting = [remote.remote(once, job) for job in jobs]
            try:
                while waiting:
                    (ended,), waiting = ray.wait(waiting, num_returns=1)
                    yield self._result(ray, ended)
            finally:
                for job in waiting:
                    ray.cancel(job, force=True)

    @contextmanager
    def _connected(self, ray: Any) -> Iterator[None]:
        # Ray reports usage to its makers' server by default.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            if match := _HOST_AND_PORT.fullmatch(self.address):
                # Check the address first: Ray itself retries for minutes.
                socket.create_connection((match[1], int(match[2])), _CONNECT_SECONDS).close()
            ray.init(
                address=self.address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                # A cluster that runs already has its dashboard or not.
                **({"include_dashboard": False} if self.address == "local" else {}),
            )
        except (ConnectionError, OSError, OverflowError, RuntimeError, ValueError) as error:
            reason = str(error).rstrip(".")
            raise JobError(
                f"no Ray cluster at `{self.address}`: {reason}. Start one with `ray start --head`, "
                "or give `local` to use this machine alone."
            ) from error
        try:
            yield
        finally:
            ray.shutdown()

    def _warn_of_waiting(self, ray: Any) -> None:
        """Warn if no node can take a job now; a suitable one may still join."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus}
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(all(node.get(k, 0) >= n for k, n in wanted.items()) for node in nodes):
            logger.warning(
                "no node of the cluster has %g CPUs and %g GPUs, as each job asks for; jobs wait "
                "until one joins",
                self.cpus,
                self.gpus,
            )

    def _result(self, ray: Any, ended: Any) -> Any:
        try:
            return ray.get(ended)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, DndError):
                # As without a cluster: the job's own error, not Ray's report of it.
                raise error.cause from None
            raise
        except ray.exceptions.RayError as error:
            raise JobError(
                f"the cluster lost a job (attempts: {self.retries + 1}); the last ended with "
                f"{type(error).__name__}: {str(error).strip().splitlines()[0]} Finished jobs are "
                "kept; look at Ray's logs on that machine, then continue."
            ) from error


def _do(work: Callable[[Job], Result], job: Job) -> Result:
    return work(job)


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise JobError(
            "jobs on a cluster need Ray, which is not installed. Install it with "
            "`pip install -e '.[ray]'`."
        ) from error
    return ray


def named_anywhere(model: str) -> str:
    """Return a model's name that other working directories understand: folders become absolute."""
    path = existing(model)
    return str(path.absolute()) if path else model
