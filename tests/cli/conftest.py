"""Makes cli_support and attention_oracle importable by the tests of this folder.

(pytest runs with --import-mode=importlib, which leaves sys.path alone.)
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
