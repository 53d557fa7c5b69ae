"""What is measured, one section each, in the order of the page."""

from __future__ import annotations
