"""Plans of dry runs as people read them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from thor_tir.console import ConsoleReporter, text_table

if TYPE_CHECKING:
    from thor_tir.app.plan import Plan


def tell_plans(plans: "Sequence[Plan]", reporter: ConsoleReporter) -> None:
    """Print the arithmetic and the memory of each stage."""
    from thor_tir.app.plan import headline

    for plan in plans:
        reporter.show(text_table(f"{plan.name}: what is made", ("", ""), plan.counts, left=True))
        if plan.memory:
            reporter.show(text_table(f"{plan.name}: memory of one process", ("", ""), plan.memory_rows, left=True))
    reporter.say(headline())
