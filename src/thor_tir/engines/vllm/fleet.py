"""Several replicas as one: who is asked, what happens when one dies, and how it comes back.

A replica that hangs up is taken out at once, and what it owed is asked of the others, with the same ids and seeds.
Meanwhile it is opened again and gets the weights in force; only then is anything asked of it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import count

from thor_tir.engines.vllm.abilities import is_healthy
from thor_tir.engines.vllm.connection import ReplicaLost
from thor_tir.engines.vllm.families import Families
from thor_tir.engines.vllm.replica import Replica, State
from thor_tir.engines.vllm.token_routes import Answer, Ask
from thor_tir.errors import EngineFault, MachineFault, UsageError

WATCH_S = 5.0
"""Time between two looks at replicas that are not answering anything, in seconds."""
SIGN_OF_LIFE_S = 30.0
"""A replica that does not answer `/health` for so long is taken for lost."""
MOST_TAKEN = 20
"""Times that a replica may be found with weights of somebody else before the run ends."""
RENEW_S = 900.0
"""A replica that takes longer to take weights is taken for lost."""
_ASKED = (State.READY, State.RENEWING, State.LEFT)
"""States of replicas that may owe an answer."""
PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Pauses before a replica is opened again, one after another; the last one repeats."""

Work = Callable[[Replica], Awaitable[None]]
"""Something that is done with one replica. Raises ReplicaLost and machine faults."""
IsCurrent = Callable[[Replica, Answer], Awaitable[bool]]
"""True for an answer that weights of this run gave."""


class Fleet:
    """Replicas of one model; made and used in one event loop between `open` and `close`."""

    def __init__(
        self,
        replicas: Sequence[Replica],
        *,
        look: Callable[[], Sequence[Replica]] = lambda: (),
        start: Work,
        renew: Work,
        is_current: IsCurrent,
        patience_s: float = 1800.0,
        pauses_s: Sequence[float] = PAUSES_S,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`look` finds replicas that have come, and lets those go that have left; `start` brings a replica's server
        up, `renew` gives it the weights in force."""
        self.replicas = list(replicas)
        self._look = look
        self._start, self._renew, self._is_current = start, renew, is_current
        self._patience_s, self._pauses_s = patience_s, pauses_s
        self._say = say
        self._families = Families()
        self._renewing = asyncio.Lock()
        self._news = asyncio.Event()
        self._fault: MachineFault | UsageError | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def num_active(self) -> int:
        """Requests in flight."""
        return sum(replica.in_flight for replica in self.replicas)

    async def open(self) -> None:
        """Bring up every replica. Raises the fault of the first that cannot be."""
        results = await asyncio.gather(*map(self._opened, self.replicas), return_exceptions=True)
        for fault in results:
            if isinstance(fault, ReplicaLost):
                raise EngineFault(str(fault)) from fault
            if fault is not None:
                raise fault
        self._spawn(self._watch)

    async def close(self) -> None:
        """Stop looking after the replicas and end the connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for replica in self.replicas:
            await replica.connection.close()

    async def ask(self, ask: Ask) -> Answer:
        """The answer of whichever replica is asked last. Raises RequestFault and EngineFault."""
        while True:
            replica = await self._chosen(ask)
            try:
                with replica.flight():
                    answer = await replica.ask(ask)
                    is_current = await self._is_current(replica, answer)
            except ReplicaLost as loss:
                replica.counts.resent += 1
                self.lose(replica, str(loss))
                continue
            if not is_current:
                replica.counts.stale += 1
                self._lose_to_others(replica)
                continue
            await self._settled(replica)
            replica.counts.requests += 1
            replica.counts.sampled_tokens += len(answer.token_ids)
            if answer.cached_tokens is not None:
                replica.counts.prompt_tokens += len(ask.token_ids)
                replica.counts.cached_tokens += answer.cached_tokens
            return answer

    async def renew_all(self, prepare: Callable[[], Awaitable[None]]) -> None:
        """Give new weights to every replica that is there; one that is not gets them when it comes back.

        `prepare` is called first, while no weights are on their way. Raises EngineFault.
        """
        async with self._renewing:
            await prepare()
            here = [replica for replica in self.replicas if replica.state is State.READY]
            results = await asyncio.gather(*map(self._renewed, here), return_exceptions=True)
        for fault in results:
            if isinstance(fault, MachineFault | UsageError):
                self._end(fault)
            if fault is not None:
                raise fault
        self._raise_fault()

    async def each(self, work: Work) -> None:
        """Do something with every replica that is there, once no weights are on their way."""
        async with self._renewing:
            pass
        for replica in [replica for replica in self.replicas if replica.state is State.READY]:
            try:
                await work(replica)
            except ReplicaLost as loss:
                self.lose(replica, str(loss))

    def lose(self, replica: Replica, reason: str) -> None:
        """Take a replica out and open it again in the background; nothing happens where that is under way."""
        if replica.state in (State.AWAY, State.GIVEN_UP, State.LEFT):
            return
        replica.state = State.AWAY
        replica.counts.losses += 1
        self._families.forget(replica.name)
        self._say(f"{replica.name} is lost ({reason}); its requests are asked of the others, and it is opened again")
        self._spawn(partial(self._reopened, replica))
        self._tell()

    def let_go(self, replica: Replica) -> None:
        """Ask nothing more of a replica; what it was asked it answers."""
        replica.state = State.LEFT
        self._families.forget(replica.name)
        self._say(f"{replica.name} is named no more: nothing else is asked of it")
        self._tell()

    def _lose_to_others(self, replica: Replica) -> None:
        """Take out a replica that holds weights which are not of this run, and end a run that only fights for it."""
        replica.times_taken += replica.state is State.READY
        if replica.times_taken >= MOST_TAKEN:
            found = f"{replica.name} held other weights {replica.times_taken} times"
            self._end(EngineFault(f"{found}: another run puts its own there, and each needs servers for itself"))
        self.lose(replica, "it was started again and holds other weights")

    async def _chosen(self, ask: Ask) -> Replica:
        try:
            async with asyncio.timeout(self._patience_s):
                while True:
                    self._raise_fault()
                    ready = {r.name: r for r in self.replicas if r.state is State.READY}
                    if ready:
                        loads = {name: replica.in_flight for name, replica in ready.items()}
                        return ready[self._families.choose(ask.token_ids, loads)]
                    await self._news.wait()
        except TimeoutError as error:
            raise EngineFault(f"no engine answered for {self._patience_s:.0f} s") from error

    async def _settled(self, replica: Replica) -> None:
        """Wait until weights that are on their way are there and were compared: the answer counts only then."""
        while replica.state is State.RENEWING and self._fault is None:
            await self._news.wait()
        self._raise_fault()

    async def _opened(self, replica: Replica) -> None:
        await self._start(replica)
        await self._taken_in(replica)

    async def _taken_in(self, replica: Replica) -> None:
        """Give a replica the weights in force, then requests."""
        async with self._renewing:
            await self._renew_in_time(replica)
            if not replica.has_left:
                replica.state, replica.has_served = State.READY, True
        self._tell()

    async def _renew_in_time(self, replica: Replica) -> None:
        try:
            async with asyncio.timeout(RENEW_S):
                await self._renew(replica)
        except TimeoutError as error:
            raise ReplicaLost(f"it did not take the weights within {RENEW_S:.0f} s") from error

    async def _renewed(self, replica: Replica) -> None:
        replica.state = State.RENEWING
        self._families.forget(replica.name)
        try:
            await self._renew_in_time(replica)
            if replica.state is State.RENEWING:
                replica.state = State.READY
        except ReplicaLost as loss:
            self.lose(replica, str(loss))
        finally:
            self._tell()

    async def _reopened(self, replica: Replica) -> None:
        """Open a replica as often as it takes.

        One that cannot be started is given up, which ends the run where none is left. One that held weights of this
        run before, takes those in force and does not hold them afterwards ends the run at once.
        """
        await replica.connection.close()
        for number in count():
            await asyncio.sleep(self._pauses_s[min(number, len(self._pauses_s) - 1)])
            if replica.has_left:
                return
            try:
                await self._start(replica)
            except ReplicaLost:
                continue
            except (MachineFault, UsageError) as fault:
                self._give_up(replica, fault)
                return
            is_new = not replica.has_served
            try:
                await self._taken_in(replica)
            except ReplicaLost:
                continue
            except (MachineFault, UsageError) as fault:
                if is_new:
                    self._give_up(replica, fault)
                else:
                    self._end(fault)
                return
            if not replica.has_left:
                self._say(f"{replica.name} {'has come' if is_new else 'is back'}, with the weights in force")
            return

    def _give_up(self, replica: Replica, fault: MachineFault | UsageError) -> None:
        self._say(f"{replica.name} is given up: {fault}")
        replica.state = State.GIVEN_UP
        if all(each.state in (State.GIVEN_UP, State.LEFT) for each in self.replicas):
            self._end(fault)

    async def _watch(self) -> None:
        """Find replicas that hang without hanging up, and those that came or left."""
        while True:
            await asyncio.sleep(WATCH_S)
            for replica in self._look():
                self.replicas.append(replica)
                self._spawn(partial(self._reopened, replica))
            for replica in [each for each in self.replicas if each.state in _ASKED]:
                if replica.has_left and not replica.in_flight:
                    continue
                if not await is_healthy(replica.connection, within_s=SIGN_OF_LIFE_S):
                    self.lose(replica, "it does not say that it is well")
                    if replica.has_left:
                        await replica.connection.close()  # what it owes is asked of the others

    def _end(self, fault: MachineFault | UsageError) -> None:
        self._fault = self._fault or fault
        self._tell()

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise EngineFault(str(self._fault)) from self._fault

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            try:
                with suppress(asyncio.CancelledError):
                    await work()
            except Exception as error:  # nobody would hear of it, and requests would wait for ever
                self._end(EngineFault(f"looking after the engines failed: {error!r}"))

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
