"""``python -m mediagen``."""

from __future__ import annotations

from mediagen.cli.main import main

if __name__ == "__main__":
    main()
