"""A TLS server by OpenSSL alone, in a thread: unlike asyncio's it sends its alert before it hangs up."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Generator


@contextlib.contextmanager
def handshaking(context: ssl.SSLContext) -> Generator[int]:
    """Shakes hands with everybody on a free port of loopback, and hangs up. Gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_serve, args=(listening, context), daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def _serve(listening: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            with context.wrap_socket(connection, server_side=True) as secured:
                secured.recv(1)
