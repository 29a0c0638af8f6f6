//! An oracle for sessions: whatever a statement is, a session gives the same rows as a plain
//! DuckDB that holds nothing but the visible tables, or both refuse.
//!
//! Statements are made at random over the grammar that people use, with names of tables that are
//! visible, hidden or not there at all. `make oracle` asks 20,000.

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use agnes_core::access::{Email, GroupName, Principal, Resource};
    use agnes_core::arrow::record_batch::RecordBatch;
    use agnes_core::arrow::util::display::{ArrayFormatter, FormatOptions};
    use agnes_core::extract::WriteMode;
    use agnes_core::query::QueryOptions;
    use agnes_core::{Agnes, ExtractWriter, NoProgress, Session, TableName};
    use duckdb::Connection;

    /// The tables, each with the query that makes it and its columns of numbers and of texts.
    const TABLES: [(&str, &str, &[&str], &[&str]); 4] = [
        (
            "orders",
            "SELECT i::INTEGER AS id, 'c' || (i % 4) AS customer, (i * 3 % 17)::INTEGER AS amount, \
             DATE '2026-01-01' + (i % 9)::INTEGER AS day, CASE WHEN i % 5 = 0 THEN NULL ELSE 'n' || i END AS note \
             FROM range(40) t(i)",
            &["id", "amount"],
            &["customer", "note"],
        ),
        (
            "customers",
            "SELECT i::INTEGER AS id, 'c' || i AS name, CASE i % 3 WHEN 0 THEN 'CZ' WHEN 1 THEN 'DE' END AS country FROM range(6) t(i)",
            &["id"],
            &["name", "country"],
        ),
        (
            "salaries",
            "SELECT i::INTEGER AS id, 'c' || i AS name, (1000 + i)::INTEGER AS salary FROM range(6) t(i)",
            &["id", "salary"],
            &["name"],
        ),
        (
            "plans",
            "SELECT i::INTEGER AS id, i % 2 = 0 AS done, 'plan ' || i AS title FROM range(8) t(i)",
            &["id"],
            &["title"],
        ),
    ];

    /// Numbers that look random and come again with the same start.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % sides as u64) as usize
        }

        fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
            all[self.roll(all.len())]
        }
    }

    /// What a FROM has: its columns of numbers and of texts.
    #[derive(Clone)]
    struct Scope {
        numbers: Vec<String>,
        texts: Vec<String>,
    }

    struct Maker<'d> {
        dice: &'d mut Dice,
        names: usize,
    }

    impl Maker<'_> {
        fn fresh(&mut self) -> String {
            self.names += 1;
            format!("x{}", self.names)
        }

        fn number(&mut self, scope: &Scope, depth: usize) -> String {
            if depth == 0 {
                return match self.dice.roll(3) {
                    0 => self.dice.roll(20).to_string(),
                    _ if scope.numbers.is_empty() => "7".to_string(),
                    _ => scope.numbers[self.dice.roll(scope.numbers.len())].clone(),
                };
            }
            let d = depth - 1;
            match self.dice.roll(14) {
                0 => format!("({} + {})", self.number(scope, d), self.number(scope, d)),
                1 => format!("({} - {})", self.number(scope, d), self.number(scope, d)),
                2 => format!("({} * 3)", self.number(scope, d)),
                3 => format!("({} // nullif({}, 0))", self.number(scope, d), self.number(scope, d)),
                4 => format!("abs({})", self.number(scope, d)),
                5 => format!("length({})", self.text(scope, d)),
                6 => format!("coalesce({}, {})", self.number(scope, d), self.number(scope, d)),
                7 => format!(
                    "CASE WHEN {} THEN {} ELSE {} END",
                    self.truth(scope, d),
                    self.number(scope, d),
                    self.number(scope, d)
                ),
                8 => format!("greatest({}, {})", self.number(scope, d), self.number(scope, d)),
                9 => format!(
                    "list_sum(list_transform([1, 2, {}], lambda e: e * 2))::BIGINT",
                    self.number(scope, d)
                ),
                10 => format!("({})", self.scalar(d)),
                11 => format!("try_cast({} AS BIGINT)", self.text(scope, d)),
                12 => format!("{{'a': {}}}.a", self.number(scope, d)),
                _ => self.number(scope, 0),
            }
        }

        fn text(&mut self, scope: &Scope, depth: usize) -> String {
            if depth == 0 || scope.texts.is_empty() {
                return match self.dice.roll(3) {
                    0 => self
                        .dice
                        .of(&["'c1'", "'CZ'", "'x y'", "''", "'SELECT * FROM salaries'", "'it''s'"])
                        .to_string(),
                    _ if scope.texts.is_empty() => "'t'".to_string(),
                    _ => scope.texts[self.dice.roll(scope.texts.len())].clone(),
                };
            }
            let d = depth - 1;
            match self.dice.roll(9) {
                0 => format!("upper({})", self.text(scope, d)),
                1 => format!("({} || {})", self.text(scope, d), self.text(scope, d)),
                2 => format!("substr({}, 1, 2)", self.text(scope, d)),
                3 => format!("coalesce({}, 'none')", self.text(scope, d)),
                4 => format!("replace({}, 'c', 'k')", self.text(scope, d)),
                5 => format!("({})::VARCHAR", self.number(scope, d)),
                6 => format!("concat({}, '-', {})", self.text(scope, d), self.number(scope, d)),
                7 => format!("lpad({}, 4, '.')", self.text(scope, d)),
                _ => self.text(scope, 0),
            }
        }

        fn truth(&mut self, scope: &Scope, depth: usize) -> String {
            let d = depth.saturating_sub(1);
            match self.dice.roll(9) {
                0 => format!("{} < {}", self.number(scope, d), self.number(scope, d)),
                1 => format!("{} = {}", self.text(scope, d), self.text(scope, d)),
                2 => format!("{} IS NOT NULL", self.text(scope, d)),
                3 => format!("{} BETWEEN 1 AND {}", self.number(scope, d), self.number(scope, d)),
                4 => format!("{} LIKE 'c%'", self.text(scope, d)),
                5 => format!("{} IN (1, 2, {})", self.number(scope, d), self.number(scope, d)),
                6 if depth > 0 => format!("EXISTS ({})", self.select(d, false)),
                7 if depth > 0 => {
                    format!("({}) IN (SELECT id FROM {})", self.number(scope, d), self.table().0)
                }
                _ => format!("NOT ({} >= 5)", self.number(scope, d)),
            }
        }

        fn table(&mut self) -> (String, Scope) {
            let at = self.dice.roll(TABLES.len() + 1);
            let Some((name, _, numbers, texts)) = TABLES.get(at) else {
                let scope = Scope { numbers: vec!["id".into()], texts: vec!["name".into()] };
                return (self.dice.of(&["payroll", "orders2", "\"no such\""]).to_string(), scope);
            };
            let named = match self.dice.roll(4) {
                0 => format!("main.{name}"),
                1 => format!("\"{name}\""),
                2 => name.to_uppercase(),
                _ => name.to_string(),
            };
            let own = |columns: &[&str]| columns.iter().map(ToString::to_string).collect();
            (named, Scope { numbers: own(numbers), texts: own(texts) })
        }

        /// One row of one number.
        fn scalar(&mut self, depth: usize) -> String {
            let (table, scope) = self.table();
            format!("SELECT max({}) FROM {table}", self.number(&scope, depth.min(1)))
        }

        /// Something to read from, under a name.
        fn from(&mut self, depth: usize) -> (String, Scope) {
            let alias = self.fresh();
            let (text, scope) = match self.dice.roll(7) {
                0 if depth > 0 => {
                    let inner = self.select(depth - 1, false);
                    (
                        format!("({inner})"),
                        Scope { numbers: vec!["n".into()], texts: vec!["t".into()] },
                    )
                }
                1 => {
                    ("range(5)".to_string(), Scope { numbers: vec!["range".into()], texts: vec![] })
                }
                2 => {
                    let values = "(VALUES (1, 'c1'), (2, NULL))";
                    let scope = Scope { numbers: vec!["n".into()], texts: vec!["t".into()] };
                    return (format!("{values} AS {alias}(n, t)"), qualified(&scope, &alias));
                }
                _ => self.table(),
            };
            (format!("{text} AS {alias}"), qualified(&scope, &alias))
        }

        fn select(&mut self, depth: usize, outer: bool) -> String {
            let (mut from, mut scope) = self.from(depth);
            if self.dice.roll(3) == 0 {
                let (other, more) = self.from(depth.saturating_sub(1));
                let both = Scope {
                    numbers: [scope.numbers.clone(), more.numbers.clone()].concat(),
                    texts: [scope.texts.clone(), more.texts].concat(),
                };
                from = match self.dice.roll(4) {
                    0 => format!("{from}, {other}"),
                    1 => format!("{from} LEFT JOIN {other} ON {}", self.truth(&both, 0)),
                    2 => format!(
                        "{from} JOIN LATERAL (SELECT * FROM {other}) AS {} ON true",
                        self.fresh()
                    ),
                    _ => format!(
                        "{from} JOIN {other} ON {} = {}",
                        pick(&scope),
                        pick(&more_of(&both))
                    ),
                };
                if !from.contains("LATERAL") {
                    scope = both;
                }
            }
            let filter = match self.dice.roll(2) {
                0 => format!(" WHERE {}", self.truth(&scope, depth.min(2))),
                _ => String::new(),
            };
            let d = depth.min(2);
            let core = match self.dice.roll(6) {
                0 => {
                    let key = self.text(&scope, d);
                    let sum = self.number(&scope, d);
                    let having = if self.dice.roll(2) == 0 { " HAVING count(*) > 1" } else { "" };
                    format!(
                        "SELECT sum({sum})::BIGINT AS n, {key} AS t FROM {from}{filter} GROUP BY {key}{having}"
                    )
                }
                1 => {
                    let (n, t) = (self.number(&scope, d), self.text(&scope, d));
                    format!("SELECT count(DISTINCT {n}) AS n, max({t}) AS t FROM {from}{filter}")
                }
                2 => {
                    let (n, t) = (self.number(&scope, d), self.text(&scope, d));
                    format!(
                        "SELECT rank() OVER (PARTITION BY {t} ORDER BY {n}) AS n, {t} AS t FROM {from}{filter} QUALIFY n <= 2"
                    )
                }
                _ => {
                    let distinct = if self.dice.roll(4) == 0 { "DISTINCT " } else { "" };
                    let (n, t) = (self.number(&scope, d), self.text(&scope, d));
                    format!("SELECT {distinct}{n} AS n, {t} AS t FROM {from}{filter}")
                }
            };
            if !outer {
                return core;
            }
            match self.dice.roll(11) {
                0 => format!("{core} UNION ALL {}", self.select(depth.saturating_sub(1), false)),
                1 => format!("{core} EXCEPT {}", self.select(depth.saturating_sub(1), false)),
                2 => {
                    // A name that may hide a table.
                    let name = self.dice.of(&["orders", "salaries", "payroll", "mine"]).to_string();
                    let inner = self.select(depth.saturating_sub(1), false);
                    format!("WITH {name} AS ({inner}) SELECT n, t FROM {name} UNION ALL {core}")
                }
                3 => format!("{core} ORDER BY ALL LIMIT 5"),
                4 => format!("FROM ({core}) SELECT * REPLACE (n + 1 AS n)"),
                5 => {
                    let inner = self.select(depth.saturating_sub(1), false);
                    format!(
                        "SELECT * FROM (PIVOT ({inner}) ON t IN ('c1', 'c2') USING sum(n)::BIGINT)"
                    )
                }
                6 => format!(
                    "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 3) SELECT i AS n, t FROM r, ({core}) q"
                ),
                7 => format!("DESCRIBE {core}"),
                // With one value at least: without any a session refuses.
                8 => format!(
                    "PIVOT (SELECT n, coalesce(t, '-') AS k FROM ({core}) UNION ALL SELECT 1, 'c1') \
                     ON k, n % 3 USING sum(n)::BIGINT GROUP BY n"
                ),
                _ => core,
            }
        }
    }

    fn qualified(scope: &Scope, alias: &str) -> Scope {
        let of = |columns: &[String]| columns.iter().map(|c| format!("{alias}.{c}")).collect();
        Scope { numbers: of(&scope.numbers), texts: of(&scope.texts) }
    }

    fn pick(scope: &Scope) -> String {
        scope.numbers.first().cloned().unwrap_or_else(|| "1".into())
    }

    fn more_of(scope: &Scope) -> Scope {
        Scope { numbers: scope.numbers.last().cloned().into_iter().collect(), texts: vec![] }
    }

    /// Rows as text, in an order of their own.
    fn lines(batches: &[RecordBatch]) -> Vec<String> {
        let options = FormatOptions::default().with_null("NULL");
        let mut lines = Vec::new();
        for batch in batches {
            let columns: Vec<_> = batch
                .columns()
                .iter()
                .map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap())
                .collect();
            for row in 0..batch.num_rows() {
                let values: Vec<String> =
                    columns.iter().map(|c| c.value(row).to_string()).collect();
                lines.push(values.join("|"));
            }
        }
        lines.sort();
        lines
    }

    /// A session and a plain DuckDB that show the same tables.
    struct Pair {
        session: Session,
        plain: Connection,
        shows: String,
    }

    fn pairs(dir: &std::path::Path) -> (Agnes, Vec<Pair>) {
        let agnes = Agnes::open(dir.join("data")).unwrap();
        let folder = dir.join("data/extracts/hr");
        let mut writer = ExtractWriter::begin(&folder, WriteMode::Replace, agnes.now()).unwrap();
        for (name, query, ..) in TABLES {
            writer.table_from_sql(&TableName::parse(name).unwrap(), query).unwrap();
        }
        writer.finish().unwrap();
        agnes.rebuild(None, &NoProgress).unwrap();
        agnes.adopt(&Principal::Operator, None).unwrap();
        let access = agnes.access().unwrap();
        let admin = access.admin(&Principal::Operator).unwrap();
        let mut pairs = Vec::new();
        for (at, shown) in [
            vec![],
            vec!["orders"],
            vec!["orders", "customers"],
            vec!["customers", "salaries", "plans"],
        ]
        .into_iter()
        .enumerate()
        {
            let email = Email::parse(format!("user{at}@example.com")).unwrap();
            let user = admin.add_user(email, None).unwrap();
            let group = admin.add_group(GroupName::parse(format!("g{at}")).unwrap(), None).unwrap();
            admin.add_member(&group.id, &user.id).unwrap();
            let plain = Connection::open_in_memory().unwrap();
            for name in &shown {
                admin.grant(&group.id, Resource::parse(&format!("table:{name}")).unwrap()).unwrap();
                let (_, query, ..) = TABLES.iter().find(|table| table.0 == *name).unwrap();
                plain.execute_batch(&format!("CREATE TABLE {name} AS {query}")).unwrap();
            }
            let session = agnes.session_for(&Principal::user(user.id)).unwrap();
            pairs.push(Pair { session, plain, shows: shown.join(" ") });
        }
        drop(access);
        (agnes, pairs)
    }

    #[test]
    fn a_session_answers_as_a_database_of_its_tables() {
        #[allow(clippy::disallowed_methods)]
        let asked = std::env::var("ORACLE").ok().and_then(|n| n.parse().ok()).unwrap_or(500);
        let dir = tempfile::tempdir().unwrap();
        let (_agnes, pairs) = pairs(dir.path());
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        let (mut answered, mut refused) = (0, 0);
        for at in 0..asked {
            let pair = &pairs[at % pairs.len()];
            let sql = Maker { dice: &mut dice, names: 0 }.select(3, true);
            let ours = pair
                .session
                .query(&sql, &QueryOptions::default())
                .and_then(agnes_core::Rows::read_all);
            let theirs = || -> duckdb::Result<Vec<RecordBatch>> {
                let mut statement = pair.plain.prepare(&sql)?;
                Ok(statement.query_arrow([])?.collect())
            };
            match (ours, theirs()) {
                (Ok(ours), Ok(theirs)) => {
                    answered += 1;
                    let (ours, theirs) = (lines(&ours.batches), lines(&theirs));
                    assert_eq!(ours, theirs, "statement {at} over [{}]:\n{sql}", pair.shows);
                }
                (Err(_), Err(_)) => refused += 1,
                (Ok(_), Err(error)) => {
                    panic!(
                        "statement {at} over [{}] ran, but not in DuckDB: {error}\n{sql}",
                        pair.shows
                    )
                }
                (Err(error), Ok(_)) => {
                    panic!("statement {at} over [{}] was refused: {error}\n{sql}", pair.shows)
                }
            }
        }
        // Neither side is a straw man.
        assert!(
            answered * 10 > asked && refused * 10 > asked,
            "{answered} and {refused} of {asked}"
        );
    }
}
