"""``python -m inferd``."""

from inferd.cli import main

main()
