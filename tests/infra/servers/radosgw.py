"""A real S3 store: Ceph's RADOS Gateway from Debian's packages, on loopback, in memory, in about two seconds.

One monitor, one OSD with its objects in memory and the gateway, each a child process on random ports. The cluster
talks to itself without keys; S3 is checked as in production (signatures, policies, CORS, lifecycle). Two users:
``admin`` owns what it makes, ``limited`` may do nothing until a bucket policy grants it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.infra.process import Child, need

PROGRAMS = ("radosgw", "radosgw-admin", "ceph", "ceph-mon", "ceph-osd", "monmaptool", "openssl", "setpriv")

# Why the settings that look odd are there:
#   ms mon client mode   without keys the gateway would insist on an encrypted connection and loop
#   paxos ...            the monitor waits a second before each change of its maps otherwise
#   pg num 1             a placement group costs start-up time and memory
#   rgw lc debug ...     a "day" of the lifecycle lasts two seconds
#   rgw gc ...           the bytes of a deleted object stay in memory for two hours otherwise
#   ... max objs 1       with 32 of them an idle gateway takes a sixth of a processor to look at each every few seconds
_CONFIG = """\
[global]
fsid = {fsid}
log file = {folder}/$name.log
run dir = {folder}
admin socket =
pid file =
mon host = [v2:127.0.0.1:{ports[0]}/0,v1:127.0.0.1:{ports[1]}/0]
public network = 127.0.0.0/8
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
ms bind ipv6 = false
paxos propose interval = 0.02
paxos min wait = 0.01
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail warn = 1
mon data avail crit = 1

[mon.a]
host = localhost
mon data = {folder}/mon

[osd.0]
host = localhost
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = {capacity}
osd heartbeat grace = 600

[client.rgw]
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{ports[2]} ssl_endpoint=127.0.0.1:{ports[3]} \
ssl_certificate={folder}/cert.pem ssl_private_key={folder}/key.pem tcp_nodelay=1
rgw dns name = localhost
rgw enable usage log = false
rgw enable ops log = false
rgw lc debug interval = 2
rgw gc obj min wait = 5
rgw gc processor period = 5
rgw gc processor max time = 5
rgw override bucket index max shards = 1
rgw thread pool size = 64
rgw gc max objs = 1
rgw lc max objs = 1
rgw dynamic resharding = false
rgw enable quota threads = false
"""


@dataclass(frozen=True, slots=True)
class User:
    """Credentials of an S3 user."""

    name: str
    access_key: str
    secret_key: str


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; all held until the last is found, so that no two are the same."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


class RadosGW:
    """The store, running inside ``with``. ``capacity`` is in bytes; what is stored takes memory."""

    region = "us-east-1"

    def __init__(self, *, capacity: int = 6 << 30) -> None:
        self._capacity = capacity
        self._children: list[Child] = []
        self.folder = Path()
        self.port = 0
        self.tls_port = 0
        self.admin = User("admin", "ADMINACCESSKEY00000", "admin-secret-key-0000000000000000000")
        self.limited = User("limited", "LIMITEDACCESSKEY000", "limited-secret-key-00000000000000000")

    @property
    def endpoint(self) -> str:
        """Over plain http."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_endpoint(self) -> str:
        """Over TLS, with a certificate that ``certificate`` vouches for."""
        return f"https://localhost:{self.tls_port}"

    @property
    def certificate(self) -> Path:
        """PEM, self-signed for localhost and 127.0.0.1."""
        return self.folder / "cert.pem"

    @property
    def private_key(self) -> Path:
        """PEM, of ``certificate``."""
        return self.folder / "key.pem"

    @property
    def pids(self) -> list[int]:
        """Of the three daemons."""
        return [child.pid for child in self._children]

    def __enter__(self) -> RadosGW:
        need(*PROGRAMS)
        self.folder = Path(tempfile.mkdtemp(prefix="rgw-"))
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in reversed(self._children):
            child.kill()  # nothing here outlives the run, so nothing needs an orderly end
        self._children.clear()
        shutil.rmtree(self.folder)

    def _start(self) -> None:
        for name in ("mon", "osd", "rgw"):
            (self.folder / name).mkdir()
        ports = free_ports(4)
        self.port, self.tls_port = ports[2:]
        self._make_certificate()
        fsid, osd_id = str(uuid.uuid4()), str(uuid.uuid4())
        config = self.folder / "ceph.conf"
        config.write_text(_CONFIG.format(fsid=fsid, folder=self.folder, ports=ports, capacity=self._capacity))

        monmap = self.folder / "monmap"
        addresses = f"[v2:127.0.0.1:{ports[0]},v1:127.0.0.1:{ports[1]}]"
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", addresses, str(monmap))
        self._run("ceph-mon", "-i", "a", "--mkfs", "--monmap", str(monmap))
        self._daemon("ceph-mon", "-i", "a")
        self._run("ceph", "--connect-timeout", "20", "osd", "new", osd_id)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_id)
        self._daemon("ceph-osd", "-i", "0")
        gateway = self._daemon("radosgw", "-n", "client.rgw")
        gateway.wait_http(self.endpoint)
        self.add_user(self.admin)
        self.add_user(self.limited)

    def _make_certificate(self) -> None:
        subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        files = ("-keyout", str(self.private_key), "-out", str(self.certificate))
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        self._run("openssl", "req", "-x509", *key, *files, "-days", "30", *subject)

    def _environment(self) -> dict[str, str]:
        return {"CEPH_CONF": str(self.folder / "ceph.conf"), "CEPH_ARGS": ""}

    def _daemon(self, program: str, *arguments: str) -> Child:
        child = Child([program, *arguments, "-f"], self.folder / f"{program}.out", env=self._environment())
        self._children.append(child)
        return child

    def _run(self, *argv: str) -> str:
        path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin"
        env = {**os.environ, "PATH": path, **self._environment()}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(f"{' '.join(argv)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def add_user(self, user: User) -> None:
        """Make an S3 user."""
        names = ("--uid", user.name, "--display-name", user.name)
        keys = ("--access-key", user.access_key, "--secret", user.secret_key)
        self._run("radosgw-admin", "-n", "client.rgw", "user", "create", *names, *keys)

    def run_lifecycle(self) -> None:
        """Carry out lifecycle rules now; a day of theirs lasts two seconds here."""
        self._run("radosgw-admin", "-n", "client.rgw", "lc", "process")
