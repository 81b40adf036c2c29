"""Lets tests import what they share, as `from tiny_models import ...`; sets what must be set before torch is."""

import os
import sys
from pathlib import Path

from hypothesis import settings

# Two spinning threads a process make tiny models many times slower on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

settings.register_profile("project", deadline=None)  # a wall-clock limit would fail on a busy machine
settings.load_profile("project")

sys.path.insert(0, str(Path(__file__).parent))
