-- What a session's instance puts in front of functions of the engine whose cost one short
-- argument multiplies, past every limit on memory and out of reach of an interrupt. Values within
-- one vector of 2,048 rows are not counted by the engine, so that a bound of 50,000 bytes a value
-- is one of 100 MB.
--
-- The argument is checked where it is handed over, so that no part of the call can be computed
-- before. `invoke` computes each argument once; written out twice, calls within calls would
-- double with each level. What is over a bound fails as a cast, not by `error`, which may have
-- effects: the engine would take no such call for a key to group by. A statement can't name the
-- originals: the guard refuses functions by a qualified name.

CREATE MACRO repeat(s, n) AS invoke(
    lambda s1, n1: system.main.repeat(s1,
        CASE WHEN strlen(CAST(s1 AS VARCHAR))::HUGEINT * n1 > 50000
        THEN CAST('over a limit: repeat: the result would have more than 50,000 bytes' AS INTEGER) ELSE n1 END), s, n);

CREATE MACRO lpad(s, n, p) AS invoke(
    lambda s1, n1, p1: system.main.lpad(s1,
        CASE WHEN n1 > 10000
        THEN CAST('over a limit: lpad: the result would have more than 10,000 characters' AS INTEGER) ELSE n1 END, p1),
    s, n, p);

CREATE MACRO rpad(s, n, p) AS invoke(
    lambda s1, n1, p1: system.main.rpad(s1,
        CASE WHEN n1 > 10000
        THEN CAST('over a limit: rpad: the result would have more than 10,000 characters' AS INTEGER) ELSE n1 END, p1),
    s, n, p);

CREATE MACRO list_resize
    (l, n) AS invoke(
        lambda l1, n1: system.main.list_resize(l1,
            CASE WHEN n1 > 10000
            THEN CAST('over a limit: list_resize: the list would have more than 10,000 values' AS INTEGER) ELSE n1 END),
        l, n),
    (l, n, v) AS invoke(
        lambda l1, n1, v1: system.main.list_resize(l1,
            CASE WHEN n1 > 10000 OR strlen(CAST(v1 AS VARCHAR))::HUGEINT * n1 > 50000
            THEN CAST('over a limit: list_resize: the list would have more than 10,000 values or 50,000 bytes' AS INTEGER)
            ELSE n1 END, v1),
        l, n, v);
CREATE MACRO array_resize(l, n) AS list_resize(l, n), (l, n, v) AS list_resize(l, n, v);

CREATE MACRO bitstring(b, n) AS invoke(
    lambda b1, n1: system.main.bitstring(b1,
        CASE WHEN n1 > 100000
        THEN CAST('over a limit: bitstring: the result would have more than 100,000 bits' AS INTEGER) ELSE n1 END), b, n);

CREATE MACRO levenshtein(a, b) AS invoke(
    lambda a1, b1: system.main.levenshtein(
        CASE WHEN strlen(a1)::HUGEINT * strlen(b1) > 250000
        THEN CAST(CAST('over a limit: levenshtein: the texts are longer than 500 bytes each' AS INTEGER) AS VARCHAR) ELSE a1 END, b1), a, b);
CREATE MACRO editdist3(a, b) AS levenshtein(a, b);

CREATE MACRO damerau_levenshtein(a, b) AS invoke(
    lambda a1, b1: system.main.damerau_levenshtein(
        CASE WHEN strlen(a1)::HUGEINT * strlen(b1) > 40000
        THEN CAST(CAST('over a limit: damerau_levenshtein: the texts are longer than 200 bytes each' AS INTEGER) AS VARCHAR)
        ELSE a1 END, b1), a, b);

CREATE MACRO jaro_similarity
    (a, b) AS invoke(
        lambda a1, b1: system.main.jaro_similarity(
            CASE WHEN strlen(a1) > 10000 OR strlen(b1) > 10000
            THEN CAST(CAST('over a limit: jaro_similarity: a text is longer than 10,000 bytes' AS INTEGER) AS VARCHAR) ELSE a1 END, b1),
        a, b),
    (a, b, c) AS invoke(
        lambda a1, b1, c1: system.main.jaro_similarity(
            CASE WHEN strlen(a1) > 10000 OR strlen(b1) > 10000
            THEN CAST(CAST('over a limit: jaro_similarity: a text is longer than 10,000 bytes' AS INTEGER) AS VARCHAR) ELSE a1 END, b1, c1),
        a, b, c);

CREATE MACRO jaro_winkler_similarity
    (a, b) AS invoke(
        lambda a1, b1: system.main.jaro_winkler_similarity(
            CASE WHEN strlen(a1) > 10000 OR strlen(b1) > 10000
            THEN CAST(CAST('over a limit: jaro_winkler_similarity: a text is longer than 10,000 bytes' AS INTEGER) AS VARCHAR)
            ELSE a1 END, b1),
        a, b),
    (a, b, c) AS invoke(
        lambda a1, b1, c1: system.main.jaro_winkler_similarity(
            CASE WHEN strlen(a1) > 10000 OR strlen(b1) > 10000
            THEN CAST(CAST('over a limit: jaro_winkler_similarity: a text is longer than 10,000 bytes' AS INTEGER) AS VARCHAR)
            ELSE a1 END, b1, c1),
        a, b, c);

CREATE MACRO range
    (a) AS invoke(
        lambda a1: system.main.range(
            CASE WHEN a1 > 10000
            THEN CAST('over a limit: range: more than 10,000 values in a list; read FROM range(…) instead' AS INTEGER)
            ELSE a1 END), a),
    (a, b) AS invoke(
        lambda a1, b1: system.main.range(a1,
            CASE WHEN b1::HUGEINT - a1::HUGEINT > 10000
            THEN CAST('over a limit: range: more than 10,000 values in a list; read FROM range(…) instead' AS INTEGER)
            ELSE b1 END), a, b),
    (a BIGINT, b BIGINT, c BIGINT) AS invoke(
        lambda a1, b1, c1: system.main.range(a1,
            CASE WHEN c1 <> 0 AND (b1::DOUBLE - a1::DOUBLE) / c1 > 10000
            THEN CAST('over a limit: range: more than 10,000 values in a list; read FROM range(…) instead' AS INTEGER)
            ELSE b1 END, c1), a, b, c),
    (a TIMESTAMP, b TIMESTAMP, c INTERVAL) AS invoke(
        lambda a1, b1, c1: system.main.range(a1,
            CASE WHEN epoch_us(c1) <> 0
                AND (epoch_us(b1)::DOUBLE - epoch_us(a1)::DOUBLE) / epoch_us(c1) > 10000
            THEN CAST('over a limit: range: more than 10,000 values in a list; read FROM range(…) instead' AS TIMESTAMP)
            ELSE b1 END, c1), a, b, c),
    (a TIMESTAMPTZ, b TIMESTAMPTZ, c INTERVAL) AS invoke(
        lambda a1, b1, c1: system.main.range(a1,
            CASE WHEN epoch_us(c1) <> 0
                AND (epoch_us(b1)::DOUBLE - epoch_us(a1)::DOUBLE) / epoch_us(c1) > 10000
            THEN CAST('over a limit: range: more than 10,000 values in a list; read FROM range(…) instead' AS TIMESTAMPTZ)
            ELSE b1 END, c1), a, b, c);

CREATE MACRO generate_series
    (a) AS invoke(
        lambda a1: system.main.generate_series(
            CASE WHEN a1 > 10000
            THEN CAST('over a limit: generate_series: more than 10,000 values in a list; read FROM generate_series(…) instead' AS INTEGER)
            ELSE a1 END), a),
    (a, b) AS invoke(
        lambda a1, b1: system.main.generate_series(a1,
            CASE WHEN b1::HUGEINT - a1::HUGEINT > 10000
            THEN CAST('over a limit: generate_series: more than 10,000 values in a list; read FROM generate_series(…) instead' AS INTEGER)
            ELSE b1 END), a, b),
    (a BIGINT, b BIGINT, c BIGINT) AS invoke(
        lambda a1, b1, c1: system.main.generate_series(a1,
            CASE WHEN c1 <> 0 AND (b1::DOUBLE - a1::DOUBLE) / c1 > 10000
            THEN CAST('over a limit: generate_series: more than 10,000 values in a list; read FROM generate_series(…) instead' AS INTEGER)
            ELSE b1 END, c1), a, b, c),
    (a TIMESTAMP, b TIMESTAMP, c INTERVAL) AS invoke(
        lambda a1, b1, c1: system.main.generate_series(a1,
            CASE WHEN epoch_us(c1) <> 0
                AND (epoch_us(b1)::DOUBLE - epoch_us(a1)::DOUBLE) / epoch_us(c1) > 10000
            THEN CAST('over a limit: generate_series: more than 10,000 values in a list; read FROM generate_series(…) instead' AS TIMESTAMP)
            ELSE b1 END, c1), a, b, c),
    (a TIMESTAMPTZ, b TIMESTAMPTZ, c INTERVAL) AS invoke(
        lambda a1, b1, c1: system.main.generate_series(a1,
            CASE WHEN epoch_us(c1) <> 0
                AND (epoch_us(b1)::DOUBLE - epoch_us(a1)::DOUBLE) / epoch_us(c1) > 10000
            THEN CAST('over a limit: generate_series: more than 10,000 values in a list; read FROM generate_series(…) instead' AS TIMESTAMPTZ)
            ELSE b1 END, c1), a, b, c);

CREATE MACRO replace(s, a, b) AS invoke(
    lambda s1, a1, b1: system.main.replace(
        CASE WHEN strlen(b1) > strlen(a1)
            AND strlen(s1)::HUGEINT // greatest(strlen(a1), 1) * strlen(b1) > 100000
        THEN CAST(CAST('over a limit: replace: the result could have more than 100,000 bytes' AS INTEGER) AS VARCHAR) ELSE s1 END, a1, b1),
    s, a, b);

CREATE MACRO string_split(s, d) AS invoke(
    lambda s1, d1: system.main.string_split(
        CASE WHEN strlen(s1) > 20000
        THEN CAST(CAST('over a limit: string_split: the text is longer than 20,000 bytes' AS INTEGER) AS VARCHAR) ELSE s1 END, d1), s, d);
CREATE MACRO str_split(s, d) AS string_split(s, d);
CREATE MACRO split(s, d) AS string_split(s, d);
CREATE MACRO string_to_array(s, d) AS string_split(s, d);

-- JSON that is typed as such and nested deeply spoils the whole database here; text doesn't.
CREATE MACRO json_structure(j) AS system.main.json_structure(CAST(j AS VARCHAR));
