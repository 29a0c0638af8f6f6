WITH delays AS (
  SELECT month(f.date) AS m, count(*) AS flights, round(avg(f.delay), 1) AS avg_delay_min
  FROM flights f JOIN airports a ON a.iata IN (f.origin, f.destination)
  WHERE a.city = 'Seattle'
  GROUP BY m
), weather AS (
  SELECT month(date) AS m, round(avg(temp_min), 1) AS avg_low_c,
         round(100 * avg((precipitation > 0)::INT)) AS wet_days_pct
  FROM seattle_weather
  GROUP BY m
), strikes AS (
  SELECT month("Flight Date") AS m, count(*) AS bird_strikes
  FROM bird_strikes
  WHERE "Airport Name" = 'SEATTLE-TACOMA INTL'
  GROUP BY m
)
SELECT monthname(make_date(2001, m, 1)) AS month,
       flights, avg_delay_min, avg_low_c, wet_days_pct, bird_strikes
FROM delays JOIN weather USING (m) JOIN strikes USING (m)
ORDER BY m
