WITH weather AS (
  SELECT quarter(date + INTERVAL 1 MONTH) AS season,
         round(avg(temp_max), 1) AS avg_high_c,
         round(100 * avg((precipitation > 0)::INT)) AS wet_days_pct
  FROM seattle_weather
  GROUP BY season
), strikes AS (
  SELECT quarter("Flight Date" + INTERVAL 1 MONTH) AS season,
         count(*) AS strikes,
         round(100 * avg(("Time of day" = 'Night')::INT)) AS at_night_pct
  FROM bird_strikes
  WHERE "Origin State" IN ('Washington', 'Oregon')
  GROUP BY season
)
SELECT ['winter', 'spring', 'summer', 'autumn'][season] AS season_name,
       avg_high_c, wet_days_pct, strikes, at_night_pct
FROM weather JOIN strikes USING (season)
ORDER BY season
