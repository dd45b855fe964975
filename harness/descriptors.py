"""File descriptors: a prober with thousands of targets and a proxy in a black hole hold many sockets at once."""

import resource


def allow_many() -> int:
    """Raise the soft limit of open files to the hard one; returns it. Systemd and shells leave the soft one at 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
