"""(seed, purpose, step) → a random generator of its own.

torch takes 32 bits of what it is seeded with: two given triples draw the same numbers once in four billion cases.

A member of a pack draws from its own streams and never from a shared one, so its weights, data order and probes are
the same alone and in any pack.
"""

import hashlib

import torch


def make_generator(seed: int, purpose: str, step: int = 0) -> torch.Generator:
    """Return a CPU generator (also for GPU training: the draws must not depend on the device)."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{step}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
