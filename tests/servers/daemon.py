"""A small service that faults of the host are put on: `python -I daemon.py PORT PID_FILE DIRECTORY`.

For each connection it says a line of JSON and closes: its process, what its clocks say, and whether it can write and open
files. It is written without our packages, so that it starts in no time.
"""

import contextlib
import json
import os
import socket
import sys
import time
from pathlib import Path


def main(port: int, pid_file: str, directory: str) -> None:
    """Serve until killed."""
    with socket.create_server(("127.0.0.1", port), reuse_port=False) as listening:
        new = Path(f"{pid_file}.new")
        new.write_text(str(os.getpid()))
        new.rename(pid_file)
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                # No descriptor for it: what waits to be accepted waits on.
                time.sleep(0.02)
                continue
            # A client that gave up meanwhile is no reason to end.
            with connection, contextlib.suppress(OSError):
                said = {
                    "pid": os.getpid(),
                    "time": time.time(),
                    "monotonic": time.monotonic(),
                    "write": _tried(directory),
                }
                connection.sendall(json.dumps(said).encode() + b"\n")


def _tried(directory: str) -> str:
    """Empty when a page can be written, or what the system says."""
    path = Path(directory, f"written-{os.getpid()}")
    try:
        path.write_bytes(b"x" * 8192)
        path.unlink()
    except OSError as error:
        return os.strerror(error.errno or 0)
    return ""


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
