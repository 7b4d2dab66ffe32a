"""Where the server is that a command talks to."""

from __future__ import annotations

import os
from pathlib import Path

from mediagen.cli.client import CannotReach


def server_address(named: str | None, config: Path | None = None) -> str:
    """``named``, else the address of the server that the configuration describes.

    A running server has written where it listens: neither an option of its command line nor a free port is in a file.

    Raises:
        CannotReach: the configuration cannot be used.
    """
    if named:
        return named
    from mediagen.settings import ConfigurationError, load  # takes time that a named address need not spend
    from mediagen.web.auth.operator_file import found

    try:
        settings, _ = load(config, os.environ)
    except ConfigurationError as exc:
        raise CannotReach("the configuration cannot be used: " + "; ".join(exc.problems)) from None
    access = found(settings.data_dir)
    return access.url if access is not None else settings.server.local_url(settings.server.port)
