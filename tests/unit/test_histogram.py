from skipper.histogram import Histogram


def test_an_observation_counts_in_the_first_bucket_that_holds_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (-5, 1.0, 1.5, 2.0, 2.1):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.count == 5


def test_two_of_the_same_bounds_add_up() -> None:
    one, other = Histogram((1.0,)), Histogram((1.0,))
    one.observe(0.5)
    other.observe(3.0)
    one.add(other)
    assert (one.counts, one.total, other.counts) == ([1, 1], 3.5, [0, 1])
