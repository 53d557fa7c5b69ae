"""What is measured, one section each, in the order of the page."""

SECTIONS = (
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
    "queue",
)
"""Modules of this package; each has ``run(bench)``."""
