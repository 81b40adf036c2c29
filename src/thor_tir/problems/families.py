"""The `reasoning-gym` families of the embedded default, with difficulties that leave room at every stage.

Some need one call, some two or three (`lcm`, fractions, bases, complex numbers, legs, polygons); small numbers can be
done in one's head, large ones cannot. A model of one's own takes any other families through `--problems`.
"""

from collections.abc import Mapping

NANO_FAMILIES: Mapping[str, Mapping[str, object]] = {
    "gcd": {"min_value": 10, "max_value": 1000},
    "lcm": {"min_value": 5, "max_value": 150},
    "chain_sum": {"min_terms": 2, "max_terms": 5, "min_digits": 1, "max_digits": 4},
    "products": {"min_digits": 1, "max_digits": 4},
    "fraction_simplification": {"min_value": 1, "max_value": 300, "max_factor": 60, "styles": ("plain",)},
    "base_conversion": {"min_base": 2, "max_base": 16, "min_value": 5, "max_value": 2000},
    "complex_arithmetic": {
        "min_real": -30,
        "max_real": 30,
        "min_imag": -30,
        "max_imag": 30,
        "operations_weights": (0.25, 0.25, 0.25, 0.25),
    },
    "simple_equations": {"min_terms": 2, "max_terms": 3, "min_value": 1, "max_value": 100},
    "leg_counting": {"min_animals": 2, "max_animals": 5, "max_instances": 15},
    "simple_geometry": {"min_sides": 3, "max_sides": 6},
    "prime_factorization": {"min_value": 2, "max_value": 3000},
    "count_bits": {"min_n": 1, "max_n": 100_000_000},
}
"""Family name to the fields of its configuration that differ from the library's defaults."""
