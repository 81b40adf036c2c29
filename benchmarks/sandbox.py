"""The sandbox against other ways of running programs, in one table: what `thor sandbox bench` prints.

    python benchmarks/sandbox.py [--bursts 7]

Contenders take turns in short bursts, so that a busy moment of the machine falls on all of them; every figure is the
median over the bursts. See `thor_tir/sandbox/measure.py` for what each row does.
"""

import tyro

from thor_tir.commands.sandbox_bench import SandboxBench

if __name__ == "__main__":
    tyro.cli(SandboxBench).run()
