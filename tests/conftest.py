"""Lets every test import the shared tiny models as `from tiny_models import ...`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
