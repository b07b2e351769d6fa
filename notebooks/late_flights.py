"""When and with whom flights are late: a look at the lake's `flights` table with Polars."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Late flights")

with app.setup:
    import os
    from pathlib import Path

    import altair as alt
    import marimo as mo
    import polars as pl


@app.cell
def the_lake():
    default = Path(__file__).resolve().parent.parent / "lake"
    lake = Path(mo.cli_args().get("lake") or os.environ.get("PUDDLE_LAKE") or default)
    if not (lake / "flights").is_dir():
        raise FileNotFoundError(
            f"no flights table in {lake}; make one with `cargo run -- demo`, or name the lake: PUDDLE_LAKE=..."
        )
    # Without the schema Polars would guess the type of the partition folders, month=2013-01.
    flights = pl.scan_parquet(lake / "flights", hive_schema={"month": pl.String})
    return (flights,)


@app.cell
def arrived(flights):
    # Flights that were cancelled or diverted are neither late nor on time.
    flown = flights.filter(pl.col("late").is_not_null())
    late_share = pl.col("late").mean().alias("late_share")
    return flown, late_share


@app.cell
def summary(flights, flown, late_share):
    totals = (
        flights.select(pl.len().alias("flights"), pl.col("cancelled").sum())
        .join(flown.select(pl.len().alias("arrived"), late_share), how="cross")
        .collect()
        .row(0, named=True)
    )
    mo.md(f"""
    # Late flights

    The lake holds **{totals["flights"]:,}** departures from New York. {totals["cancelled"]:,} of them were
    cancelled; of the {totals["arrived"]:,} that reached their destination, **{totals["late_share"]:.1%}** arrived
    late: 15 minutes or more after the schedule.
    """)
    return


@app.cell
def hours():
    mo.md("""
    ## Delays pile up over the day

    An aircraft flies several legs a day, and each late one passes its delay on to the next. Who wants to be on
    time leaves in the morning.
    """)
    return


@app.cell
def hours_plot(flown, late_share):
    hour = pl.col("scheduled_departure").dt.convert_time_zone("America/New_York").dt.hour().alias("hour")
    by_hour = (
        flown.group_by(hour, "origin")
        .agg(late_share, pl.len().alias("flights"))
        .filter(pl.col("flights") >= 10)  # a share of fewer is noise
        .sort("origin", "hour")
        .collect()
    )
    plot_by_hour = (
        alt.Chart(by_hour, title="Late arrivals by hour of scheduled departure")
        .mark_line(point=True)
        .encode(
            alt.X("hour:Q", title="hour of departure, New York time", scale=alt.Scale(nice=False), axis=alt.Axis(tickMinStep=1)),
            alt.Y("late_share:Q", title="late arrivals", axis=alt.Axis(format="%")),
            alt.Color("origin:N", title="from"),
            tooltip=["origin", "hour", alt.Tooltip("late_share", format=".1%"), "flights"],
        )
        .properties(width=600, height=280)
    )
    plot_by_hour
    return (plot_by_hour,)


@app.cell
def airlines():
    mo.md("""
    ## The season matters as much as the airline

    Airlines are in order of their share of the whole year, the worst first. June and July with their thunderstorms
    and December with its holidays are darker in nearly every row, September is the best month.
    """)
    return


@app.cell
def airlines_plot(flown, late_share):
    by_airline = (
        flown.group_by("airline", "month")
        .agg(late_share, pl.len().alias("flights"))
        .filter(pl.col("flights") >= 10)
        .sort("airline", "month")
        .collect()
    )
    order = flown.group_by("airline").agg(late_share).sort("late_share", descending=True).collect()["airline"]
    plot_by_airline = (
        alt.Chart(by_airline, title="Late arrivals by airline and month")
        .mark_rect()
        .encode(
            alt.X("month:O", title=None),
            alt.Y("airline:N", title=None, sort=order.to_list(), axis=alt.Axis(labelLimit=200)),
            alt.Color("late_share:Q", title="late", scale=alt.Scale(scheme="orangered"), legend=alt.Legend(format="%")),
            tooltip=["airline", "month", alt.Tooltip("late_share", format=".1%"), "flights"],
        )
        .properties(width=600)
    )
    plot_by_airline
    return (plot_by_airline,)


if __name__ == "__main__":
    app.run()
