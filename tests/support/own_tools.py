"""Tools as a user writes them: one that converts, and ones that are broken in all ways."""

import asyncio
from typing import ClassVar

from thor_tir.tools.protocol import ToolRefusal

METRES = {"m": 1.0, "km": 1000.0, "inch": 0.0254}


class Units:
    name = "units"
    description = "Converts a length from one unit to another (m, km, inch)."
    parameters: ClassVar = {
        "type": "object",
        "properties": {"value": {"type": "number"}, "of": {"type": "string"}, "to": {"type": "string"}},
        "required": ["value", "of", "to"],
    }

    async def call(self, value, of, to):
        if of not in METRES or to not in METRES:
            raise ToolRefusal(f"unknown unit; known are {', '.join(METRES)}")
        return value * METRES[of] / METRES[to]


class Broken:
    """Fails as often as it is said to, by the fault of its machine, and then answers."""

    name, description, parameters = "broken", "Breaks.", {"type": "object"}

    def __init__(self, times=10**9):
        self.left = times

    async def call(self, **arguments):
        if self.left > 0:
            self.left -= 1
            raise ConnectionError("no route")
        return arguments


class Slow:
    name, description, parameters, timeout_s = "slow", "Never answers.", {"type": "object"}, 0.01

    async def call(self):
        await asyncio.Event().wait()


class Told:
    name, description, parameters, max_chars = "told", "Says it in its own way.", {"type": "object"}, 32

    async def call(self, times=1):
        return ["row"] * times

    def tell(self, answer):
        return "\n".join(answer)
