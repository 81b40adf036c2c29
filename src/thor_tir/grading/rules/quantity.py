r"""Numbers with something around them: currency, percent, degrees, units.

A unit is what stands in `\text{...}`, or a known whole word; a letter after a number is a variable (`6m` is not 6).
"""

import re
from dataclasses import dataclass
from fractions import Fraction

_CURRENCY = re.compile(r"^([+-]?)\s*(?:\\text\{(USD|EUR|GBP|Rs\.?)\}|(USD|EUR|GBP|US[$¤]|Rs\.?(?=\s)|[¤€£¥₹]))\s*")
_MONEY_SIGNS = ("¤", "€", "£", "¥", "₹")
_TEXT_TAIL = re.compile(r"\s*\\text\s*\{([^{}]*)\}\s*(?:\^\s*\{?\s*(-?\d)\s*\}?)?\s*$")
_DEGREES = re.compile(r"\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ)\s*(?:C|F|\\text\s*\{[^{}]*\})?\s*$")
_ANGLE_OF = re.compile(r"\\?(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_WORD_TAIL = re.compile(r"(?<=[\d})\s])\s*([A-Za-z][A-Za-z./ ]*[A-Za-z.])\s*(?:\^\s*\{?\s*(-?\d)\s*\}?)?\s*$")
_PREFIX = re.compile(r"^\\text\s*\{[^{}]*\}\s*:?\s*(?=[-\d.\\])")

_WORDS = frozenset(
    [
        "degree",
        "degrees",
        "deg",
        "percent",
        "pct",
        "percentage",
        "units",
        "unit",
        "dollar",
        "dollars",
        "cent",
        "cents",
        "euro",
        "euros",
        "pound",
        "pounds",
        "inch",
        "inches",
        "foot",
        "feet",
        "ft",
        "yard",
        "yards",
        "mile",
        "miles",
        "mi",
        "cm",
        "mm",
        "km",
        "nm",
        "kg",
        "mg",
        "lb",
        "lbs",
        "oz",
        "ounce",
        "ounces",
        "gram",
        "grams",
        "liter",
        "liters",
        "litre",
        "litres",
        "ml",
        "meter",
        "meters",
        "metre",
        "metres",
        "centimeter",
        "centimeters",
        "kilometer",
        "kilometers",
        "second",
        "seconds",
        "sec",
        "minute",
        "minutes",
        "min",
        "mins",
        "hour",
        "hours",
        "hr",
        "hrs",
        "day",
        "days",
        "week",
        "weeks",
        "month",
        "months",
        "year",
        "years",
        "mph",
        "kph",
        "rpm",
        "square",
        "cubic",
        "per",
        "rad",
        "radian",
        "radians",
        "people",
        "person",
        "students",
        "points",
        "books",
        "apples",
        "ways",
        "times",
        "sides",
        "edges",
        "boxes",
        "eggs",
        "marbles",
        "hz",
        "joules",
        "watts",
        "volts",
        "newtons",
        "ohms",
        "kelvin",
        "tons",
        "tonnes",
        "gallons",
        "gallon",
        "km/h",
        "m/s",
        "cm/s",
        "am",
        "pm",
        "yuan",
        "rupees",
        "miles/hour",
        "mi/h",
        "ergs",
        "erg",
        "ev",
        "kev",
        "mev",
        "pc",
        "mpc",
        "kpc",
        "candies",
        "cookies",
        "pages",
        "bottles",
        "cups",
        "quarts",
        "pints",
        "coins",
        "cars",
        "children",
        "bags",
        "pieces",
        "players",
        "games",
        "trees",
        "flowers",
        "integers",
        "solutions",
        "numbers",
        "kilograms",
        "kilogram",
        "milliliters",
        "millimeters",
    ]
)
_SCALES: dict[str, tuple[str, int | Fraction]] = {
    "m": ("length", 1), "meter": ("length", 1), "metre": ("length", 1), "cm": ("length", Fraction(1, 100)),
    "centimeter": ("length", Fraction(1, 100)), "mm": ("length", Fraction(1, 1000)), "km": ("length", 1000),
    "kilometer": ("length", 1000), "millimeter": ("length", Fraction(1, 1000)), "nm": ("length", Fraction(1, 10**9)),
    "inch": ("length", Fraction(254, 10000)), "in": ("length", Fraction(254, 10000)),
    "foot": ("length", Fraction(3048, 10000)), "feet": ("length", Fraction(3048, 10000)),
    "ft": ("length", Fraction(3048, 10000)), "yard": ("length", Fraction(9144, 10000)),
    "mile": ("length", Fraction(1609344, 1000)), "mi": ("length", Fraction(1609344, 1000)),
    "g": ("mass", 1), "gram": ("mass", 1), "kg": ("mass", 1000), "kilogram": ("mass", 1000),
    "mg": ("mass", Fraction(1, 1000)), "s": ("time", 1), "sec": ("time", 1), "second": ("time", 1),
    "min": ("time", 60), "minute": ("time", 60), "h": ("time", 3600), "hr": ("time", 3600), "hour": ("time", 3600),
    "day": ("time", 86400), "week": ("time", 604800), "cent": ("money", Fraction(1, 100)), "dollar": ("money", 1),
    "usd": ("money", 1), "l": ("volume", 1), "liter": ("volume", 1), "litre": ("volume", 1),
    "ml": ("volume", Fraction(1, 1000)), "milliliter": ("volume", Fraction(1, 1000)),
}  # fmt: skip
_SYNONYMS = {"mph": "mile per hour", "mi/h": "mile per hour", "kph": "km/h", "kilometer per hour": "km/h"}
_MULTIPLES = {"dozen": 12, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_MAX_CHARS = 512
"""No number with a unit is longer, and the patterns for units are not linear."""
_NO_COUNT = re.compile(
    r"(?<![\^a-z])\d|^(?:squared|cubed|less|[ei])$|^(?:of|and|to|choose|base|power)\b|\band (?:an?|one|half)\b"
    r"|\bat (?:most|least|best|worst)\b|\b[xyz]\b(?!-)|\bover (?=\w)"
    r"|\b(?:or|not|if|otherwise|either|neither|nor|than|plus|minus|under|below|beneath|negative|"
    r"factorial|halves|half|(?:thi|fou|fif|six|seven|eigh|nin|ten|hundred|thousand|million)r?ths?|thirds?|"
    r"st|nd|rd|th|lakhs?|lacs?|crores?|bn|mn|tn|mio|mrd|gross|score|pi|tau|sqrt|mod|modulo|"
    r"is(?! (?:the|our|my|correct)\b)|isn't|incorrect|"
    r"wrong|false|invalid|impossible|but|except|unless|maybe|perhaps|no|none|never|cannot|can't|don't|doubled|tripled|"
    r"halved|twice|thrice|reciprocal|inverse|"
    r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen|"
    r"twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)(?!-))\b",
    re.IGNORECASE,
)
r"""Behind a number these words change it or take it back: `3 \text{ (or 4)}`, `3 \text{ halves}`."""
_KILO = re.compile(r"\s*k\s*")
_PERCENT = frozenset(("percent", "pct", "percentage", "per cent"))
_DEGREE = frozenset(("degree", "deg"))
_POWERS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}
_CURRENCIES = {"¤": "dollar", "us¤": "dollar", "us$": "dollar", "usd": "dollar", "dollar": "dollar", "buck": "dollar"}
_CURRENCIES |= {"€": "euro", "euro": "euro", "eur": "euro", "£": "pound", "pound": "pound", "gbp": "pound"}
_CURRENCIES |= {"¥": "yen", "yen": "yen", "jpy": "yen", "yuan": "yuan", "rmb": "yuan", "cny": "yuan", "won": "won"}
_CURRENCIES |= {"₹": "rupee", "rs": "rupee", "rupee": "rupee", "inr": "rupee", "franc": "franc", "peso": "peso"}


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A number as text, and what was written around it."""

    number: str
    """The number, as canonical text."""
    unit: str = ""
    """In the singular and in lower case, with its power: `cm^2`; empty where none was written."""
    is_percent: bool = False
    """True if a percent sign or the word stands beside the number."""
    is_degrees: bool = False
    """True if a degree sign or the word stands beside the number."""
    is_money: bool = False
    """True if a sign of a currency or its name stands beside the number."""
    currency: str = ""
    """The currency that a sign or a word names; empty where none does, and for cents."""

    @property
    def is_bare(self) -> bool:
        """True if nothing was written around the number."""
        return not (self.unit or self.is_percent or self.is_degrees or self.is_money)

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of things written around the number: money, angle, percent or another unit."""
        return _kinds(self)


def _kinds(one: Quantity) -> frozenset[str]:
    is_money = one.is_money or one.unit in ("dollar", "cent", "usd", "euro", "pound")
    is_angle = one.is_degrees or one.unit in ("rad", "radian")
    is_unit = not _is_generic(one.unit) and not (is_money and one.unit != "pound") and not is_angle
    flags = {"money": is_money, "angle": is_angle, "percent": one.is_percent, "unit": is_unit}
    return frozenset(name for name, is_set in flags.items() if is_set)


def quantity(text: str) -> Quantity:
    """The canonical text taken apart."""
    if len(text) > _MAX_CHARS:
        return Quantity(number=text)
    unit, is_percent, is_degrees, is_money = "", False, False, False
    currency = ""
    if money := _CURRENCY.match(text):
        currency = _CURRENCIES[(money[2] or money[3]).lower().rstrip(".")]
        text = money[1] + text[money.end() :]
    elif is_money := text.endswith(_MONEY_SIGNS):
        currency, text = _CURRENCIES[text[-1]], text[:-1].rstrip()
    if _CURRENCY.match(text) or text.endswith(_MONEY_SIGNS):
        return Quantity(number="")
    text = _PREFIX.sub("", text)
    while True:
        if text.endswith("%"):
            text, is_percent = text[:-1].rstrip(), True
        elif (degrees := _DEGREES.search(text)) and not _ANGLE_OF.search(text):
            text, is_degrees = text[: degrees.start()], True
        elif ((tail := _TEXT_TAIL.search(text)) and text[: tail.start()].strip() and counts_something(tail[1])) or (
            (tail := _WORD_TAIL.search(text)) and _is_unit(tail[1])
        ):
            unit, text = f"{_unit(tail)} {unit}".strip(), text[: tail.start()].rstrip(" *")
        else:
            break
    text = text.rstrip(" ,/")
    is_percent |= unit in _PERCENT
    is_degrees |= unit in _DEGREE
    for name, factor in _MULTIPLES.items():
        if name in unit.split():
            unit, text = " ".join(word for word in unit.split() if word != name), f"({text})*{factor}"
    unit = "" if unit in _PERCENT | _DEGREE else unit
    currency = currency or next((_CURRENCIES[word] for word in unit.split() if word in _CURRENCIES), "")
    return Quantity(
        number=text,
        unit=unit,
        is_percent=is_percent,
        is_degrees=is_degrees,
        is_money=bool(money) or is_money,
        currency=currency,
    )


def counts_something(words: str) -> bool:
    """True if the words behind a number may be its unit or what it counts, and none of them changes its value."""
    return not (_NO_COUNT.search(words.strip(" ().,")) or _KILO.fullmatch(words))


def scale(expected: Quantity, found: Quantity) -> Fraction | None:
    """Factor from the found number to the expected unit; None where the units contradict each other."""
    one, other = expected.unit, found.unit
    if expected.currency and found.currency and expected.currency != found.currency:
        return None
    if one == other:
        return Fraction(1)
    if _is_generic(one) or _is_generic(other):
        dimensions = {_dimension(one), _dimension(other)} - {None}
        return Fraction(1) if len(dimensions) < 2 else None
    (kind, size), (other_kind, other_size) = _measure(one), _measure(other)
    if kind and kind == other_kind:
        return other_size / size
    if not kind and not other_kind and set(one.split()) & set(other.split()):
        return Fraction(1)
    return None


def _is_generic(unit: str) -> bool:
    return all(word.partition("^")[0] == "unit" or word in _POWERS for word in unit.split())


def _dimension(unit: str) -> int | None:
    """The power of a length that a unit measures, 2 for `square unit`; None where it does not show."""
    if _is_generic(unit):
        raised = unit.partition("^")[2]
        return int(raised) if raised else next((_POWERS[word] for word in unit.split() if word in _POWERS), None)
    kind, _, power = _measure(unit)[0].partition("^")
    return {"length": 1, "volume": 3}[kind] * int(power) if kind in ("length", "volume") else None


def _measure(unit: str) -> tuple[str, Fraction]:
    words = unit.removeprefix("square ").removeprefix("sq ").removeprefix("cubic ")
    base, _, power = words.partition("^")
    if words != unit:
        power = "3" if unit.startswith("cubic") else "2"
    kind, size = _SCALES.get(base, ("", 1))
    if not kind or not (power or "1").isdigit():
        return "", Fraction(1)
    return f"{kind}^{power or 1}", Fraction(size) ** int(power or 1)


def _is_unit(words: str) -> bool:
    return all(word in _WORDS or word in _MULTIPLES for word in words.lower().replace(".", "").split())


def _unit(tail: re.Match[str]) -> str:
    words = " ".join(tail[1].lower().replace(".", "").split())
    words = " ".join(_singular(word) for word in words.split())
    words = _SYNONYMS.get(words, words)
    return f"{words}^{tail[2]}" if tail[2] else words


def _singular(word: str) -> str:
    if word == "inches":
        return "inch"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
