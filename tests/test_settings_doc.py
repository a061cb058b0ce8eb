"""The table of settings in docs/running.md is printed from the configuration's own structs."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_table_is_up_to_date() -> None:
    """Whoever changes a setting prints the table anew: `python tools/settings_doc.py`."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "settings_doc.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
