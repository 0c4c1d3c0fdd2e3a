"""Ports of this machine that a server can listen at.

check_free("127.0.0.1", 8000)
port = find_free_port()
"""

import socket

from demask.errors import ConfigError

LOOPBACK = "127.0.0.1"


def find_free_port() -> int:
    """One of the loopback address that nobody listens at now."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return int(listener.getsockname()[1])


def check_free(host: str, port: int) -> None:
    """See that nobody listens there.

    Raises:
        ConfigError: somebody does, or this machine has no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise describe_taken(host, port, error) from error


def describe_taken(host: str, port: int, error: OSError) -> ConfigError:
    """What is wrong with a port that was given with `--port`."""
    return ConfigError(
        f"--port: {host}:{port} cannot be listened at ({error.strerror}); choose another --port"
    )
