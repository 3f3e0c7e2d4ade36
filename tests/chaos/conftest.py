"""Chaos: the rig is the package `chaosrig` beside this file, which is found here and by the programs in this folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
