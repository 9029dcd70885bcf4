"""What this machine and user need made only once → where it is kept for every later process."""

import os
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """Return the folder of one kind of things; raises RuntimeError when the user has no home."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "depth-trainability" / kind


def make_cache_folder(kind: str) -> Path:
    """Return the folder, made when missing.

    Raises:
        OSError: it cannot be made.
        RuntimeError: the user has no home.
        ValueError: somebody else could have put there what is in it.
    """
    folder = cache_folder(kind)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = folder.stat()
    if hasattr(os, "getuid") and (state.st_uid != os.getuid() or state.st_mode & 0o022):
        raise ValueError(f"{folder} belongs to another user, or others can write to it")
    return folder
