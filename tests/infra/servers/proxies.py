"""Reverse proxies as operators run them, from Debian's packages, each in front of one server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal, TypeAlias

from tests.infra.process import Child, need
from tests.infra.servers.radosgw import free_ports

Proxy: TypeAlias = Literal["haproxy", "nginx", "apache"]

_MODULES: Final = "/usr/lib/apache2/modules"
_HAPROXY: Final = """
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend in
    bind 127.0.0.1:{port}
    option forwardfor
    http-request add-header X-Forwarded-Host %[req.hdr(host)]
    http-request add-header X-Forwarded-Proto {scheme}
    default_backend out
backend out
    server one 127.0.0.1:{behind}
"""
_NGINX: Final = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{behind};
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Host $host;
            proxy_set_header X-Forwarded-Proto {scheme};
        }}
    }}
}}
"""
_APACHE: Final = """
ServerRoot {folder}
ServerName localhost
PidFile {folder}/apache.pid
ErrorLog /dev/stderr
Listen 127.0.0.1:{port}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule headers_module {modules}/mod_headers.so
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_http_module {modules}/mod_proxy_http.so
ProxyPass / http://127.0.0.1:{behind}/
RequestHeader set X-Forwarded-Proto {scheme}
"""


@asynccontextmanager
async def proxied(kind: Proxy, behind: int, folder: Path, *, scheme: str = "https") -> AsyncIterator[int]:
    """A proxy in front of port ``behind``; gives its own port. It says that its callers came by ``scheme``.

    HAProxy adds a second line to each X-Forwarded field, nginx sets the fields anew, Apache adds to the end of a line.
    """
    program = {"haproxy": "haproxy", "nginx": "nginx", "apache": "apache2"}[kind]
    need(program)
    folder.mkdir()
    (port,) = free_ports(1)
    text = {"haproxy": _HAPROXY, "nginx": _NGINX, "apache": _APACHE}[kind]
    config = folder / "proxy.conf"
    config.write_text(text.format(port=port, behind=behind, folder=folder, scheme=scheme, modules=_MODULES))
    argv = {
        "haproxy": ["haproxy", "-db", "-f", str(config)],
        "nginx": ["nginx", "-e", "stderr", "-p", str(folder), "-c", str(config)],
        "apache": ["apache2", "-D", "FOREGROUND", "-f", str(config)],
    }[kind]
    with Child(argv, folder / "log") as child:
        await asyncio.to_thread(child.wait_http, f"http://127.0.0.1:{port}/livez")
        yield port
