"""This machine → what a recorded result must say of it."""

import datetime
import os
import platform

import torch

from study.environment import describe_environment


def describe_machine(device: str = "cpu") -> dict[str, str]:
    """Return date, device, cores and versions as text."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": str(torch.get_num_threads()),
        **describe_environment(device),
    }
