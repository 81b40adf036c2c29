"""Sets what must be set before torch is imported. What tests share is in `support/`: `from tiny_models import ...`."""

import os
from importlib import import_module

from hypothesis import settings

# Two spinning threads a process make tiny models many times slower on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# transformers logs to the stderr of its first import, which must not be one that a single test captures and closes.
import_module("transformers.utils.logging")

settings.register_profile("project", deadline=None)  # a wall-clock limit would fail on a busy machine
settings.load_profile("project")
