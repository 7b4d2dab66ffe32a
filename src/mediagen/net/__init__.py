"""The one door to the outside: guarded sessions, downloads with resume, retry arithmetic."""
