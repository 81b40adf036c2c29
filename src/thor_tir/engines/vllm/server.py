"""One vLLM server: started, waited for, restarted when it dies, ended with us.

It listens on a Unix socket in a folder that only this user can enter: its administrative routes load weights and call
methods by name (`/collective_rpc`), so whoever reaches them owns the process.
"""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import IO

import httpx

from thor_tir.errors import EngineFault, UsageError

IN_SERVER = Path(__file__).parent / "in_server"
"""Folder with what runs inside vLLM's workers."""
SERVED_NAME = "policy"
"""Name of the model on the server."""
_PR_SET_PDEATHSIG = 1
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

    def command(self, model: Path, socket: Path) -> list[str]:
        """Command line that serves a model folder on a socket."""
        return [
            *(self.python, "-m", "vllm.entrypoints.openai.api_server"),
            *("--model", str(model), "--served-model-name", SERVED_NAME, "--uds", str(socket)),
            *("--dtype", self.dtype, "--max-num-seqs", str(self.max_num_seqs)),
            *("--tensor-parallel-size", str(self.tensor_parallel_size)),
            *("--gpu-memory-utilization", str(self.gpu_memory_utilization)),
            *("--block-size", str(self.block_size), "--enable-prefix-caching"),
            *("--logprobs-mode", "processed_logprobs", "--generation-config", "vllm"),
            *("--worker-extension-cls", "thor_weights.WeightUpdate", "--disable-uvicorn-access-log"),
            *self.arguments,
        ]


class VLLMServer:
    """The process and the way to it; made and used in one event loop."""

    def __init__(self, model: Path, config: VLLMConfig) -> None:
        self.model = model
        self.config = config
        self.num_starts = 0
        """Times that the server was started."""
        self._folder = tempfile.TemporaryDirectory(prefix="thor-vllm-", ignore_cleanup_errors=True)
        self._socket = Path(self._folder.name) / "socket"
        self._log = Path(self._folder.name) / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._client: httpx.AsyncClient | None = None

    @property
    def client(self) -> httpx.AsyncClient:
        """Connections to the running server. Raises EngineFault where it is not open."""
        if self._client is None:
            raise EngineFault("the vLLM server is not open")
        return self._client

    @property
    def pid(self) -> int | None:
        """Process id of the server; None where there is none."""
        return None if self._process is None else self._process.pid

    @property
    def is_alive(self) -> bool:
        """True while the process runs."""
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Start the process and wait until it answers.

        Raises UsageError where the interpreter has no vLLM, EngineFault where the server ends or does not answer.
        """
        await asyncio.to_thread(self._check_environment)
        self._socket.unlink(missing_ok=True)
        self.num_starts += 1
        with self._log.open("ab") as log:
            self._process = await asyncio.to_thread(self._popen, log)
        transport = httpx.AsyncHTTPTransport(
            uds=str(self._socket), limits=httpx.Limits(max_connections=None, max_keepalive_connections=64)
        )
        self._client = httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=None)
        try:
            await self._until_healthy(self._process)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the process and what it started. Stopping again does nothing."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None
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

    def _check_environment(self) -> None:
        command = [self.config.python, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('vllm') is None)"]
        try:
            found = subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError as error:
            raise UsageError(
                f"{self.config.python} cannot be started ({error.strerror}): see --engine.python"
            ) from error
        if not found:
            raise UsageError(
                f"{self.config.python} has no vLLM: name the interpreter of an environment that has it "
                "(--engine.python); docs/vllm.md says how to make one"
            )

    def _popen(self, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        environment = {**_CPU_SETTINGS, **os.environ, **self.config.environment}
        environment |= {"VLLM_SERVER_DEV_MODE": "1", "VLLM_NO_USAGE_STATS": "1", "PYTHONPATH": str(IN_SERVER)}
        if self.config.num_threads is not None:
            environment["OMP_NUM_THREADS"] = str(self.config.num_threads)
        return subprocess.Popen(
            self.config.command(self.model, self._socket),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )

    async def _until_healthy(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = monotonic() + self.config.start_s
        while True:
            if process.poll() is not None:
                raise EngineFault(f"the vLLM server ended with status {process.returncode}: {self.last_words()}")
            with suppress(httpx.TransportError):
                if (await self.client.get("/health", timeout=5)).status_code == 200:
                    return
            if monotonic() > deadline:
                raise EngineFault(
                    f"the vLLM server does not answer after {self.config.start_s:.0f} s: {self.last_words()}"
                )
            await asyncio.sleep(0.25)


def _end_with_parent() -> None:
    """Let the kernel end the server when the process that started it is gone; called between fork and exec."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
