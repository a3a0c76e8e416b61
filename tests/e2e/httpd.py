"""A small HTTP server on the first of the sockets that it is given; it says its pid."""

import os
import signal
import socket
import sys
import threading

assert int(os.environ["LISTEN_PID"]) == os.getpid()
assert os.environ["LISTEN_FDNAMES"].split(":")[0] == "http"
listening = socket.socket(fileno=3)
ending = threading.Event()


def end(*_: object) -> None:
    """Serve what is in hand to its end, then go."""
    ending.set()
    listening.settimeout(0.01)


def main() -> None:
    """Serve one client after the other."""
    signal.signal(signal.SIGTERM, end)
    listening.settimeout(0.2)
    while not ending.is_set():
        try:
            connection, _ = listening.accept()
        except TimeoutError:
            continue
        with connection:
            connection.settimeout(5)
            body = str(os.getpid()).encode()
            connection.recv(65536)
            connection.sendall(
                b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            )
    sys.exit(0)


if __name__ == "__main__":
    main()
