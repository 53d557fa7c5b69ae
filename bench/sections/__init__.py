"""What is measured, one section each, in the order of the page."""

SECTIONS = (
    "speed",
    "direct",
    "keras",
    "tasks",
    "start",
    "cold",
    "reload",
    "memory",
    "training",
    "growth",
    "ledger",
    "models",
    "queue",
    "values",
)
"""Modules of this package; each has ``run(bench)``."""
LONG = ("forks", "nonce")
"""The same, but run only where they are named: they prove something, and take their time."""
ALL = (*SECTIONS, *LONG)
