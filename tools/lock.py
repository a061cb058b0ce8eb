"""Writes requirements.lock: the exact versions that a fresh resolve of every extra gives today.

Run with ``make lock``; the file is a pip constraints file, so that pip and uv read it alike.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = "demo,dev,postgresql,onnxruntime"
HEADER = "# Exact versions for `make`; written by `make lock`. A constraints file: pip install -c requirements.lock\n"


def main() -> None:
    command = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed"]
    report = subprocess.run(
        [*command, "--report", "-", f"{ROOT}[{EXTRAS}]"], check=True, capture_output=True, text=True
    )
    found = {
        item["metadata"]["name"].lower().replace("_", "-"): item["metadata"]["version"]
        for item in json.loads(report.stdout)["install"]
    }
    found.pop("inferd", None)
    lines = [f"{name}=={version}\n" for name, version in sorted(found.items())]
    (ROOT / "requirements.lock").write_text(HEADER + "".join(lines))


main()
