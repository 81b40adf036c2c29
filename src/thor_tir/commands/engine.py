"""`thor engine up` and `thor engine check`: servers for runs to sample from, kept alive, and what one can do."""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import tyro

from thor_tir.commands.options import say
from thor_tir.distributed import gpus, is_free, is_started_together
from thor_tir.errors import EngineFault, UsageError
from thor_tir.on_ray import Group, RayOptions, start_on_ray

if TYPE_CHECKING:
    from thor_tir.console import ConsoleReporter
    from thor_tir.engines.vllm.abilities import Abilities
    from thor_tir.engines.vllm.address_file import AddressFile

WHY = "whoever reaches a server's administrative routes can run code there (/collective_rpc), and there are no keys"
MOST_PORT = 65535
"""The highest port."""


@dataclass(frozen=True, kw_only=True)
class EngineUp:
    """Start vLLM servers for runs to sample from, wait until they serve, and keep them alive until SIGTERM or Ctrl-C.

    Runs use them by `--engine.name vllm --engine.address FILE`. vLLM lives in an environment of its own (docs/vllm.md).
    """

    model: str
    """Hub name, local folder or embedded model with which the servers start; a run puts its own weights there."""
    replicas: int = 1
    """Servers, at ports that follow one another."""
    tensor_parallel: int = 1
    """GPUs over which the model of each server is split."""
    devices: tuple[str, ...] = ()
    """GPUs to use, in order; by default those of CUDA_VISIBLE_DEVICES, else all of this host."""
    host: str = "127.0.0.1"
    """Address to listen on: loopback or a private network."""
    port: int = 8100
    """Port of the first server."""
    force_public: bool = False
    """True listens on an address that other networks may reach, which hands the machine to whoever finds it."""
    python: str = ""
    """Interpreter of the environment that has vLLM; by default that of THOR_VLLM_PYTHON, else this one."""
    dtype: str = ""
    """Precision of weights and cache; by default that of runs, float32 on a CPU and bfloat16 on a GPU. Training on a
    GPU without --bf16 is in float32."""
    max_num_seqs: int = 128
    """Largest number of sequences that a server decodes together."""
    num_threads: int | None = None
    """CPU threads of a server; None for vLLM's own choice."""
    weights: Literal["path", "nccl"] = "path"
    """Way by which runs will bring weights (--engine.weights)."""
    sleep: bool = False
    """True for servers that share GPUs with training (--engine.placement colocated)."""
    arguments: str = ""
    """Further arguments of vLLM's server, in one string."""
    output: Path = Path("runs/engine/addresses.txt")
    """File for the addresses; the servers' logs stand beside it."""
    launcher: Literal["local", "ray"] = "local"
    """Places of the servers: all on this host (`local`), or on the hosts of a Ray cluster, which chooses host and
    port."""
    ray: RayOptions = field(default_factory=RayOptions)
    """Places on a Ray cluster; --ray.gpus are those of each of the --tensor-parallel parts of a server."""

    dry_run: ClassVar[bool] = False
    """Nothing is planned in place of starting servers."""
    num_processes: ClassVar[int] = 1
    """Processes of this host, each of which looks after all servers here."""

    def on_ray(self, words: Sequence[str]) -> int:
        """Keep one server in each of so many places of a Ray cluster, and their addresses in the file."""
        from thor_tir.engines.vllm.address_file import AddressFile, own_file

        self._check()
        if self.devices:
            raise UsageError("Ray gives the servers their GPUs: give --ray.gpus 1 in place of --devices")
        file = AddressFile(self.output, self.replicas, say)
        groups = [
            Group(size=1, words=partial(self._placed, file, number, words), name=f"engine {number}")
            for number in range(self.replicas)
        ]
        with own_file(self.output):
            return start_on_ray(groups, replace(self.ray, gpus=self.ray.gpus * self.tensor_parallel), say)

    def _placed(self, file: "AddressFile", number: int, words: Sequence[str], host: str, port: int) -> Sequence[str]:
        """The words that start a server at its place, which is noted."""
        file.place(number, host, port)
        own = self._logs / f"engine-{number}" / self.output.name
        return [*words, "--replicas", "1", "--host", host, "--port", str(port), "--output", str(own)]

    def run(self) -> None:
        """Start, say where, and keep them running."""
        from thor_tir.console import ConsoleReporter
        from thor_tir.engines.loading import resolved
        from thor_tir.engines.vllm.address_file import own_file
        from thor_tir.engines.vllm.server import check_environment, python_of

        self._check()
        python = python_of(self.python)
        version = check_environment(python, "--python")
        reporter = ConsoleReporter()
        self._check_ports()
        started = f"vLLM {version or '(version not said)'} starts {self.replicas} x {self.model}"
        reporter.say(f"{started}; logs: {self._logs.resolve()}")
        model = resolved(self.model)
        # One that was started by the command for a Ray cluster may come back while its lost self still runs elsewhere.
        with nullcontext() if is_started_together() else own_file(self.output):
            asyncio.run(self._work(model, python, reporter))
        reporter.say("engines ended")

    @property
    def _logs(self) -> Path:
        return self.output.parent

    def _check(self) -> None:
        from thor_tir.engines.vllm.addresses import is_public
        from thor_tir.engines.vllm.server import address_of

        if self.replicas < 1 or self.tensor_parallel < 1:
            raise UsageError("at least one server on at least one GPU is started")
        if not self.force_public and is_public(address_of(self.host, self.port)):
            raise UsageError(f"{self.host} is no loopback or private address, and {WHY}; give another --host")
        if not 1 <= self.port <= MOST_PORT + 1 - self.replicas:
            raise UsageError(
                f"{self.replicas} servers have no ports from --port {self.port} on: these are 1 to {MOST_PORT}"
            )
        needed = self.replicas * self.tensor_parallel
        if self.launcher == "local" and self._gpus and len(self._gpus) < needed:
            where = "--devices names" if self.devices else "this process may use (CUDA_VISIBLE_DEVICES)"
            raise UsageError(
                f"{self.replicas} servers of {self.tensor_parallel} GPUs need {needed}, and {where} {len(self._gpus)}"
            )

    @property
    def _gpus(self) -> tuple[str, ...]:
        return self.devices or gpus()

    def _check_ports(self) -> None:
        for port in range(self.port, self.port + self.replicas):
            if not is_free(self.host, port):
                raise UsageError(f"port {port} of {self.host} is in use: give another --port")

    async def _work(self, model: str, python: str, reporter: "ConsoleReporter") -> None:
        from thor_tir.engines.vllm.server import VLLMConfig
        from thor_tir.engines.vllm.supervisor import Layout, Supervisor
        from thor_tir.storage.journal import make_folder, write_atomically

        make_folder(self._logs)
        config = VLLMConfig(
            python=python,
            dtype=self.dtype or ("bfloat16" if self._gpus else "float32"),
            max_num_seqs=self.max_num_seqs,
            tensor_parallel_size=self.tensor_parallel,
            num_threads=self.num_threads,
            sleeps=self.sleep,
            takes_nccl=self.weights == "nccl",
            arguments=tuple(self.arguments.split()),
        )
        layout = Layout(
            host=self.host,
            port=self.port,
            replicas=self.replicas,
            tensor_parallel=self.tensor_parallel,
            devices=self._gpus,
        )
        servers = Supervisor(model, config, layout, self._logs, reporter.say)
        try:
            for address, found in zip(servers.addresses, await servers.start(), strict=True):
                self._refuse_unfit(address, found, reporter)
                reporter.say(f"engine at {address} (vLLM {found.version}, context {found.max_model_len})")
            write_atomically(self.output, "".join(f"{address}\n" for address in servers.addresses))
            if not is_started_together():  # else they stand in the file of the command that started this one
                reporter.say(f"use them by: --engine.name vllm --engine.address {self.output}")
            await servers.watch()
        finally:
            await servers.stop()

    def _refuse_unfit(self, address: str, found: "Abilities", reporter: "ConsoleReporter") -> None:
        from thor_tir.engines.vllm.checks import findings

        for finding in findings(found):
            sentence = f"{address}: {finding.name} {finding.found}; {finding.advice}"
            if not finding.is_good and finding.blocks:
                raise EngineFault(sentence)
            if not finding.is_good:
                reporter.say(sentence)


@dataclass(frozen=True, kw_only=True)
class EngineCheck:
    """Ask a running server what it can do for a run. Exit status 0: fit for RL; 1: it is not, or does not answer."""

    address: Annotated[str, tyro.conf.Positional]
    """Address of the server, such as http://127.0.0.1:8100, or the file that `thor engine up` wrote."""

    def run(self) -> None:
        """Ask and print a table for each address."""
        from thor_tir.engines.vllm.addresses import addresses_of

        if not all(asyncio.run(self._is_fit(address)) for address in addresses_of([self.address])):
            sys.exit(1)

    async def _is_fit(self, address: str) -> bool:
        from thor_tir.console import ConsoleReporter, text_table
        from thor_tir.engines.vllm.abilities import abilities_of
        from thor_tir.engines.vllm.addresses import is_public
        from thor_tir.engines.vllm.checks import findings
        from thor_tir.engines.vllm.connection import Connection, ReplicaLost

        connection, reporter = Connection(address), ConsoleReporter()
        try:
            found = await abilities_of(connection)
        except ReplicaLost as loss:
            raise EngineFault(f"nothing answers at {address} ({loss})") from loss
        finally:
            await connection.close()
        made = findings(found)
        rows = [
            [each.name, each.found, "" if each.is_good else "no" if each.blocks else "!", each.advice] for each in made
        ]
        reporter.show(text_table(address, ["", "found", "", "for"], rows, left=True))
        is_fit = all(each.is_good for each in made if each.blocks)
        if found.admin and is_public(address):
            reporter.say(f"{address} is a public address with open administrative routes: {WHY}")
            is_fit = False
        reporter.say("fit for RL" if is_fit else "not fit for RL")
        return is_fit
