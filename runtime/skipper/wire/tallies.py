"""What an instance has counted and observed since it last said so: the payload of TALLIES frames.

Plain JSON, read without a schema, as what functions emit is.
"""

from __future__ import annotations

import json

from pydantic_core import to_json

from skipper.function.tallies import BUCKETS, Series, Tallies
from skipper.histogram import Histogram


def pack_tallies(tallies: Tallies) -> bytes:
    """What is sent."""
    return to_json(
        {
            "counts": [[*series, amount] for series, amount in tallies.counts.items()],
            "histograms": [
                [*series, each.counts, each.total] for series, each in tallies.histograms.items()
            ],
            "left_out": tallies.left_out,
        }
    )


def parse_tallies(payload: bytes) -> Tallies:
    """What was sent."""
    sent, tallies = json.loads(payload), Tallies()
    for name, labels, amount in sent["counts"]:
        tallies.counts[_series(name, labels)] = amount
    for name, labels, counts, total in sent["histograms"]:
        histogram = Histogram(BUCKETS)
        histogram.counts, histogram.total = counts, total
        tallies.histograms[_series(name, labels)] = histogram
    tallies.left_out = sent["left_out"]
    return tallies


def _series(name: str, labels: list[list[str]]) -> Series:
    return Series(name, tuple((label, text) for label, text in labels))
