"""``python -m benchmarks [CASE…] [--quick] [--rounds N]``: measure, print, exit 1 when a promise is not held."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.bench import Bench, Case, opened
from benchmarks.cases import CASES
from benchmarks.process import BenchmarkFailure
from benchmarks.readings import MIB
from benchmarks.report import Report, verdicts

RESULTS = Path(__file__).parent / "results"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Benchmarks of mediagen over loopback.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all when none is given")
    parser.add_argument(
        "--quick", action="store_true", help="a quarter of the bytes, two rounds: a look, not a verdict"
    )
    parser.add_argument("--rounds", type=int, help="rounds that count, after one to warm up")
    parser.add_argument(
        "--work", type=Path, help="folder for sources and stores; default: shared memory, 8 GiB at most"
    )
    parser.add_argument("--disk", type=Path, help="folder on a real disk; default: where temporary files go")
    parser.add_argument("--list", action="store_true", help="list the cases and stop")
    args = parser.parse_args()
    unknown = [name for name in args.cases if name not in CASES]
    if unknown:
        parser.error(f"no such case: {', '.join(unknown)}")
    return args


async def _run(args: argparse.Namespace) -> list[Report]:
    names = args.cases or list(CASES)
    # ended from outside: everything that was started is stopped and removed, as with Ctrl-C
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, signal.raise_signal, signal.SIGINT)
    reports: list[Report] = []
    async with opened(args.work, args.disk, quick=args.quick, rounds=args.rounds) as bench:
        for name in names:
            began = time.perf_counter()
            report = await _one(name, CASES[name], bench)
            reports.append(report)
            _print(report, time.perf_counter() - began)
    return reports


async def _one(name: str, case: Case, bench: Bench) -> Report:
    try:
        return await case(bench)
    except (BenchmarkFailure, TimeoutError) as exc:
        return _failed(name, exc)
    except ExceptionGroup as group:
        expected, other = group.split((BenchmarkFailure, TimeoutError))
        if expected is None or other is not None:
            raise
        return _failed(name, expected)


def _failed(name: str, exc: Exception) -> Report:
    while isinstance(exc, ExceptionGroup):
        exc = exc.exceptions[0]
    return Report(name, "no figures", failure=str(exc) or "took too long")


def _print(report: Report, seconds: float) -> None:
    print(f"\n## {report.case}: {report.title}  ({seconds:.0f} s)\n")
    for table in report.tables:
        print(table + "\n")
    if report.rows:
        print(verdicts(report.rows))
    for note in report.notes:
        print(f"* {note}")
    if report.failure is not None:
        print(f"FAILED: {report.failure}")
    sys.stdout.flush()


def _save(reports: Sequence[Report], *, quick: bool) -> Path:
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    path = RESULTS / f"{now:%Y%m%dT%H%M%SZ}.json"
    told = {
        "at": now.isoformat(),
        "quick": quick,
        "machine": {
            "system": platform.platform(),
            "python": platform.python_version(),
            "processors": os.cpu_count(),
            "memory_mib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB,
            "load": os.getloadavg(),
        },
        "cases": [{**asdict(report), "missed": report.missed} for report in reports],
    }
    path.write_text(json.dumps(told, indent=1, default=str) + "\n")
    return path


def main() -> int:
    args = _arguments()
    if args.list:
        print("\n".join(CASES))
        return 0
    try:
        reports = asyncio.run(_run(args))
    except BenchmarkFailure as exc:
        print(f"benchmarks: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    path = _save(reports, quick=args.quick)
    missed = [f"{report.case}: {row.what}" for report in reports for row in report.rows if row.missed]
    missed += [f"{report.case}: {report.failure}" for report in reports if report.failure is not None]
    load, processors = os.getloadavg()[1], os.cpu_count() or 1
    if load > processors:
        print(f"\nThe machine is busy (load {load:.1f} on {processors} processors): times and stalls are too high.")
    print(f"\nFigures: {path}")
    print("\n".join(("Missed:", *missed)) if missed else "Everything that must hold, holds.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
