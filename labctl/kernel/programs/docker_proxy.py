"""Docker's userland proxy, with the command line of docker-proxy (moby/moby cmd/docker-proxy):

    -proto tcp|udp -host-ip ADDRESS -host-port PORT -container-ip ADDRESS -container-port PORT [-use-listen-fd]

It listens on the host's port and carries every connection over to the container's, which therefore sees the
host's address on its bridge. A UDP client that is silent for 90 s is forgotten, as there. Since release 28 a
datagram's answer comes from the address that was asked (moby pull request 48571); before, the kernel chose one,
and a client whose way to the host's address leads by another device got answers that it could not take for its
own. What tells the two apart is `-use-listen-fd`: from 28 on the daemon binds the port and hands it over. Here
nobody does, so the port is bound here either way.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Sequence

from labctl.kernel.programs.daemon import leave, ready

IDLE = 90.0  # seconds after which a UDP client is forgotten (UDPConnTrackTimeout)
SIZE = 65507
IP_PKTINFO = 8


def main(words: Sequence[str]) -> int:
    """Carry traffic until ended by a signal; 1 where the port cannot be had."""
    handed = "-use-listen-fd" in words
    words = [word for word in words if word != "-use-listen-fd"]
    said = dict(zip(words[::2], words[1::2], strict=True))
    front = (said["-host-ip"], int(said["-host-port"]))
    back = (said["-container-ip"], int(said["-container-port"]))
    kind = socket.SOCK_STREAM if said["-proto"] == "tcp" else socket.SOCK_DGRAM
    leave("docker-proxy")
    sock = socket.socket(socket.AF_INET, kind)
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(front)
        if kind == socket.SOCK_STREAM:
            sock.listen(64)
    except OSError as error:
        print(f"{said['-proto']} port {front[1]}: {error.strerror}", flush=True)
        return 1
    ready()
    if kind == socket.SOCK_DGRAM:
        if handed:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        datagrams(sock, back)
    while True:
        client, _ = sock.accept()
        threading.Thread(target=connection, args=(client, back), daemon=True).start()


def connection(client: socket.socket, back: tuple[str, int]) -> None:
    """One TCP connection: whatever one side says goes to the other, until both have said all."""
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with client, server:
        try:
            server.connect(back)
        except OSError:
            return  # nobody serves there: the client sees its connection closed
        other = threading.Thread(target=pump, args=(server, client), daemon=True)
        other.start()
        pump(client, server)
        other.join()


def pump(source: socket.socket, target: socket.socket) -> None:
    """Carry one direction; an end of it is passed on, too."""
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    for sock, way in ((source, socket.SHUT_RD), (target, socket.SHUT_WR)):
        try:
            sock.shutdown(way)
        except OSError:
            pass


def datagrams(front: socket.socket, back: tuple[str, int]) -> None:
    """UDP: each client has a socket of its own towards the container, as long as it speaks."""
    selector = selectors.DefaultSelector()
    selector.register(front, selectors.EVENT_READ)
    clients: dict[tuple[str, int], socket.socket] = {}
    seen: dict[tuple[str, int], float] = {}
    asked: dict[tuple[str, int], list[tuple[int, int, bytes]]] = {}  # IP_PKTINFO: the address to answer from
    while True:
        for key, _ in selector.select(IDLE):
            try:
                if key.fileobj is front:
                    data, notes, _, client = front.recvmsg(SIZE, 256)
                    if client not in clients:
                        asked[client] = [(level, note, bytes(4) + body[4:8] + bytes(4)) for level, note, body in notes]
                        clients[client] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                        clients[client].connect(back)
                        selector.register(clients[client], selectors.EVENT_READ, client)
                    clients[client].send(data)
                else:
                    client = key.data
                    front.sendmsg([clients[client].recv(SIZE)], asked[client], 0, client)
                seen[client] = time.monotonic()
            except OSError:
                continue  # refused by the container: the client hears nothing, as with docker-proxy
        for client in [client for client, when in seen.items() if time.monotonic() - when > IDLE]:
            del seen[client], asked[client]
            selector.unregister(clients[client])
            clients.pop(client).close()
