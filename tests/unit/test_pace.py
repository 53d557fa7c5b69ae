from skipper.pace import Pace


def test_a_burst_passes_and_then_so_much_a_second() -> None:
    now = [0.0]
    pace = Pace(100, 10, clock=lambda: now[0])
    pace.spend(130)
    assert pace.left() == -30
    now[0] = 4.0
    assert pace.left() == 10
    now[0] = 1000.0
    assert pace.left() == 100
    pace.spend(100)
    pace.renew()
    assert pace.left() == 100
