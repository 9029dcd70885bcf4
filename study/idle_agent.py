"""Stands for an agent of Ray's on a machine that needs none (see `lean_ray`): waits until Ray's node ends.

Ray starts this file by itself, and ends its node when this process ends.
"""

import os
import time

if __name__ == "__main__":
    node = int(os.environ["RAY_RAYLET_PID"])
    while os.getppid() == node:
        time.sleep(1)
