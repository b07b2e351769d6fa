SELECT
  f.year, f.day, f.dep_time, f.sched_dep_time, f.dep_delay, f.arr_time, f.sched_arr_time, f.arr_delay,
  f.carrier, airline.name AS airline, f.flight, f.tailnum, f.origin, f.dest, f.air_time, f.distance,
  f.hour, f.minute, f.time_hour,
  f.arr_delay >= 15 AS late,
  ROUND(f.distance * 60.0 / NULLIF(f.air_time, 0), 1) AS speed_mph,
  f.dep_delay - f.arr_delay AS made_up,
  f.time_hour + f.minute * INTERVAL '1 minute' AS scheduled_departure,
  f.month
FROM flights AS f
LEFT JOIN airlines AS airline ON f.carrier = airline.carrier
WHERE f.dep_time IS NOT NULL
