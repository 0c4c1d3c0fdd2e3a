"""Ports that a server of this machine can listen at."""

import socket

import pytest

from demask.errors import ConfigError
from demask.ports import LOOPBACK, check_free, find_free_port

pytestmark = pytest.mark.smoke


def test_a_port_that_nobody_listens_at_can_be_taken() -> None:
    port = find_free_port()
    check_free(LOOPBACK, port)
    with socket.socket() as listener:
        listener.bind((LOOPBACK, port))


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_port_that_is_taken_is_named_with_what_to_do(family: socket.AddressFamily, host: str) -> None:
    with socket.socket(family) as listener:
        try:
            listener.bind((host, 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"^--port: {host}:{port} cannot be listened at"):
            check_free(host, port)
