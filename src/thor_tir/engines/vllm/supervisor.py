"""Servers that are kept running: started side by side, waited for, started again when they die, ended with us."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

from thor_tir.engines.vllm.abilities import Abilities, abilities_of, is_healthy
from thor_tir.engines.vllm.connection import ReplicaLost
from thor_tir.engines.vllm.server import VLLMConfig, VLLMServer, address_of
from thor_tir.errors import EngineFault

STEADY_S = 120.0
"""A server that served for so long is forgiven its deaths before."""
MOST_DEATHS = 5
"""Deaths in a row, without such a time between them, after which a server is given up."""
LOOK_S = 0.5
"""Time between two looks at the processes, in seconds."""
HUNG_S = 120.0
"""A process that does not answer for so long is killed and started again."""


def pause_s(deaths: int) -> float:
    """The pause before a server is started again, by its deaths in a row: doubling from a second to a minute."""
    return float(min(60, 2 ** (deaths - 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Places of the servers."""

    host: str
    """Address to listen on."""
    port: int
    """Port of the first server; the others have those that follow."""
    replicas: int
    """Number of servers."""
    tensor_parallel: int
    """GPUs of each server."""
    devices: Sequence[str] = ()
    """GPUs that may be used, in order; none leaves the choice to the servers."""

    def environment(self, number: int) -> dict[str, str]:
        """Variables that give server `number` its own GPUs."""
        if not self.devices:
            return {}
        first = number * self.tensor_parallel
        return {"CUDA_VISIBLE_DEVICES": ",".join(self.devices[first : first + self.tensor_parallel])}


class Supervisor:
    """Servers of one model, at ports that follow one another."""

    def __init__(self, model: str, config: VLLMConfig, layout: Layout, logs: Path, say: Callable[[str], None]) -> None:
        self._say = say
        self.addresses = [address_of(layout.host, layout.port + n) for n in range(layout.replicas)]
        self.servers = [
            VLLMServer(
                model,
                replace(config, environment={**config.environment, **layout.environment(n)}),
                host=layout.host,
                port=layout.port + n,
                log=logs / f"engine-{n}.log",
            )
            for n in range(layout.replicas)
        ]

    async def start(self) -> list[Abilities]:
        """Start every server and wait until each serves. Raises UsageError and EngineFault."""
        await asyncio.gather(*(server.start() for server in self.servers))
        return [await self._abilities(server) for server in self.servers]

    async def watch(self) -> None:
        """Start what dies again, for ever. Raises EngineFault when a server keeps dying."""
        keeping = [asyncio.create_task(self._keep(number)) for number in range(len(self.servers))]
        try:
            await asyncio.gather(*keeping)  # the first fault, as it is
        finally:
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)

    async def stop(self) -> None:
        """End all of them."""
        await asyncio.gather(*(server.stop() for server in self.servers))
        for server in self.servers:
            server.remove()

    async def _keep(self, number: int) -> None:
        server, deaths = self.servers[number], 0
        while True:
            began = monotonic()
            reason = await self._until_dead(server)
            deaths = 1 if monotonic() - began > STEADY_S else deaths + 1
            name = f"engine {number} at {self.addresses[number]}"
            if deaths > MOST_DEATHS:
                raise EngineFault(f"{name} died {deaths} times in a row: {server.last_words()}")
            self._say(f"{name} {reason}: it is started again in {pause_s(deaths):g} s (death {deaths} in a row)")
            await asyncio.sleep(pause_s(deaths))
            try:
                await server.start()
            except EngineFault as fault:
                self._say(f"{name}: {fault}")
                continue
            self._say(f"{name} serves again, with the model that it was started with")

    async def _until_dead(self, server: VLLMServer) -> str:
        """Wait for the end of a server, and say what became of it."""
        connection, last = server.connection(), monotonic()
        try:
            while server.is_alive:
                await asyncio.sleep(LOOK_S)
                if await is_healthy(connection):
                    last = monotonic()
                elif monotonic() - last > HUNG_S:
                    await server.stop()
                    return f"did not answer for {HUNG_S:.0f} s"
            return f"ended with status {server.status}"
        finally:
            await connection.close()

    async def _abilities(self, server: VLLMServer) -> Abilities:
        connection = server.connection()
        try:
            return await abilities_of(connection)
        except ReplicaLost as loss:
            raise EngineFault(f"a server was gone as soon as it served ({loss}): {server.last_words()}") from loss
        finally:
            await connection.close()
