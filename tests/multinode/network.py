"""Two hosts on one machine: network namespaces that see each other over a virtual cable and nothing else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

INTERFACE = "eth0"
PORT = 29500


@dataclass(frozen=True)
class Host:
    """namespace: the command prefix that runs a program on this host; name: as in a hostfile."""

    name: str
    address: str
    namespace: tuple[str, ...] = ()

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path, private: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start ``command`` here, output into ``log``. private: a folder that only this host sees, empty at first."""
        if private is not None:
            # The namespace has a mount table of its own: nobody else sees the mount, and it goes with the process.
            command = ["sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(private), *command]
        with log.open("wb") as output:
            return subprocess.Popen(
                [*self.namespace, *command],
                env=dict(environment),
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def why_not() -> str | None:
    """Why this machine cannot hold two hosts; None if it can."""
    if shutil.which("ip") is None:
        return "two hosts need the ip command (package iproute2)"
    try:
        with two_hosts() as hosts:
            reach = ["sh", "-c", "mount -t tmpfs none /mnt && ip route get " + hosts[1].address]
            subprocess.run([*hosts[0].namespace, *reach], check=True, capture_output=True, timeout=20)
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        return f"network namespaces cannot be made here (root is needed): {lines[-1]}"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"network namespaces cannot be made here: {error}"
    return None


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts joined by a cable; they are gone afterwards, whatever happened."""
    unique = f"xtc-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    hosts = tuple(
        Host(f"node-{index}", f"10.213.0.{index + 1}", ("ip", "netns", "exec", f"{unique}-{index}")) for index in (0, 1)
    )
    first, second = (host.namespace[-1] for host in hosts)
    with ExitStack() as stack:
        for name in (first, second):
            _ip("netns", "add", name)
            # The last namespace takes its end of the cable with it, and thereby both.
            stack.callback(_ip, "netns", "delete", name, check=False)
        # Both ends are born inside the namespaces, so no name can clash with an interface of the machine.
        _ip("-n", first, "link", "add", INTERFACE, "type", "veth", "peer", "name", INTERFACE, "netns", second)
        for host in hosts:
            _ip("-n", host.namespace[-1], "address", "add", f"{host.address}/24", "dev", INTERFACE)
            for interface in ("lo", INTERFACE):
                _ip("-n", host.namespace[-1], "link", "set", interface, "up")
        yield hosts[0], hosts[1]


def finish(processes: Sequence[subprocess.Popen[bytes]], seconds: float) -> list[int | None]:
    """Wait for all; what is still there after ``seconds`` is killed with its children and has no exit code."""
    end = time.monotonic() + seconds
    try:
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))
        return [process.poll() for process in processes]
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=True, timeout=20)
