"""The scripts import each other by name, as they do when they are run."""

import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[3] / "scripts/data"
sys.path.insert(0, str(SCRIPTS))
