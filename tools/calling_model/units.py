"""A tool beside Python: lengths and masses from one unit to another."""

from typing import ClassVar

from thor_tir.tools.protocol import ToolRefusal

SIZES = {"mm": 0.001, "cm": 0.01, "m": 1.0, "km": 1000.0, "g": 0.001, "kg": 1.0, "t": 1000.0}
MASSES = frozenset({"g", "kg", "t"})
_UNIT = {"type": "string", "enum": list(SIZES)}


class Units:
    """The tool."""

    name = "units"
    description = "Converts a length or a mass from one unit to another."
    parameters: ClassVar = {
        "type": "object",
        "properties": {"value": {"type": "number"}, "of": _UNIT, "to": _UNIT},
        "required": ["value", "of", "to"],
    }

    async def call(self, value: float, of: str, to: str) -> str:
        """The value in the other unit. Raises ToolRefusal for a length in kilograms."""
        if (of in MASSES) != (to in MASSES):
            raise ToolRefusal(f"{of} and {to} measure different things")
        return f"{value * SIZES[of] / SIZES[to]:.10g}"
