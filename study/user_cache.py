"""What this machine and user need made only once → where it is kept for every later process."""

import os
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """Return the folder of one kind of things; raises RuntimeError where the user has no home."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "depth-trainability" / kind
