"""Peers as contenders of a table: each run is a process of its own."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from benchmarks.process import BenchmarkFailure, run
from benchmarks.readings import Contender, Reading


def clean_environment() -> dict[str, str]:
    """No configuration of the user may reach a peer or the server."""
    dropped = ("AWS_", "MEDIAGEN_", "SSL_CERT", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "REQUESTS_CA")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(dropped)}
    absent = {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    return {**kept, **absent, "PYTHONDONTWRITEBYTECODE": "1"}


def curl(url: str, *, to: Path | None = None, certificate: Path | None = None) -> Contender:
    """``curl -o /dev/null``, the baseline; ``to`` writes a file and syncs it to its disk, as a store has to."""
    trust = ["--cacert", str(certificate)] if certificate is not None else []
    argv = ["curl", "-sS", "--fail", *trust, "-o", str(to) if to is not None else os.devnull, url]
    if to is not None:
        argv = ["sh", "-c", 'out=$1; shift; "$@" && sync "$out"', "sh", str(to), *argv]

    async def go() -> Reading:
        done = await run(argv, env=clean_environment())
        if to is not None:
            to.unlink()
        return Reading(done.seconds, done.cpu)

    return go


def peer(
    name: str,
    url: str,
    endpoint: str,
    *,
    certificate: Path | None = None,
    in_flight: int = 4,
    signed: bool = False,
    crc: bool = False,
) -> Contender:
    """A transfer of ``benchmarks.peers.transfers``."""
    argv = [sys.executable, "-m", "benchmarks.peers.transfers", name, "--url", url, "--endpoint", endpoint]
    argv += ["--in-flight", str(in_flight)]
    if certificate is not None:
        argv += ["--certificate", str(certificate)]
    if signed:
        argv.append("--signed")
    if crc:
        argv.append("--crc")

    async def go() -> Reading:
        done = await run(argv, env=clean_environment())
        try:
            told = json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError) as exc:
            raise BenchmarkFailure(f"{name} printed no figures: {done.stdout[-200:]!r}") from exc
        return Reading(told["seconds"], told["cpu"], told["growth_mb"])

    return go
