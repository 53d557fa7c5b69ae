import os
import time

import skipper


@skipper.data(max=1)
def notes(file: str, nonce: str) -> int:
    """One line of ``file`` for each run; the process that wrote it."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{nonce}\n".encode())
    os.close(descriptor)
    time.sleep(0.001)
    return os.getpid()
