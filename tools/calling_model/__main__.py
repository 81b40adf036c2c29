"""Make a nano model that calls Python, and then a second tool, between tags: `python -m calling_model FOLDER`.

Each step is a command of `thor`, which continues where it was stopped. About half an hour on two cores.
"""

import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path
from time import perf_counter

from calling_model.conversions import write_files

HERE = Path(__file__).resolve().parent
CALLS = "--dialect tool-call"
OWN = f"{CALLS} --chat-template {HERE / 'template.jinja'} --tool {HERE / 'units.py'}:Units"
STEPS = (
    "tirgen --count 700 --output fenced",
    f"eval --model nano/actor {CALLS} --samples 1 --output eval-actor",
    f"sft --data fenced/dataset.jsonl {CALLS} --num-train-epochs 10 --learning-rate 1e-3 --output caller",
    f"eval --model caller/model {CALLS} --samples 1 --output eval-caller",
    f"tirgen --actor caller/model {CALLS} --count 300 --output called",
    f"sft --model caller/model --data called/dataset.jsonl {CALLS} --output again",
    f"rl --model caller/model {CALLS} --num-rounds 8 --validate-every 0 --output rl",
    f"eval --model rl/model {CALLS} --samples 1 --output eval-rl",
    f"sft --model caller/model --data chats.jsonl {OWN} --num-train-epochs 2 --learning-rate 5e-4 --output units",
    f"eval --model units/model --problems test.jsonl {OWN} --output eval-units",
    f"rl --model units/model --problems train.jsonl {OWN} --num-rounds 4 --validate-every 0 --output units-rl",
    f"eval --model units-rl/model --problems test.jsonl {OWN} --output eval-units-rl",
)


def main() -> None:
    """Run all steps in the folder that the first argument names."""
    parser = ArgumentParser(prog="python -m calling_model", description=__doc__.partition("\n\n")[2])
    parser.add_argument("folder", type=Path, help="folder of all that is made")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    write_files(folder)
    for step in STEPS:
        began = perf_counter()
        sys.stdout.write(f"thor {step}\n")
        sys.stdout.flush()
        subprocess.run([sys.executable, "-m", "thor_tir", *step.split()], cwd=folder, check=True)
        sys.stdout.write(f"{perf_counter() - began:.0f} s\n")


if __name__ == "__main__":
    main()
