//! The files connector: formats, mistakes, and what happens at the second run.

use std::path::Path;

use agnes_core::connector::{ConnectorReport, TableStatus};
use agnes_core::connectors::files::{Encoding, FilesConnector, FilesOptions, Mistakes};
use agnes_core::{Agnes, Kind, NoProgress, Result};

use crate::support::{Place, ingest, query, query_error, rebuild, source};

fn run(agnes: &Agnes, paths: &[&Path], options: FilesOptions) -> Result<ConnectorReport> {
    let paths = paths.iter().map(|p| p.to_path_buf()).collect();
    let files = FilesConnector::new(paths, options);
    agnes.ingest(&source("files"), &files, &NoProgress).map(|report| report.extract)
}

fn loaded(place: &Place, file: &str, content: impl AsRef<[u8]>) -> Agnes {
    let path = place.write(&format!("in/{file}"), content);
    let agnes = place.agnes();
    ingest(&agnes, "files", &[&path]);
    rebuild(&agnes);
    agnes
}

fn failure(place: &Place, file: &str, content: impl AsRef<[u8]>) -> String {
    let path = place.write(&format!("in/{file}"), content);
    let report = run(&place.agnes(), &[&path], FilesOptions::default()).unwrap();
    let failed = report.failed().next().unwrap_or_else(|| panic!("{report:?}"));
    failed.error.as_ref().unwrap().message().to_string()
}

#[test]
fn delimiter_header_and_types_are_sniffed() {
    for (file, content) in [
        ("t.csv", "id,name,day\n1,Ada,2026-01-02\n2,\"Bob, Jr\",2026-01-03\n"),
        ("t.csv", "id;name;day\n1;Ada;2026-01-02\n2;Bob, Jr;2026-01-03\n"),
        ("t.csv", "id|name|day\n1|Ada|2026-01-02\n2|Bob, Jr|2026-01-03\n"),
        ("t.tsv", "id\tname\tday\n1\tAda\t2026-01-02\n2\tBob, Jr\t2026-01-03\n"),
        ("t.csv", "\u{feff}id,name,day\r\n1,Ada,2026-01-02\r\n2,\"Bob, Jr\",2026-01-03\r\n"),
        (
            "t.jsonl",
            "{\"id\":1,\"name\":\"Ada\",\"day\":\"2026-01-02\"}\n{\"id\":2,\"name\":\"Bob, Jr\",\"day\":\"2026-01-03\"}\n",
        ),
        (
            "t.json",
            "[{\"id\":1,\"name\":\"Ada\",\"day\":\"2026-01-02\"},{\"id\":2,\"name\":\"Bob, Jr\",\"day\":\"2026-01-03\"}]",
        ),
    ] {
        let place = Place::new();
        let agnes = loaded(&place, file, content);
        assert_eq!(
            query(&agnes, "SELECT id + 1, name, day FROM t ORDER BY id"),
            "2|Ada|2026-01-02\n3|Bob, Jr|2026-01-03",
            "{file} {content}"
        );
        assert_eq!(
            query(&agnes, "SELECT typeof(id), typeof(day) FROM t LIMIT 1"),
            "BIGINT|DATE",
            "{content}"
        );
    }
}

#[test]
fn digits_that_are_more_than_a_number_stay_text() {
    let place = Place::new();
    let csv = "zip,account,n,amount\n01234,12345678901234567890,10,0.5\n90210,1,0,12\n";
    let agnes = loaded(&place, "t.csv", csv);
    assert_eq!(query(&agnes, "FROM t"), "01234|12345678901234567890|10|0.5\n90210|1|0|12.0");
    assert_eq!(
        query(&agnes, "SELECT typeof(columns(*)) FROM t LIMIT 1"),
        "VARCHAR|VARCHAR|BIGINT|DOUBLE"
    );
}

#[test]
fn nothing_is_lost_in_silence() {
    let number = |value: &str| format!("v\n{}{value}\n", "7\n".repeat(30_000));
    let day = |value: &str| format!("v\n{}{value}\n", "2026-01-02\n".repeat(30_000));
    let moment = |value: &str| format!("v\n{}{value}\n", "2026-01-02 03:04:05\n".repeat(30_000));
    let lines = |before: &str, last: &str| {
        format!("{}{{\"v\":{last}}}\n", format!("{{\"v\":{before}}}\n").repeat(30_000))
    };
    // A late value that DuckDB would bend to the type of those before it.
    for (file, content, value, line) in [
        ("t.csv", number("1.5"), "1.5", 30_002),
        ("t.csv", number("01234"), "01234", 30_002),
        ("t.csv", number("0x10"), "0x10", 30_002),
        ("t.csv", number("1_000"), "1_000", 30_002),
        ("t.csv", day("2026-01-03 10:30:00"), "2026-01-03 10:30:00", 30_002),
        ("t.csv", day("2026/02/01"), "2026/02/01", 30_002),
        ("t.csv", moment("01/02/03"), "01/02/03", 30_002),
        ("t.csv", moment("2026-1-1 1:0:0.123456789"), "2026-1-1 1:0:0.123456789", 30_002),
        ("t.csv", moment("2026-01-03 10:30:00+02"), "2026-01-03 10:30:00+02", 30_002),
        ("t.csv", moment("2026-01-03 10:30:00 UTC"), "2026-01-03 10:30:00 UTC", 30_002),
        ("t.jsonl", lines("7", "\"n/a\""), "n/a", 30_001),
    ] {
        let place = Place::new();
        let message = failure(&place, file, &content);
        let expected = format!("line {line}: `{value}` is no ");
        assert!(message.contains(&expected), "{message}");
        let options = FilesOptions { mistakes: Mistakes::Text, ..FilesOptions::default() };
        let agnes = place.agnes();
        run(&agnes, &[&place.path(&format!("in/{file}"))], options).unwrap();
        rebuild(&agnes);
        let sql = format!("SELECT count(*) FROM t WHERE v::VARCHAR LIKE '%{value}%'");
        assert_eq!(query(&agnes, &sql), "1");
    }
    // Whole numbers of every length, signs and gaps are no mistakes.
    let numbers = [
        "0",
        "-1",
        "9",
        "10",
        "-10",
        "99",
        "100",
        "9223372036854775807",
        "-9223372036854775808",
        "",
    ];
    let powers =
        (1..19).flat_map(|n| [10i64.pow(n), 10i64.pow(n) - 1, -(10i64.pow(n)), 1 - 10i64.pow(n)]);
    let all: Vec<String> =
        numbers.iter().map(ToString::to_string).chain(powers.map(|n| n.to_string())).collect();
    let rows: String = all.iter().map(|n| format!("{n},x,2026-01-31\n")).collect();
    let place = Place::new();
    let agnes = loaded(&place, "t.csv", format!("v,t,d\n{rows},x,\n"));
    assert_eq!(query(&agnes, "SELECT typeof(v), typeof(d) FROM t LIMIT 1"), "BIGINT|DATE");
    let sql = "SELECT count(v), count(*), min(v), max(v) FROM t";
    let expected = format!("{}|{}|{}|{}", all.len() - 1, all.len() + 1, i64::MIN, i64::MAX);
    assert_eq!(query(&agnes, sql), expected);
    // Numbers of either sign are numbers, in JSON too.
    let place = Place::new();
    let agnes = loaded(&place, "t.jsonl", "{\"v\":-19}\n{\"v\":0}\n{\"v\":7}\n");
    assert_eq!(query(&agnes, "SELECT typeof(v), sum(v) OVER () FROM t LIMIT 1"), "BIGINT|-12");
    // Types of JSON are those of all rows.
    for (before, last, shown) in
        [("null", "\"late\"", "late"), ("7", "1.5", "1.5"), ("null", "{\"a\":1}", "{a: 1}")]
    {
        let agnes_place = Place::new();
        let agnes = loaded(&agnes_place, "t.jsonl", lines(before, last));
        let last = query(&agnes, "SELECT v FROM t WHERE v IS NOT NULL ORDER BY v::VARCHAR LIMIT 1");
        assert_eq!(last, shown);
    }
    let place = Place::new();
    let agnes =
        loaded(&place, "t.jsonl", "{\"id\":1,\"o\":{\"a\":null}}\n{\"id\":2,\"o\":{\"a\":null}}\n");
    assert_eq!(query(&agnes, "SELECT id FROM t WHERE id = 2 AND o.a IS NULL"), "2");
    // Rows that look like comments, and lines that end in several ways.
    let place = Place::new();
    assert_eq!(query(&loaded(&place, "t.csv", "id,n\n1,x\n#2,y\n"), "SELECT count(*) FROM t"), "2");
    let place = Place::new();
    assert_eq!(
        query(&loaded(&place, "t.csv", "id,n\r\n1,x\n2,y\r\n"), "SELECT sum(id) FROM t"),
        "3"
    );
    // Packed files that were cut off.
    for tool in ["gzip", "zstd"] {
        let place = Place::new();
        let csv = place.write("t.csv", number("8"));
        if std::process::Command::new(tool).arg("-q").arg(&csv).status().is_err() {
            continue;
        }
        let name = if tool == "gzip" { "t.csv.gz" } else { "t.csv.zst" };
        let bytes = std::fs::read(place.path(name)).unwrap();
        let message = failure(&place, name, &bytes[..bytes.len() - 6]);
        assert!(message.contains("damaged or cut off"), "{message}");
        loaded(&place, name, &bytes);
    }
}

fn rows_of_number(n: usize) -> String {
    format!("id,name\n{}", (0..n).map(|i| format!("{i},x\n")).collect::<String>())
}

/// A sample without quotes says nothing about the rows after it.
#[test]
fn quotes_that_come_late_are_quotes() {
    let place = Place::new();
    let late = "30000,\"a, b\"\n30001,\"say \"\"hi\"\"\"\n30002,5\" pipe\n";
    let agnes = loaded(&place, "t.csv", rows_of_number(30_000) + late);
    let sql = "SELECT name FROM t WHERE id >= 30000 ORDER BY id";
    assert_eq!(query(&agnes, sql), "a, b\nsay \"hi\"\n5\" pipe");
    let open = rows_of_number(30_000) + "30000,\"12\" vinyl\n30001,y\n";
    let message = failure(&Place::new(), "t.csv", open);
    assert!(message.contains("line 30002: a quote"), "{message}");
}

#[test]
fn a_row_of_another_length_is_named_or_filled_up() {
    for (file, content, says) in [
        ("t.csv", "a,b,c\n1,2,3\n4,5\n6,7,8\n", "line 3: it has fewer values"),
        ("t.csv", "a,b\n1,2\n3,4,5\n", "line 3: the lines before it"),
        ("t.csv", "a;b\n1;2\n3;4\n5\n", "line 4: it has fewer values"),
        ("t.tsv", "a\tb\n1\t2\n3\n", "line 3: it has fewer values"),
        ("t.tsv", "a\tb\n1\t2\n3\t4\t5\n1\t2\n", "line 3: it has "),
        ("t.tsv", "a\tb\r\n1\t2\n3\t4\t5\n1\t2\r\n", "line 3: it has more values"),
    ] {
        let place = Place::new();
        let message = failure(&place, file, content);
        assert!(message.contains(says), "{content:?}: {message}");
    }
    let late = rows_of_number(30_000) + "30000,x,y\n";
    let message = failure(&Place::new(), "t.csv", late);
    assert!(message.contains("line 30002: it has more values than the 2 columns"), "{message}");
    for content in ["a,b,c\n1,2,3\n4,5\n6,7,8,9\n", "a,b,c\r\n1,2,3\n4,5\r\n6,7,8,9\n"] {
        let place = Place::new();
        let path = place.write("t.csv", content);
        let agnes = place.agnes();
        let options = FilesOptions { mistakes: Mistakes::Text, ..FilesOptions::default() };
        let report = run(&agnes, &[&path], options).unwrap();
        assert_eq!(report.failed().count(), 0, "{report:?}");
        rebuild(&agnes);
        assert_eq!(query(&agnes, "FROM t"), "1|2|3|NULL\n4|5|NULL|NULL\n6|7|8|9");
    }
    // A title is no row.
    let place = Place::new();
    let agnes = loaded(&place, "t.csv", "Report of the year\n\na,b\n1,2\n3,4\n");
    assert_eq!(query(&agnes, "SELECT sum(a), sum(b) FROM t"), "4|6");
}

#[test]
fn dates_whose_order_nobody_tells_stay_text() {
    let kinds = |csv: &str| {
        let place = Place::new();
        let agnes = loaded(&place, "t.csv", csv);
        query(&agnes, "SELECT typeof(columns(*)) FROM t LIMIT 1")
    };
    assert_eq!(kinds("d,n\n01/02/2026,1\n03/04/2026,2\n"), "VARCHAR|BIGINT");
    assert_eq!(kinds("d,e\n01/02/2026,31/01/2026\n03/04/2026,01/02/2026\n"), "DATE|DATE");
    assert_eq!(kinds("d,e\n01.02.2026,01/02/03\n"), "DATE|VARCHAR");
    assert_eq!(kinds("t,d\n2026-01-02 03:04:05.123456789,2026-01-02\n"), "VARCHAR|DATE");
    let place = Place::new();
    let agnes = loaded(&place, "t.csv", "d,n\n12/31/2026,1\n03/04/2026,2\n");
    assert_eq!(query(&agnes, "SELECT max(d), min(d) FROM t"), "2026-12-31|2026-03-04");
    // Moments with a zone and without.
    let place = Place::new();
    let agnes = loaded(&place, "t.csv", "t\n2026-01-01T10:00:00\n2026-01-01T10:00:00Z\n");
    assert_eq!(query(&agnes, "SELECT count(DISTINCT t) FROM t"), "1");
}

#[test]
fn the_caller_says_what_separates_and_whether_there_is_a_header() {
    let read = |content: &str, options: FilesOptions| {
        let place = Place::new();
        let path = place.write("t.csv", content);
        let agnes = place.agnes();
        run(&agnes, &[&path], options).unwrap();
        rebuild(&agnes);
        let names = query(&agnes, "SELECT list(column_name) FROM (DESCRIBE t)");
        format!("{names} {}", query(&agnes, "FROM t"))
    };
    let years = "2024,2025\n1,2\n";
    assert_eq!(
        read(years, FilesOptions { header: Some(true), ..FilesOptions::default() }),
        "[2024, 2025] 1|2"
    );
    assert_eq!(
        read(years, FilesOptions { header: Some(false), ..FilesOptions::default() }),
        "[column0, column1] 2024|2025\n1|2"
    );
    let prose = FilesOptions { delimiter: Some('|'), ..FilesOptions::default() };
    assert_eq!(read("Hello, world\nfoo\n", prose), "[Hello, world] foo");
    let odd = FilesOptions { delimiter: Some('^'), ..FilesOptions::default() };
    assert_eq!(read("a^b\n1^2,5\n", odd), "[a, b] 1|2,5");
}

#[test]
fn the_line_of_a_mistake_counts_breaks_within_values() {
    let rows: String = (0..30_000).map(|i| format!("\"a\nb\",{i}\n")).collect();
    let message = failure(&Place::new(), "t.csv", format!("t,n\n{rows}x,1.5\n"));
    assert!(message.contains("line 60002: `1.5` is no BIGINT"), "{message}");
    let rows: String = (0..30_000).map(|i| format!("a,{i}\n\n")).collect();
    let message = failure(&Place::new(), "t.csv", format!("t,n\n{rows}x,1.5\n"));
    assert!(message.contains("line 60002: `1.5` is no BIGINT"), "{message}");
}

/// Types are told by 20,480 rows, not by the first few.
#[test]
fn a_value_within_the_sample_tells_its_column_s_type() {
    for (before, late, kind) in [
        ("1", "1.5", "DOUBLE"),
        ("1", "n/a", "VARCHAR"),
        ("1.5", "n/a", "VARCHAR"),
        ("1", "01234", "VARCHAR"),
        ("2026-01-02", "2026-01-02 10:00:00", "TIMESTAMP"),
        ("true", "maybe", "VARCHAR"),
        ("", "7", "BIGINT"),
        ("", "2026-01-02", "DATE"),
    ] {
        let rows = format!("x,{before}\n").repeat(10_000);
        let place = Place::new();
        let agnes = loaded(&place, "t.csv", format!("n,v\n{rows}x,{late}\n{rows}"));
        let sql = "SELECT typeof(v), count(*) FROM t GROUP BY 1";
        assert_eq!(query(&agnes, sql), format!("{kind}|20001"), "{before} {late}");
    }
}

/// What an attack on the reader found: each was once read as something else, in silence.
#[test]
fn values_that_were_once_bent() {
    let late = |first: &str, last: &str| {
        format!("k,v\n{}x,{last}\n", format!("x,{first}\n").repeat(21_000))
    };
    for (content, says) in [
        (late("2026/01/02", "infinity"), "line 21002: `infinity` is no DATE"),
        (late("02.01.2026", "02.01.26"), "`02.01.26` is no DATE"),
        (late("10:00:00", "2026-01-02 10:00:00"), "is no TIME"),
        (late("10:00:00", "10:00:00 PM"), "`10:00:00 PM` is no TIME"),
        (late("2026-01-02 03:04:05 UTC", "2026-01-02 03:04:05+02"), "is no TIMESTAMP"),
        (late("2026-01-02T03:04:05Z", "01/02/03 10:00:00"), "is no TIMESTAMP"),
        (late("1", "1.5").replacen("x,1\n", "x, 1\n", 1), "`1.5` is no BIGINT"),
        ("1\n2,3\n4,5\n".into(), "line 2: the lines before it look like rows"),
        ("name\nfoo;bar\nx;y\n".into(), "line 2: the lines before it look like rows"),
        ("id,n\r\n1,a\n2,\"v\n3,z\n".into(), "a quote is opened and not closed"),
        ("a,b\r\n1,\"x\"y\n".into(), "a quote is opened and not closed"),
        (rows_of_number(21_000) + "21000,a\rb\n", "ends in another way"),
    ] {
        let message = failure(&Place::new(), "t.csv", &content);
        assert!(message.contains(says), "{says}: {message}");
    }
    for (content, sql, expected) in [
        ("k,v\nx,Infinity\n", "SELECT v FROM t", "Infinity"),
        ("k,v\nx,epoch\ny,epoch\n", "SELECT v FROM t", "epoch\nepoch"),
        ("n,b\n1,'90s\n2,rockers'\n3,z\n", "SELECT b FROM t", "'90s\nrockers'\nz"),
        ("a,b\n1,'x'\n", "SELECT b FROM t", "'x'"),
        ("k,v\nx,no\n", "SELECT v FROM t", "no"),
        ("k,v\nx,10:00:00.1234567\n", "SELECT v FROM t", "10:00:00.1234567"),
        ("d,t\n01/02/2026,01/31/2026 3:04:05 PM\n", "SELECT d FROM t", "01/02/2026"),
        (
            "d,e\n1/31/2026,x\n12/1/2026,y\n",
            "SELECT min(d), max(d) FROM t",
            "2026-01-31|2026-12-01",
        ),
        (
            "t,e\n2026-01-02T03:04:05Z,x\n2026-01-02T03:04:05.5Z,y\n",
            "SELECT typeof(t) FROM t LIMIT 1",
            "TIMESTAMP WITH TIME ZONE",
        ),
        (
            "t,e\n01/31/2026 3:04:05 PM,x\n01/31/2026 11:04:05 AM,y\n",
            "SELECT max(t) FROM t",
            "2026-01-31T15:04:05",
        ),
        (
            "t,d,n,z\n10:00,2026-01-02,1,2026-01-02T03:04:05Z\n,,,\n\"\",\"\",\"\",\"\"\n",
            "SELECT count(t), count(d), count(n), count(z), count(*), typeof(first(z)) FROM t",
            "1|1|1|1|3|TIMESTAMP WITH TIME ZONE",
        ),
        ("k,v\n1,\"say \\\"hi\\\"\"\n2,\"x, y\"\n", "SELECT v FROM t", "say \"hi\"\nx, y"),
        ("k,v\n1,\"c:\\\"\n2,\"x\"\n", "SELECT v FROM t", "c:\\\nx"),
        ("t,e\n10:00,x\n23:59,y\n", "SELECT max(t) FROM t", "23:59:00"),
        ("a,b\r\n1,\"x\ny\"\n2,z\n", "SELECT b FROM t", "x\ny\nz"),
    ] {
        let place = Place::new();
        assert_eq!(query(&loaded(&place, "t.csv", content), sql), expected, "{content}");
    }
    // A row that is too short after the sample is filled up as well.
    let place = Place::new();
    let path = place.write("t.csv", rows_of_number(30_000) + "30000\n");
    let agnes = place.agnes();
    let options = FilesOptions { mistakes: Mistakes::Text, ..FilesOptions::default() };
    assert_eq!(run(&agnes, &[&path], options).unwrap().failed().count(), 0);
    rebuild(&agnes);
    assert_eq!(query(&agnes, "SELECT count(*), count(name) FROM t"), "30001|30000");
}

#[test]
fn json_keeps_its_rows_and_its_numbers() {
    let stray = "{\"id\":1}\n".repeat(30_000) + "[1]\n{\"id\":2}\n";
    for (file, content, says) in [
        ("t.jsonl", "{\"id\":1}\n\"stray\"\n", "line 2: it is no object"),
        ("t.jsonl", stray.as_str(), "line 30001: it is no object"),
        ("t.json", "[]", "it holds no row"),
    ] {
        let message = failure(&Place::new(), file, content);
        assert!(message.contains(says), "{message}");
    }
    for (content, sql, expected) in [
        ("{\"json\":{\"a\":1}}\n", "SELECT json.a FROM t", "1"),
        ("1\n2\n", "SELECT count(*) FROM t", "2"),
        (
            "{\"id\":99999999999999999991,\"x\":1.5}\n{\"id\":99999999999999999992,\"x\":2}\n",
            "FROM t",
            "99999999999999999991|1.5\n99999999999999999992|2.0",
        ),
        ("{\"a\":\"infinity\"}\n{\"a\":\"2026-01-01\"}\n", "FROM t", "infinity\n2026-01-01"),
        ("{\"a\":\"10:00:00.123456789\"}\n", "FROM t", "10:00:00.123456789"),
        ("{\"a\":\"2026-01-02\"}\n", "SELECT typeof(a) FROM t", "DATE"),
        (
            "{\"id\":99999999999999999991,\"o\":null,\"l\":[null],\"d\":\"2026-01-02\"}\n",
            "SELECT id, o IS NULL, len(l), d FROM t",
            "99999999999999999991|true|1|2026-01-02",
        ),
        (
            "{\"a\":{\"x\":9223372036854775809,\"my-key\":null}}\n",
            "SELECT a.x, a.\"my-key\" IS NULL FROM t",
            "9223372036854775809|true",
        ),
    ] {
        let place = Place::new();
        assert_eq!(query(&loaded(&place, "t.jsonl", content), sql), expected, "{content}");
    }
}

#[test]
fn packed_files_are_read() {
    let place = Place::new();
    let csv = place.write("t.csv", "a,b\n1,x\n");
    let status = std::process::Command::new("gzip").arg(&csv).status().unwrap();
    assert!(status.success());
    let agnes = place.agnes();
    ingest(&agnes, "files", &[&place.path("t.csv.gz")]);
    rebuild(&agnes);
    assert_eq!(query(&agnes, "FROM t"), "1|x");
    place.write("u.csv.bz2", "x");
    let error = run(&agnes, &[&place.path("u.csv.bz2")], FilesOptions::default()).unwrap_err();
    assert!(error.message().contains("unpack it first"), "{error}");
}

#[test]
fn names_of_columns_are_kept_as_they_are() {
    let place = Place::new();
    let agnes = loaded(&place, "t.csv", "Größe (cm),\"say \"\"hi\"\"\",select,日本\n1,2,3,4\n");
    let sql = "SELECT \"Größe (cm)\", \"say \"\"hi\"\"\", \"select\", \"日本\" FROM t";
    assert_eq!(query(&agnes, sql), "1|2|3|4");
}

#[test]
fn nested_json_stays_nested() {
    let place = Place::new();
    let agnes = loaded(
        &place,
        "t.jsonl",
        "{\"a\":{\"b\":[1,2,{\"c\":\"x\"}]},\"n\":18446744073709551615}\n{\"a\":{\"b\":[]},\"n\":1}\n",
    );
    assert_eq!(query(&agnes, "SELECT len(a.b) FROM t"), "3\n0");
    assert_eq!(query(&agnes, "SELECT max(n)::VARCHAR FROM t"), "18446744073709551615");
}

#[test]
fn a_mistake_further_down_names_file_and_line() {
    let place = Place::new();
    let mut csv = String::from("id,amount\n");
    for i in 0..60_000 {
        csv.push_str(&format!("{i},{i}\n"));
    }
    csv.push_str("60000,n/a\n");
    let message = failure(&place, "t.csv", &csv);
    assert!(message.contains("t.csv`, line 60002"), "{message}");
    assert!(message.contains("`n/a`") && message.contains("`amount`"), "{message}");
    assert!(message.contains("--mistakes text"), "{message}");
    let options = FilesOptions { mistakes: Mistakes::Text, ..FilesOptions::default() };
    let agnes = place.agnes();
    let report = run(&agnes, &[&place.path("in/t.csv")], options).unwrap();
    assert_eq!(report.failed().count(), 0, "{report:?}");
    rebuild(&agnes);
    assert_eq!(query(&agnes, "SELECT amount, typeof(id) FROM t WHERE id = 60000"), "n/a|BIGINT");
}

#[test]
fn a_mistake_in_json_names_its_place() {
    let place = Place::new();
    let mut json = String::new();
    for i in 0..30_000 {
        json.push_str(&format!("{{\"id\":{i}}}\n"));
    }
    json.push_str("{\"id\":\"x\"}\n");
    let message = failure(&place, "t.jsonl", &json);
    assert!(message.contains("t.jsonl`, line 30001"), "{message}");
    let options = FilesOptions { mistakes: Mistakes::Text, ..FilesOptions::default() };
    let agnes = place.agnes();
    run(&agnes, &[&place.path("in/t.jsonl")], options).unwrap();
    rebuild(&agnes);
    assert_eq!(query(&agnes, "SELECT count(*) FROM t"), "30001");
    let broken = failure(&place, "u.jsonl", "{\"a\":1}\n{\"a\":\n");
    assert!(broken.contains("u.jsonl`"), "{broken}");
}

#[test]
fn a_table_that_can_t_be_read_any_more_keeps_its_rows() {
    let place = Place::new();
    let (a, b) = (place.write("in/a.csv", "x\n1\n"), place.write("in/b.csv", "y\n1\n"));
    let parquet = place.path("in/c.parquet");
    let copy = format!("COPY (SELECT 1 AS z) TO '{}'", parquet.display());
    duckdb::Connection::open_in_memory().unwrap().execute_batch(&copy).unwrap();
    let agnes = place.agnes();
    let all = [a.as_path(), b.as_path(), parquet.as_path()];
    ingest(&agnes, "files", &all);
    let mut bad = String::from("x\n");
    (0..30_000).for_each(|i| bad.push_str(&format!("{i}\n")));
    bad.push_str("bad\n");
    for content in [bad.as_str(), ""] {
        std::fs::write(&a, content).unwrap();
        std::fs::write(&parquet, "no parquet").unwrap();
        std::fs::write(&b, format!("y\n{}\n", 2 + content.len())).unwrap();
        let report = run(&agnes, &all, FilesOptions::default()).unwrap();
        assert_eq!(report.failed().count(), 2, "{report:?}");
        assert_eq!(report.failed().map(|t| t.rows).sum::<u64>(), 2);
        rebuild(&agnes);
        assert_eq!(
            query(&agnes, "SELECT x, y, z FROM a, b, c"),
            format!("1|{}|1", 2 + content.len())
        );
    }
}

#[test]
fn what_can_t_be_read_says_why() {
    let place = Place::new();
    for (file, content, says) in [
        ("empty.csv", &b""[..], "is empty"),
        ("latin.csv", b"a,b\nJos\xe9,1\n", "--encoding latin-1"),
        ("x.parquet", b"not parquet at all, sorry", "is no parquet file"),
        ("x.arrow", b"ARROW1 but not really", "can't be read as Arrow"),
        ("x.json", b"[1, 2", "x.json`"),
    ] {
        let message = failure(&place, file, content);
        assert!(message.contains(says), "{file}: {message}");
    }
    let options = FilesOptions { encoding: Some(Encoding::Latin1), ..FilesOptions::default() };
    let agnes = place.agnes();
    let report = run(&agnes, &[&place.path("in/latin.csv")], options).unwrap();
    assert_eq!(report.failed().count(), 0, "{report:?}");
    rebuild(&agnes);
    assert_eq!(query(&agnes, "SELECT a FROM latin"), "José");
    let options = FilesOptions { encoding: Some(Encoding::Utf16), ..FilesOptions::default() };
    let report = run(&agnes, &[&place.path("in/latin.csv")], options).unwrap();
    assert!(format!("{report:?}").contains("no UTF-16"), "{report:?}");
    let utf16: Vec<u8> = "\u{feff}a,b\n1,ü\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let path = place.write("in/wide.csv", utf16);
    run(&agnes, &[&path], FilesOptions::default()).unwrap();
    rebuild(&agnes);
    assert_eq!(query(&agnes, "FROM wide"), "1|ü");
}

#[test]
fn records_of_a_program_are_read_as_those_of_a_file() {
    use agnes_core::extract::{ExtractWriter, WriteMode};
    use agnes_core::{Kind, TableName};
    let place = Place::new();
    let agnes = place.agnes();
    let folder = place.path("data/extracts/shop");
    let begin = || ExtractWriter::begin(&folder, WriteMode::Replace, agnes.now()).unwrap();
    let orders = TableName::parse("orders").unwrap();
    let mut writer = begin();
    let lines = "{\"id\": 9007199254740993, \"day\": \"2026-02-03\", \"code\": \"01\"}\n\
                 {\"id\": 1, \"day\": null, \"code\": \"02\"}\n";
    writer.table_from_json(&orders, lines.as_bytes()).unwrap();
    let twice = writer.table_from_json(&orders, lines.as_bytes()).unwrap_err();
    assert_eq!(twice.kind(), Kind::Conflict, "{twice}");
    writer.finish().unwrap();
    rebuild(&agnes);
    assert_eq!(
        query(
            &agnes,
            "SELECT typeof(id), typeof(day), typeof(code), max(id) FROM orders GROUP BY ALL"
        ),
        "BIGINT|DATE|VARCHAR|9007199254740993"
    );
    let mut writer = begin();
    for (lines, says) in [
        ("", "no record"),
        ("{\"id\": 1}\n{\"id\": ", "the records"),
        ("{\"id\": \"\u{0}\"}", "the records"),
    ] {
        let error = writer.table_from_json(&orders, lines.as_bytes()).unwrap_err();
        assert!(error.message().contains(says), "{error}");
        assert!(!error.message().contains("scratch"), "{error}");
        assert_eq!((error.kind(), writer.rows(&orders)), (Kind::Invalid, None), "{error}");
    }
    drop(writer);
    let left = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains("scratch")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn parquet_and_arrow_files_are_taken_as_they_are() {
    use agnes_core::arrow::array::{Int64Array, RecordBatch, StringArray};
    use agnes_core::arrow::datatypes::{DataType, Field, Schema};
    use std::sync::Arc;
    let place = Place::new();
    std::fs::create_dir_all(place.path("in")).unwrap();
    duckdb::Connection::open_in_memory()
        .unwrap()
        .execute_batch(&format!(
            "COPY (SELECT 1 AS \"A b\") TO '{}'",
            place.path("in/p.parquet").display()
        ))
        .unwrap();
    let schema = Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, false),
        Field::new("s", DataType::Utf8, true),
    ]));
    let batch = RecordBatch::try_new(
        schema.clone(),
        vec![
            Arc::new(Int64Array::from(vec![1, 2])),
            Arc::new(StringArray::from(vec![Some("x"), None])),
        ],
    )
    .unwrap();
    let file = std::fs::File::create(place.path("in/a.arrow")).unwrap();
    let mut writer = agnes_core::arrow::ipc::writer::FileWriter::try_new(file, &schema).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    let file = std::fs::File::create(place.path("in/st.ipc")).unwrap();
    let mut writer = agnes_core::arrow::ipc::writer::StreamWriter::try_new(file, &schema).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    let agnes = place.agnes();
    ingest(&agnes, "files", &[&place.path("in")]);
    rebuild(&agnes);
    assert_eq!(query(&agnes, "SELECT \"A b\" FROM p"), "1");
    assert_eq!(query(&agnes, "FROM a"), "1|x\n2|NULL");
    assert_eq!(query(&agnes, "FROM st"), "1|x\n2|NULL");
}

#[test]
fn the_second_run_reads_only_what_changed() {
    let place = Place::new();
    place.write("in/a.csv", "x\n1\n");
    place.write("in/b.csv", "x\n1\n");
    let agnes = place.agnes();
    let folder = place.path("in");
    let statuses = |report: &ConnectorReport| -> Vec<TableStatus> {
        report.tables.iter().map(|t| t.status).collect()
    };
    let first = run(&agnes, &[&folder], FilesOptions::default()).unwrap();
    assert_eq!(statuses(&first), [TableStatus::Created, TableStatus::Created]);
    let before = crate::support::snapshot(&place.extract("files"));
    let second = run(&agnes, &[&folder], FilesOptions::default()).unwrap();
    assert_eq!(statuses(&second), [TableStatus::Unchanged, TableStatus::Unchanged]);
    assert_eq!(crate::support::snapshot(&place.extract("files")), before);
    place.write("in/b.csv", "x\n2\n");
    let third = run(&agnes, &[&folder], FilesOptions::default()).unwrap();
    assert_eq!(statuses(&third), [TableStatus::Unchanged, TableStatus::Replaced]);
    rebuild(&agnes);
    assert_eq!(query(&agnes, "SELECT a.x, b.x FROM a, b"), "1|2");
}

#[test]
fn a_file_that_is_gone_keeps_its_table_until_it_is_pruned() {
    let place = Place::new();
    let a = place.write("in/a.csv", "x\n1\n");
    place.write("in/b.csv", "x\n1\n");
    let agnes = place.agnes();
    let folder = place.path("in");
    run(&agnes, &[&folder], FilesOptions::default()).unwrap();
    std::fs::remove_file(a).unwrap();
    let report = run(&agnes, &[&folder], FilesOptions::default()).unwrap();
    assert_eq!(report.tables[1].status, TableStatus::Gone);
    rebuild(&agnes);
    assert_eq!(query(&agnes, "FROM a"), "1");
    let options = FilesOptions { prune: true, ..FilesOptions::default() };
    let report = run(&agnes, &[&folder], options).unwrap();
    assert_eq!(report.tables[1].status, TableStatus::Removed);
    rebuild(&agnes);
    query_error(&agnes.session().unwrap(), "FROM a");
}

#[test]
fn one_bad_file_takes_no_other_with_it() {
    let place = Place::new();
    place.write("in/a.csv", "x\n1\n");
    let agnes = place.agnes();
    let folder = place.path("in");
    run(&agnes, &[&folder], FilesOptions::default()).unwrap();
    place.write("in/a.csv", "");
    place.write("in/b.csv", "x\n2\n");
    let report = run(&agnes, &[&folder], FilesOptions::default()).unwrap();
    assert_eq!(report.failed().count(), 1);
    rebuild(&agnes);
    assert_eq!(query(&agnes, "SELECT a.x, b.x FROM a, b"), "1|2", "a keeps what it had");
}

#[test]
fn a_file_that_can_be_no_table_stops_no_other() {
    let place = Place::new();
    for name in ["名前.csv", "_meta.csv", "pg_class.csv", "good.csv"] {
        place.write(&format!("in/{name}"), "x\n1\n");
    }
    std::os::unix::fs::symlink("good.csv", place.path("in/same.csv")).unwrap();
    let agnes = place.agnes();
    let report = run(&agnes, &[&place.path("in")], FilesOptions::default()).unwrap();
    assert_eq!(report.failed().count(), 0, "{report:?}");
    let ignored = report.ignored.join("\n");
    for name in ["名前.csv", "_meta.csv", "pg_class.csv"] {
        assert!(ignored.contains(name), "{name} is not in {ignored}");
    }
    rebuild(&agnes);
    assert_eq!(query(&agnes, "SELECT good.x, same.x FROM good, same"), "1|1");
    for name in ["_meta.csv", "pg_class.csv"] {
        let path = place.path(&format!("in/{name}"));
        let error = run(&agnes, &[&path], FilesOptions::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
    }
}

/// It may be a share that isn't mounted, or a link to one.
#[test]
fn an_empty_folder_prunes_nothing() {
    let place = Place::new();
    let a = place.write("in/a.csv", "x\n1\n");
    place.write("in/b.csv", "x\n1\n");
    let agnes = place.agnes();
    run(&agnes, &[&place.path("in")], FilesOptions::default()).unwrap();
    let prune = || FilesOptions { prune: true, ..FilesOptions::default() };
    std::fs::rename(&a, place.path("away")).unwrap();
    std::os::unix::fs::symlink(place.path("nowhere"), &a).unwrap();
    let report = run(&agnes, &[&place.path("in")], prune()).unwrap();
    assert_eq!(report.failed().count(), 1, "{report:?}");
    std::fs::remove_file(&a).unwrap();
    std::fs::remove_file(place.path("in/b.csv")).unwrap();
    assert_eq!(run(&agnes, &[&place.path("in")], prune()).unwrap_err().kind(), Kind::Invalid);
    rebuild(&agnes);
    assert_eq!(query(&agnes, "SELECT a.x, b.x FROM a, b"), "1|1");
}

#[test]
fn an_extract_that_is_lost_is_not_replaced_in_silence() {
    let place = Place::new();
    let (a, b) = (place.write("in/a.csv", "x\n1\n"), place.write("in/b.csv", "x\n1\n"));
    let agnes = place.agnes();
    run(&agnes, &[&a, &b], FilesOptions::default()).unwrap();
    std::fs::write(place.extract("files").join("extract.duckdb"), "rubbish").unwrap();
    let report = run(&agnes, &[&a], FilesOptions::default()).unwrap();
    assert!(report.ignored.join("\n").contains("written anew"), "{report:?}");
}

#[test]
fn two_files_for_one_table_are_a_conflict_that_names_both() {
    let place = Place::new();
    place.write("in/My Table.csv", "x\n1\n");
    place.write("in/my-table.csv", "x\n1\n");
    let error = run(&place.agnes(), &[&place.path("in")], FilesOptions::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(
        error.message().contains("My Table.csv") && error.message().contains("my-table.csv"),
        "{error}"
    );
}

#[test]
fn a_folder_without_data_is_an_error_and_a_missing_one_too() {
    let place = Place::new();
    place.write("in/README.md", "hello");
    let agnes = place.agnes();
    let error = run(&agnes, &[&place.path("in")], FilesOptions::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    let error = run(&agnes, &[&place.path("nowhere")], FilesOptions::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}
