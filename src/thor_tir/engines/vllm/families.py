"""Which replica holds which prefix, and which of them an ask goes to."""

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence

MOST = 8192
"""Families that are remembered; the one that was longest not asked for is forgotten first."""
SLACK = 16
"""Requests that a replica may have in flight beyond twice those of the least busy one before it is spared."""


class Families:
    """Prompts that begin others, each with the replica that holds it.

    A family is a prompt that was asked for first and all that begins with it: its group, their later turns, and
    repairs, which are prefixes of these. A beginning that all prompts share is itself no prompt, so it ties nothing.
    """

    def __init__(self) -> None:
        self._homes: OrderedDict[tuple[int, int], str] = OrderedDict()
        self._lengths: Counter[int] = Counter()

    def choose(self, token_ids: Sequence[int], loads: Mapping[str, int]) -> str:
        """The replica to ask, of those in `loads`: the one that holds the prefix, else the least busy one.

        One that is away, or far busier than another, is passed by; the family stays with it in the second case.
        """
        key = self._family(token_ids) or (len(token_ids), hash(tuple(token_ids)))
        least = min(loads, key=lambda name: loads[name])
        home = self._homes.get(key)
        if home is None or home not in loads:
            self._settle(key, least)
            return least
        self._homes.move_to_end(key)
        return home if loads[home] <= 2 * loads[least] + SLACK else least

    def forget(self, name: str) -> None:
        """The replica lost what it held."""
        for key in [key for key, home in self._homes.items() if home == name]:
            self._drop(key)

    def _family(self, token_ids: Sequence[int]) -> tuple[int, int] | None:
        ids = tuple(token_ids)
        for length in sorted(self._lengths, reverse=True):
            if length <= len(ids) and (key := (length, hash(ids[:length]))) in self._homes:
                return key
        return None

    def _settle(self, key: tuple[int, int], name: str) -> None:
        if key not in self._homes:
            self._lengths[key[0]] += 1
        self._homes[key] = name
        self._homes.move_to_end(key)
        if len(self._homes) > MOST:
            self._drop(next(iter(self._homes)))

    def _drop(self, key: tuple[int, int]) -> None:
        del self._homes[key]
        self._lengths[key[0]] -= 1
        if not self._lengths[key[0]]:
            del self._lengths[key[0]]
