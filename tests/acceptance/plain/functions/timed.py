"""Functions with schedules that come true at the turn of the year, so never during a test."""

import skipper


@skipper.data(schedule="0 0 1 1 *", timezone="Europe/Vilnius", retries=1, timeout="30s")
def yearly(days: int = 365, *, run: skipper.Run) -> dict[str, object]:
    return {"days": days, "request": run.request_id}
