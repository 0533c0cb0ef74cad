"""A tiny SOCKS5 server on loopback (RFC 1928), which leads every connection to one place."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Socks:
    """The proxy: its address, and where it was asked to connect to, as `host:port`."""

    address: str
    asked: list[str] = field(default_factory=list)
    passed_on: bytearray = field(default_factory=bytearray)


@contextmanager
def serving_socks(leads_to: int = 0, says: bytes | None = None) -> Iterator[Socks]:
    """Lead to a port of loopback; with `says`, answer each greeting with that and nothing else."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = Socks(f"127.0.0.1:{server.getsockname()[1]}")

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = server.accept()
                    threading.Thread(target=answer, args=(client,), daemon=True).start()

        def answer(client: socket.socket) -> None:
            with client, suppress(OSError):
                client.recv(2 + 255)
                if says is not None:
                    client.sendall(says)
                    client.recv(1)
                    return
                client.sendall(b"\x05\x00")
                asked = client.recv(4096)
                proxy.asked.append(f"{host(asked)}:{int.from_bytes(asked[-2:], 'big')}")
                with socket.create_connection(("127.0.0.1", leads_to)) as onward:
                    client.sendall(b"\x05\x00\x00\x01" + bytes(6))
                    threading.Thread(target=pass_on, args=(onward, client, bytearray()), daemon=True).start()
                    pass_on(client, onward, proxy.passed_on)

        threading.Thread(target=serve, daemon=True).start()
        yield proxy
        server.shutdown(socket.SHUT_RDWR)


def host(asked: bytes) -> str:
    """The host of a SOCKS5 request: its name, or its IPv4 address."""
    return asked[5:-2].decode() if asked[3] == 3 else socket.inet_ntoa(asked[4:8])


def pass_on(source: socket.socket, target: socket.socket, seen: bytearray) -> None:
    """Copy what comes until it ends."""
    with suppress(OSError):
        while piece := source.recv(65536):
            seen += piece
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
