"""Commands → processes that run at once, and never longer than whoever waits for them."""

import subprocess
from collections.abc import Sequence


def run_together(commands: Sequence[Sequence[str]]) -> list[str]:
    """Return what each of the commands printed; Ctrl-C does not reach them, they are ended with this process's wait.

    Raises:
        CalledProcessError: one of them failed; it has said why on the error output.
    """
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) for command in commands
    ]
    try:
        printed = [process.communicate()[0] for process in running]
    except BaseException:
        for process in running:
            process.terminate()
        for process in running:
            process.communicate()
        raise
    for process, output in zip(running, printed, strict=True):
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, process.args, output)
    return printed
