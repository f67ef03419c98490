"""Ports on this machine alone."""

import socket

LOOPBACK = "127.0.0.1"
_EVERY = "0.0.0.0"
_TIMEOUT_S = 2.0


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        port: int = listener.getsockname()[1]
    return port


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Tell whether one could listen on a port."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            return False
    return True


def is_open(port: int, host: str = LOOPBACK) -> bool:
    """Tell whether somebody listens on a port of this machine; "0.0.0.0" is asked on loopback."""
    try:
        with socket.create_connection((LOOPBACK if host == _EVERY else host, port), timeout=_TIMEOUT_S):
            return True
    except OSError:
        return False
