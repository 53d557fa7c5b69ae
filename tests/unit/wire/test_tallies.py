from skipper.function.tallies import Tallies, counted, observed
from skipper.wire.tallies import pack_tallies, parse_tallies


def test_tallies_come_as_they_were_sent() -> None:
    tallies = Tallies(left_out=2)
    tallies.count(counted("n", 2, {"b": 'quo"te', "a": "ä\n"}))
    tallies.observe(observed("h", 0.5, {}))
    got = parse_tallies(pack_tallies(tallies))
    assert (got.counts, got.left_out) == (tallies.counts, 2)
    (series, histogram), (sent_series, sent) = *got.histograms.items(), *tallies.histograms.items()
    assert series == sent_series
    assert (histogram.counts, histogram.total) == (sent.counts, sent.total)


def test_nothing_comes_as_nothing() -> None:
    assert parse_tallies(pack_tallies(Tallies())) == Tallies()
