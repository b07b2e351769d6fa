-- One record is one scheduled departure; it becomes exactly one row: nothing is filtered out, and every join is a
-- LEFT JOIN, which keeps a flight even when the reference does not know its airport.

-- Step 1: the scheduled departure as an instant. `time_hour` is the hour of it, already in UTC,
-- so only the minutes within that hour are missing.
WITH scheduled AS (
    SELECT
        *,
        time_hour + minute * INTERVAL '1 minute' AS scheduled_departure
    FROM flights
)

-- Step 2: names from the reference tables, and what can be computed from the flight itself.
SELECT
    f.carrier,
    airline.name AS airline,
    f.flight,
    f.tailnum,
    f.origin,
    origin_airport.name AS origin_airport,
    f.dest,
    dest_airport.name AS dest_airport,                  -- null for BQN, PSE, SJU and STT: not in the reference

    f.scheduled_departure,
    -- A cancelled flight has no delay, and an instant plus null is null.
    f.scheduled_departure + f.dep_delay * INTERVAL '1 minute' AS actual_departure,
    f.dep_delay,                                        -- minutes
    f.sched_arr_time,                                   -- clock at the destination, HHMM
    f.arr_time,
    f.arr_delay,                                        -- minutes

    -- Late as the US Department of Transportation counts it: 15 minutes or more after the scheduled arrival
    -- (14 CFR 234.2: on time is less than 15 minutes after). Null when the flight did not arrive as planned.
    f.arr_delay >= 15 AS late,
    f.dep_time IS NULL AS cancelled,
    f.dep_time IS NOT NULL AND f.arr_delay IS NULL AS diverted,

    f.air_time,                                         -- minutes
    f.distance,                                         -- miles
    ROUND(f.distance * 60.0 / NULLIF(f.air_time, 0), 1) AS speed_mph,

    -- The partition: the month of the departure in New York, as '2013-01'.
    CONCAT(CAST(f.year AS VARCHAR), '-', LPAD(CAST(f.month AS VARCHAR), 2, '0')) AS month,

    -- Lineage: which record of the topic this row came from.
    f._partition,
    f._offset
FROM scheduled AS f
LEFT JOIN airlines AS airline ON f.carrier = airline.carrier
LEFT JOIN airports AS origin_airport ON f.origin = origin_airport.faa
LEFT JOIN airports AS dest_airport ON f.dest = dest_airport.faa
