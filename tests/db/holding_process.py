"""Holds the database given as argument for writing, says so, and waits to be killed."""

from __future__ import annotations

import sqlite3
import sys
import threading

connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
sys.stdout.write("held\n")
sys.stdout.flush()
threading.Event().wait()
