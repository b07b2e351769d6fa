-- One record is one hour at one airport; it becomes exactly one row.

-- Step 1: metric units, and where the airport lies.
WITH metric AS (
    SELECT
        w.origin,
        airport.name AS airport,
        airport.lat,
        airport.lon,
        w.time_hour,
        (w.temp - 32) / 1.8 AS temp_c,
        (w.dewp - 32) / 1.8 AS dewpoint_c,
        w.humid AS humidity_pct,
        w.wind_dir,
        -- One station once reported 1,048 mph. No wind on record reached 260 mph (408 km/h, Barrow Island, 1996),
        -- so what exceeds it is an error of the instrument and becomes null. 1 mph = 0.44704 m/s.
        CASE WHEN w.wind_speed <= 260 THEN w.wind_speed * 0.44704 END AS wind_m_s,
        CASE WHEN w.wind_gust <= 260 THEN w.wind_gust * 0.44704 END AS gust_m_s,
        w.precip * 25.4 AS precip_mm,
        w.pressure AS pressure_hpa,                     -- a millibar is a hectopascal
        w.visib * 1.609344 AS visibility_km,            -- stations report at most 10 miles
        CONCAT(CAST(w.year AS VARCHAR), '-', LPAD(CAST(w.month AS VARCHAR), 2, '0')) AS month,
        w._partition,
        w._offset,
        -- Days since noon UTC of 1 January 2000 (J2000), the day 10,957.5 since 1970.
        EXTRACT(EPOCH FROM w.time_hour) / 86400.0 - 10957.5 AS days
    FROM weather AS w
    LEFT JOIN airports AS airport ON w.origin = airport.faa
),

-- Steps 2 to 4: how high the sun stands. These are the low-precision formulas of the Astronomical Almanac (page C5),
-- good to 0.01 degrees between 1950 and 2050. All angles are in degrees.
sun AS (
    SELECT
        *,
        280.460 + 0.9856474 * days                      -- mean longitude of the sun
            + 1.915 * SIND(357.528 + 0.9856003 * days)  -- the orbit is no circle
            + 0.020 * SIND(2 * (357.528 + 0.9856003 * days)) AS longitude,
        23.439 - 0.0000004 * days AS obliquity          -- tilt of the earth's axis
    FROM metric
),
sky AS (
    SELECT
        *,
        ASIND(SIND(obliquity) * SIND(longitude)) AS declination,
        -- Hour angle: sidereal time at the airport less the sun's right ascension.
        280.46062 + 360.98564737 * days + lon
            - ATAN2D(COSD(obliquity) * SIND(longitude), COSD(longitude)) AS hour_angle
    FROM sun
),
light AS (
    SELECT
        *,
        ASIND(SIND(lat) * SIND(declination) + COSD(lat) * COSD(declination) * COSD(hour_angle)) AS sun_elevation
    FROM sky
)

-- Step 5: classes. CASE takes the first condition that is true, so the order of the lines is the rule.
SELECT
    origin,
    airport,
    time_hour,
    ROUND(temp_c, 1) AS temp_c,
    ROUND(dewpoint_c, 1) AS dewpoint_c,
    humidity_pct,
    wind_dir,
    ROUND(wind_m_s, 1) AS wind_m_s,
    ROUND(gust_m_s, 1) AS gust_m_s,
    ROUND(precip_mm, 2) AS precip_mm,
    pressure_hpa,
    ROUND(visibility_km, 2) AS visibility_km,
    ROUND(sun_elevation, 2) AS sun_elevation_deg,

    -- Day while any of the sun is above the horizon: 0.833 degrees below it, for the sun's radius and refraction.
    -- Civil twilight ends at 6 degrees (both: US Naval Observatory). Taken at the beginning of the hour.
    CASE
        WHEN sun_elevation > -0.833 THEN 'day'
        WHEN sun_elevation > -6 THEN 'twilight'
        WHEN sun_elevation IS NOT NULL THEN 'night'
    END AS lighting,

    -- The data has no cloud cover, so `clear` means that nothing falls and one can see far.
    CASE
        WHEN precip_mm > 0 AND temp_c <= 1 THEN 'snow'  -- most precipitation is snow from about 1 degree down
        WHEN precip_mm > 7.6 THEN 'heavy rain'          -- in an hour (American Meteorological Society)
        WHEN precip_mm > 0 THEN 'rain'
        WHEN visibility_km < 1 THEN 'fog'               -- World Meteorological Organization
        WHEN visibility_km < 5 THEN 'mist'
        WHEN wind_m_s >= 10.8 THEN 'windy'              -- strong breeze, 6 Beaufort
        ELSE 'clear'
    END AS weather,

    month,
    _partition,
    _offset
FROM light
