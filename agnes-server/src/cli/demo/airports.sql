WITH strikes AS (
  SELECT regexp_replace(lower("Airport Name"), '\b(international|intl|national|natl|metro|airport|arpt)\b|[^a-z]', '', 'g') AS strike_key,
         count(*) AS strikes,
         count(*) FILTER (WHERE "Effect Amount of damage" <> 'None') AS damaging
  FROM bird_strikes
  GROUP BY strike_key
), traffic AS (
  SELECT a.iata, a.name AS airport, count(*) AS flights,
         regexp_replace(lower(a.name), '\b(international|intl|national|natl|metro|airport|arpt)\b|[^a-z]', '', 'g') AS flight_key
  FROM flights f JOIN airports a ON a.iata IN (f.origin, f.destination)
  GROUP BY a.iata, a.name
  HAVING count(*) >= 40
)
SELECT iata, airport, flights, strikes,
       round(strikes / flights, 1) AS per_flight,
       round(100 * damaging / strikes, 1) AS damaging_pct
FROM traffic JOIN strikes ON contains(strike_key, flight_key) OR contains(flight_key, strike_key)
ORDER BY per_flight DESC, iata
LIMIT 5
