"""The program that asks the server of `fork_server` for a command: its text is `labctl` in a folder of `forked`.

It is what a shell starts, so it must start at once: `python -I -S`, and no module that is written in Python.
"""

import _signal
import _socket
import marshal
import posix
import sys

SOCKET = "/the/socket"
PROGRAM = "labctl"
LEFT_OUT = 0  # words that stand before those of the program

HANDLED = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM)

server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
server.connect(SOCKET)
descriptors = (0, 1, 2, posix.open(".", posix.O_RDONLY), posix.open("/proc/self/ns/net", posix.O_RDONLY))
mask = posix.umask(0o022)
ignored = [int(number) for number in HANDLED if _signal.getsignal(number) == _signal.SIG_IGN]
words = [word.encode(errors="surrogateescape") for word in sys.argv[1 + LEFT_OUT :]]
told = {"program": PROGRAM, "words": words, "environment": posix.environ, "umask": mask, "ignored": ignored}
request = marshal.dumps(told)
given = b"".join(fd.to_bytes(4, sys.byteorder) for fd in descriptors)
server.sendmsg([len(request).to_bytes(4, "little")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, given)])
for number in HANDLED:
    if number not in ignored:
        _signal.signal(number, lambda got, _: server.sendall(bytes([got])))
server.sendall(request)
answer = server.recv(4)
if len(answer) < 4:
    sys.exit("fork_client: the server has ended")
status = int.from_bytes(answer, "little")
if posix.WIFSIGNALED(status):
    if posix.WTERMSIG(status) in HANDLED:
        _signal.signal(posix.WTERMSIG(status), _signal.SIG_DFL)
    posix.kill(posix.getpid(), posix.WTERMSIG(status))
posix._exit(posix.WEXITSTATUS(status))
