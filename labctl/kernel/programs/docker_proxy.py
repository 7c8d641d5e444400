"""Docker's userland proxy, with the command line of docker-proxy (moby/moby cmd/docker-proxy):

    -proto tcp|udp -host-ip ADDRESS -host-port PORT -container-ip ADDRESS -container-port PORT [-use-listen-fd]

It listens on the host's port and forwards every connection to the container's port. The container therefore sees the
host's address on its bridge as the source. One address may be IPv6 and the other IPv4. Like the original, it forgets a
UDP client that is silent for 90 s.

Since release 28 the reply to a datagram has as its source the address that the datagram was sent to (moby pull request
48571). Before, the kernel chose the source address. A client that reached the host's address through another device
then got replies from another address, and could not recognise them. `-use-listen-fd` distinguishes the two versions:
since 28 the daemon binds the port and passes the socket. In a lab there is no daemon, so this program always binds the
port itself.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Sequence

from labctl.kernel.host.pktinfo import ANCDATA_BYTES, Ancillary, reply_pktinfo, request_pktinfo
from labctl.kernel.programs.daemon import accept, daemonize, report_ready
from labctl.kernel.programs.host_sockets import bind_port

UDP_IDLE_TIMEOUT_S = 90.0  # seconds after which a UDP client is forgotten (UDPConnTrackTimeout)
MAX_DATAGRAM_BYTES = 65507
CHUNK_BYTES = 65536  # bytes that are forwarded at once


def main(args: Sequence[str]) -> int:
    """Forward traffic until a signal ends the process. Returns 1 if the port cannot be bound."""
    passed_socket = "-use-listen-fd" in args
    args = [arg for arg in args if arg != "-use-listen-fd"]
    options = dict(zip(args[::2], args[1::2], strict=True))
    container = (options["-container-ip"], int(options["-container-port"]))
    protocol, port = options["-proto"], int(options["-host-port"])
    daemonize("docker-proxy")
    try:
        sock = bind_port(protocol, options["-host-ip"], port)
    except OSError as error:
        print(f"{protocol} port {port}: {error.strerror}", flush=True)
        return 1
    report_ready()
    if protocol == "udp":
        if passed_socket:
            request_pktinfo(sock)
        datagrams(sock, container)
    while True:
        client = accept(sock)
        if client is not None:
            start_connection(client, container)


def start_connection(client: socket.socket, container: tuple[str, int]) -> None:
    """Begin to forward a connection. Without a thread for it, close it: the others go on."""
    try:
        threading.Thread(target=connection, args=(client, container), daemon=True).start()
    except RuntimeError:
        client.close()


def connection(client: socket.socket, container: tuple[str, int]) -> None:
    """Forward one TCP connection in both directions, until both sides have finished sending."""
    with client, socket.socket(_family(container), socket.SOCK_STREAM) as server:
        reply_thread = threading.Thread(target=copy_stream, args=(server, client), daemon=True)
        try:
            server.connect(container)
            reply_thread.start()
        except (OSError, RuntimeError):
            return  # no server there, or no thread: the client sees that its connection is closed
        copy_stream(client, server)
        reply_thread.join()


def _family(address: tuple[str, int]) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def copy_stream(source: socket.socket, target: socket.socket) -> None:
    """Forward one direction of a connection. The end of the stream is forwarded, too."""
    try:
        while data := source.recv(CHUNK_BYTES):
            target.sendall(data)
    except OSError:
        pass
    for sock, direction in ((source, socket.SHUT_RD), (target, socket.SHUT_WR)):
        try:
            sock.shutdown(direction)
        except OSError:
            pass


def datagrams(front: socket.socket, container: tuple[str, int]) -> None:
    """Forward UDP. Each client gets a separate socket towards the container, as long as it is active."""
    selector = selectors.DefaultSelector()
    selector.register(front, selectors.EVENT_READ)
    clients: dict[tuple[str, int], socket.socket] = {}
    last_active: dict[tuple[str, int], float] = {}
    reply_ancdata: dict[tuple[str, int], list[Ancillary]] = {}  # by client: the source address of the replies
    while True:
        for key, _ in selector.select(UDP_IDLE_TIMEOUT_S):
            try:
                if key.fileobj is front:
                    data, ancdata, _, client = front.recvmsg(MAX_DATAGRAM_BYTES, ANCDATA_BYTES)
                    if client not in clients:
                        reply_ancdata[client] = reply_pktinfo(ancdata)
                        clients[client] = socket.socket(_family(container), socket.SOCK_DGRAM)
                        clients[client].connect(container)
                        selector.register(clients[client], selectors.EVENT_READ, client)
                    clients[client].send(data)
                else:
                    client = key.data
                    front.sendmsg([clients[client].recv(MAX_DATAGRAM_BYTES)], reply_ancdata[client], 0, client)
                last_active[client] = time.monotonic()
            except OSError:
                continue  # refused by the container: the client gets no reply, as with docker-proxy
        for client in [
            client for client, active_at in last_active.items() if time.monotonic() - active_at > UDP_IDLE_TIMEOUT_S
        ]:
            del last_active[client], reply_ancdata[client]
            selector.unregister(clients[client])
            clients.pop(client).close()
