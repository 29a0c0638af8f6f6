//! What the command prints, whole: stdout, stderr and the exit code of each call.
// Helpers of tests are tests: they may panic.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A working directory of its own, and the calls that were made in it.
struct Shell {
    dir: tempfile::TempDir,
    log: String,
    variables: Vec<(&'static str, &'static str)>,
}

impl Shell {
    fn new() -> Shell {
        Shell { dir: tempfile::tempdir().unwrap(), log: String::new(), variables: Vec::new() }
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    fn write(&self, relative: &str, content: impl AsRef<[u8]>) {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agnes"));
        command.args(arguments).current_dir(self.dir.path()).stdin(Stdio::null());
        for variable in [
            "DATA_DIR",
            "STATE_DIR",
            "CONFIG_DIR",
            "JWT_SECRET_KEY",
            "AGNES_REMOTE_ATTACH_EXTENSIONS",
        ] {
            command.env_remove(variable);
        }
        command.envs(self.variables.iter().copied());
        command
    }

    /// Runs `agnes` and notes what it said.
    fn agnes(&mut self, arguments: &[&str]) -> &mut Shell {
        let output = self.command(arguments).output().unwrap();
        let shown: Vec<String> = arguments
            .iter()
            .map(|a| if a.contains([' ', '*']) { format!("'{a}'") } else { a.to_string() })
            .collect();
        writeln!(self.log, "$ agnes {}", shown.join(" ")).unwrap();
        self.log.push_str(&String::from_utf8_lossy(&output.stdout));
        for line in String::from_utf8_lossy(&output.stderr).lines() {
            writeln!(self.log, "! {line}").unwrap();
        }
        let code = output.status.code().unwrap();
        if code != 0 {
            writeln!(self.log, "[exit {code}]").unwrap();
        }
        self.log.push('\n');
        self
    }

    /// What was said, without what differs from one run to the next.
    fn check(self, name: &str) {
        let here = self.dir.path().canonicalize().unwrap();
        let text = self.log.replace(here.to_str().unwrap(), "$PWD");
        let mut settings = insta::Settings::clone_current();
        settings.add_filter(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>");
        settings.add_filter(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00", "<time>");
        settings.add_filter(r"\b\d+ ms\b", "<ms>");
        settings.add_filter(r#""duration_ms": \d+"#, "\"duration_ms\": <ms>");
        settings.add_filter(r#""run_id": "[0-9a-f]{8}""#, "\"run_id\": \"<run>\"");
        settings.add_filter(r#""age_seconds": \d+"#, "\"age_seconds\": <s>");
        settings.add_filter(r"\b\d s\b", "<s>");
        settings.add_filter(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", "<token>");
        settings.add_filter(r"Done in \d+\.\d+ s", "Done in <time>");
        settings.add_filter(r"\b[0-9a-f]{32}\b", "<md5>");
        settings.add_filter(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<id>");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(name, text));
    }
}

fn shop(shell: &Shell) {
    shell.write(
        "orders.csv",
        "id,status,amount,day\n1,paid,9.5,2026-01-02\n2,open,20,2026-01-03\n3,paid,,2026-01-04\n",
    );
    shell.write("in/customers.jsonl", "{\"id\":1,\"name\":\"Ada \\\"the first\\\"\",\"tags\":[\"a\",\"b\"]}\n{\"id\":2,\"name\":\"Bob,\\nJr\",\"tags\":[]}\n");
}

#[test]
fn help() {
    let mut shell = Shell::new();
    shell.agnes(&["--help"]).agnes(&["--version"]).agnes(&[]);
    for command in ["ingest", "check", "rebuild", "query", "status", "demo"] {
        shell.agnes(&[command, "--help"]);
    }
    for command in
        ["registry", "user", "group", "grant", "token", "access", "manifest", "break-glass"]
    {
        shell.agnes(&[command, "--help"]);
    }
    shell.agnes(&["registry", "register", "--help"]);
    shell.check("help");
}

#[test]
fn schedules() {
    let mut shell = Shell::new();
    let at = ["--now", "2026-11-20T12:00:00Z"];
    let mut next = |given: &[&str]| {
        shell.agnes(&[&["schedule", "next"], given, &at].concat());
    };
    next(&["every 1h", "--last", "2026-11-20T11:30:00Z"]);
    next(&["daily 07:00,13:00 Europe/Prague", "--last", "2026-11-20T06:30:00", "--json"]);
    next(&["cron 30 6 * * MON-FRI", "--last", "2026-11-20T06:30:00Z"]);
    next(&["daily 07:00"]);
    next(&["daily 07:00", "--last", "yesterday"]);
    next(&["daily 25:00"]);
    next(&["daily 07:00 Europe/Pragu", "--json"]);
    shell.agnes(&["schedule", "next", "every 1h", "--now", "noon"]);
    shell.agnes(&["schedule", "--help"]).agnes(&["schedule", "next", "--help"]);
    // Times are what this test is about.
    let text = std::mem::take(&mut shell.log);
    insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("schedules", text);
    });
}

/// A source whose tables lie in another DuckDB database.
fn warehouse(shell: &Shell) {
    let folder = shell.path("data/extracts/wh");
    std::fs::create_dir_all(&folder).unwrap();
    let (remote, extract) = (shell.path("remote.duckdb"), folder.join("extract.duckdb"));
    duckdb::Connection::open_in_memory()
        .unwrap()
        .execute_batch(&format!(
            "ATTACH '{0}' AS far;
             CREATE TABLE far.orders AS SELECT i AS id, i % 10 AS shop FROM range(1000) t(i);
             ATTACH '{1}' AS e (STORAGE_VERSION 'v1.0.0'); USE e;
             CREATE TABLE _meta (table_name VARCHAR, description VARCHAR, rows BIGINT,
               size_bytes BIGINT, extracted_at TIMESTAMP, query_mode VARCHAR);
             INSERT INTO _meta (table_name, query_mode) VALUES ('orders', 'remote'), ('recent', 'remote');
             CREATE TABLE _remote_attach (alias VARCHAR, extension VARCHAR, url VARCHAR, token_env VARCHAR);
             INSERT INTO _remote_attach VALUES ('far', 'duckdb', '{0}', '');
             CREATE VIEW orders AS SELECT * FROM far.main.orders;
             CREATE VIEW recent AS SELECT * FROM far.main.orders WHERE id > 900;
             USE memory; DETACH e; DETACH far",
            remote.display(),
            extract.display()
        ))
        .unwrap();
}

#[test]
fn remote_tables_are_asked_about() {
    let mut shell = Shell::new();
    shell.variables.push(("AGNES_REMOTE_ATTACH_EXTENSIONS", "duckdb"));
    shell.agnes(&["metadata", "status"]).agnes(&["metadata", "refresh"]);
    warehouse(&shell);
    shell
        .agnes(&["rebuild"])
        .agnes(&["registry", "adopt"])
        .agnes(&["metadata", "status"])
        .agnes(&["metadata", "refresh"])
        .agnes(&["metadata", "refresh", "orders"])
        .agnes(&["metadata", "refresh", "recent"])
        .agnes(&["metadata", "refresh", "unknown"])
        .agnes(&["metadata", "status"])
        .agnes(&["metadata", "status", "--json"]);
    std::fs::remove_file(shell.path("remote.duckdb")).unwrap();
    shell
        .agnes(&["metadata", "refresh", "orders", "--json"])
        .agnes(&["metadata", "refresh", "--json"])
        .agnes(&["metadata", "status"])
        .agnes(&["metadata", "--help"]);
    shell.check("remote_tables_are_asked_about");
}

#[test]
fn sources_are_brought_over_as_configured() {
    let mut shell = Shell::new();
    shop(&shell);
    shell.agnes(&["sync"]);
    shell.write(
        "config/instance.yaml",
        "instance: {name: Shop}\nsources:\n  shop:\n    connector: files\n    schedule: every 1h\n    \
         config: {paths: [../orders.csv, ../in]}\n  away:\n    command: [sh, -c, 'echo no such host >&2; exit 1']\n    \
         config: {token: '${AWAY_TOKEN}'}\n",
    );
    shell
        .agnes(&["sync", "--dry-run"])
        .agnes(&["sync"])
        .agnes(&["query", "SELECT count(*) AS n FROM orders, customers"])
        .agnes(&["sync", "--dry-run"])
        .agnes(&["sync", "shop", "--json"])
        .agnes(&["sync", "nobody"])
        .agnes(&["sync", "shop", "--all"]);
    shell.write("config/instance.yaml", "sources: {shop: {connector: files, schedule: hourly}}\n");
    shell.agnes(&["sync"]).agnes(&["query", "FROM orders"]).agnes(&["sync", "--help"]);
    shell.check("sources_are_brought_over_as_configured");
}

/// While a connector works, which may take hours, others may use the system database; and when the
/// sync is told to end, all that the connector has started ends with it.
#[test]
fn a_sync_holds_up_nobody_and_leaves_nothing_running() {
    let shell = Shell::new();
    shop(&shell);
    let script = format!(
        "#!/bin/sh\n{} -d data registry list > seen.txt 2>&1; echo $? >> seen.txt\n\
         (while true; do sleep 0.1; date > alive.txt; done) & wait\n",
        env!("CARGO_BIN_EXE_agnes")
    );
    shell.write("config/run.sh", script);
    shell.write(
        "config/instance.yaml",
        "sources:\n  shop: {connector: files, config: {paths: [../orders.csv]}}\n  slow: {command: [sh, run.sh]}\n",
    );
    std::os::unix::fs::symlink(shell.path("data"), shell.path("config/data")).unwrap();
    let sync = |sources: &[&str]| {
        let mut command = shell.command(&[&["sync"], sources].concat());
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    assert!(sync(&["shop"]).wait().unwrap().success());
    let mut child = sync(&["slow"]);
    let alive = shell.path("config/alive.txt");
    while !alive.exists() {
        std::thread::yield_now();
    }
    let seen = std::fs::read_to_string(shell.path("config/seen.txt")).unwrap();
    assert!(seen.contains("orders") && seen.ends_with("\n0\n"), "{seen}");
    // A second one of the same source is refused, another source isn't.
    assert_eq!(sync(&["slow"]).wait().unwrap().code(), Some(9));
    assert!(sync(&["shop"]).wait().unwrap().success());
    let ended = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(ended.success());
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
    // Nobody writes any more: the lock that whatever was left would hold is free.
    let is_free = || {
        let lock = shell.path("data/extracts/.slow.sync");
        Command::new("flock").arg("-n").arg(lock).arg("true").status().unwrap().success()
    };
    while !is_free() {
        std::thread::yield_now();
    }
}

#[test]
fn a_configuration_is_checked_and_shown() {
    let mut shell = Shell::new();
    shell.agnes(&["config", "check"]).agnes(&["config", "show"]);
    shell.write(
        "elsewhere/instance.yaml",
        "instance: {name: '${NAME}'}\nserver: {host: 127.0.0.1, hostname: data.example.com}\n\
         auth: {allowed_domain: example.com, webapp_secret_key: hunter2}\n\
         sources:\n  crm: {command: [run.sh], config: {token: '${CRM_TOKEN}', url: 'https://me:hunter2@crm/'}}\n",
    );
    shell.variables.push(("CONFIG_DIR", "elsewhere"));
    shell.write("data/state/.env_overlay", "NAME=Sales\n");
    shell.write("data/state/instance.yaml", "server: {hostname: other.example.com}\n");
    shell
        .agnes(&["config", "check"])
        .agnes(&["config", "check", "--json"])
        .agnes(&["config", "show"])
        .agnes(&["config", "show", "--json"]);
    // It is looked for where its name says.
    shell.write("elsewhere/run.sh", "");
    shell.write(
        "elsewhere/instance.yaml",
        "sources:\n  crm: {command: [./run.sh]}\n  erp: {command: [./gone.sh]}\n  \
         shop: {connector: file}\n  web: {connector: files, config: {path: [a.csv]}}\n",
    );
    shell.agnes(&["config", "check"]);
    shell.write("elsewhere/instance.yaml", "instance: {nmae: x}\nquery: {time_seconds: soon}\n");
    shell
        .agnes(&["config", "check"])
        .agnes(&["config", "show"])
        .agnes(&["status"])
        .agnes(&["config", "--help"]);
    shell.check("a_configuration_is_checked_and_shown");
}

#[test]
fn what_is_in_the_tables_of_the_demo_and_what_they_mean() {
    let mut shell = Shell::new();
    shell.agnes(&["demo"]);
    shell.log.clear();
    shell.variables.push(("DATA_DIR", "agnes-demo"));
    let pack = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics");
    shell
        .agnes(&["metrics", "list"])
        .agnes(&["profile", "seattle_weather"])
        .agnes(&["metrics", "import", pack])
        .agnes(&["metrics", "list"])
        .agnes(&["metrics", "list", "--category", "weather", "--json"])
        .agnes(&["metrics", "show", "aviation/late_share"])
        .agnes(&["metrics", "run", "aviation/late_share"])
        .agnes(&["metrics", "run", "aviation/late_share", "--variant", "weekday", "-f", "csv"])
        .agnes(&["metrics", "run", "aviation/late_share", "--variant", "year"])
        .agnes(&["metrics", "validate"])
        .agnes(&["metrics", "export", "--dir", "out"])
        .agnes(&["profile", "flights"])
        .agnes(&["profile", "fligths"])
        .agnes(&["user", "add", "ada@example.com"])
        .agnes(&["profile", "flights", "--as", "ada@example.com"])
        .agnes(&["metrics", "list", "--as", "ada@example.com"])
        .agnes(&["metrics", "run", "aviation/late_share", "--as", "ada@example.com"]);
    shell.write(
        "bad.yml",
        "name: bad\ncategory: x\ntable: fligths\nsql: SELECT dely FROM flights\nowner: me\n",
    );
    shell
        .agnes(&["metrics", "import", "bad.yml"])
        .agnes(&["metrics", "validate"])
        .agnes(&["metrics", "remove", "x/bad"])
        .agnes(&["metrics", "import", "nowhere"])
        .agnes(&["metrics", "--help"])
        .agnes(&["profile", "--help"]);
    shell.log = shell.log.replace(pack, "docs/metrics");
    shell.check("what_is_in_the_tables_of_the_demo_and_what_they_mean");
}

#[test]
fn demo() {
    let mut shell = Shell::new();
    shell.agnes(&["demo"]).agnes(&["demo"]);
    shell.check("demo");
}

#[test]
fn from_files_to_answers() {
    let mut shell = Shell::new();
    shop(&shell);
    shell
        .agnes(&["status"])
        .agnes(&["query", "FROM orders"])
        .agnes(&["ingest", "shop", "orders.csv", "in"])
        .agnes(&["rebuild", "--dry-run"])
        .agnes(&["rebuild"])
        .agnes(&[
            "query",
            "SELECT status, sum(amount) AS total FROM orders GROUP BY ALL ORDER BY 1",
        ])
        .agnes(&["query", "FROM customers ORDER BY id", "--format", "json"])
        .agnes(&["query", "FROM customers ORDER BY id", "--format", "jsonl"])
        .agnes(&["query", "FROM orders ORDER BY id", "--format", "csv"])
        .agnes(&["query", "FROM customers WHERE false", "--format", "csv"])
        .agnes(&["query", "FROM customers WHERE false", "--format", "json"])
        .agnes(&["query", "FROM range(5)", "--limit", "2"])
        .agnes(&["query", "SHOW TABLES"])
        .agnes(&["query", "DESCRIBE orders"])
        .agnes(&["ingest", "shop", "orders.csv", "in"])
        .agnes(&["rebuild"])
        .agnes(&["status"])
        .agnes(&["status", "--json"]);
    shell.check("from_files_to_answers");
}

#[test]
fn what_goes_wrong() {
    let mut shell = Shell::new();
    shop(&shell);
    shell.write("bad.csv", "a,b\nJos\u{e9},1\n".chars().map(|c| c as u8).collect::<Vec<u8>>());
    shell.write("data/extracts/broken/extract.duckdb", "this is no database");
    shell
        .agnes(&["ingest", "my-shop", "orders.csv"])
        .agnes(&["ingest", "shop", "nowhere.csv"])
        .agnes(&["ingest", "shop", "bad.csv"])
        .agnes(&["ingest", "shop", "bad.csv", "orders.csv", "--json"])
        .agnes(&["check", "data/extracts/broken"])
        .agnes(&["check", "data/extracts/shop"])
        .agnes(&["rebuild"])
        .agnes(&["rebuild", "--source", "nobody"])
        .agnes(&["query", "FROM ordres"])
        .agnes(&["query", "SELECT nonsense FROM orders"])
        .agnes(&["query", "SELEC 1"])
        .agnes(&["query", "DROP TABLE orders"])
        .agnes(&["query", "COPY orders TO 'out.csv'"])
        .agnes(&["query", "FROM read_csv('/etc/passwd')"])
        .agnes(&["query", "SELECT 1; SELECT 2"])
        .agnes(&["query", "SELECT 1", "--format", "xml"])
        .agnes(&["-d", "elsewhere", "rebuild"]);
    assert!(!shell.path("out.csv").exists());
    shell.check("what_goes_wrong");
}

#[test]
fn who_may_see_what() {
    let mut shell = Shell::new();
    shop(&shell);
    shell
        .agnes(&["ingest", "shop", "orders.csv", "in"])
        .agnes(&["rebuild"])
        .agnes(&["registry", "list"])
        .agnes(&["user", "add", "Ada@example.com", "--name", "Ada"])
        .agnes(&["user", "add", "ada@example.com"])
        .agnes(&["user", "add", "root@example.com", "--admin"])
        .agnes(&["user", "add", "not an address"])
        .agnes(&["group", "create", "sales", "--description", "those who sell"])
        .agnes(&["group", "create", "ADMIN"])
        .agnes(&["group", "add-member", "sales", "ada@example.com"])
        .agnes(&["group", "list"])
        .agnes(&["grant", "create", "sales", "table:orders"])
        .agnes(&["grant", "create", "sales", "table:payroll"])
        .agnes(&["grant", "create", "sales", "orders"])
        .agnes(&["grant", "list"])
        .agnes(&["access", "list", "ada@example.com"])
        .agnes(&["access", "explain", "ada@example.com", "orders"])
        .agnes(&["access", "explain", "ada@example.com", "customers", "--json"])
        .agnes(&["access", "who", "orders"])
        .agnes(&["manifest", "--as", "ada@example.com"])
        .agnes(&["query", "--as", "ada@example.com", "SELECT count(*) AS n FROM orders"])
        .agnes(&["query", "--as", "ada@example.com", "SHOW TABLES"])
        .agnes(&["query", "--as", "ada@example.com", "FROM customers"])
        .agnes(&["query", "--as", "ada@example.com", "FROM payroll"])
        .agnes(&["query", "--as", "root@example.com", "SELECT count(*) AS n FROM customers"])
        .agnes(&["query", "--as", "nobody@example.com", "SELECT 1"])
        .agnes(&["grant", "delete", "sales", "table:orders"])
        .agnes(&["query", "--as", "ada@example.com", "FROM orders"])
        .agnes(&["grant", "create", "sales", "table:orders"])
        .agnes(&["user", "deactivate", "ada@example.com"])
        .agnes(&["query", "--as", "ada@example.com", "SELECT 1"])
        .agnes(&["access", "explain", "ada@example.com", "orders"])
        .agnes(&["user", "list"])
        .agnes(&["user", "deactivate", "root@example.com"])
        .agnes(&["user", "remove", "ada@example.com"])
        .agnes(&["break-glass", "grant-admin", "eve@example.com"])
        .agnes(&["admin", "break-glass", "eve@example.com"])
        .agnes(&["group", "members", "Admin"])
        .agnes(&["group", "remove-member", "Admin", "eve@example.com"])
        .agnes(&["group", "delete", "Admin"])
        .agnes(&["group", "delete", "sales"])
        .agnes(&["grant", "list", "--json"]);
    shell.check("who_may_see_what");
}

#[test]
fn tokens_are_made_listed_and_revoked() {
    let mut shell = Shell::new();
    shell
        .agnes(&["user", "add", "ada@example.com"])
        .agnes(&["token", "create", "ada@example.com", "--name", "ci"])
        .agnes(&["token", "create", "ada@example.com", "--name", "for ever", "--ttl", "never"])
        .agnes(&["token", "create", "ada@example.com", "--name", "ci", "--ttl", "soon"])
        .agnes(&["token", "create", "ada@example.com", "--name", "ci", "--ttl", "0d"])
        .agnes(&["token", "create", "eve@example.com", "--name", "ci"])
        .agnes(&["token", "list"])
        .agnes(&["token", "revoke", "nothing"]);
    let output = shell.command(&["token", "list", "--json"]).output().unwrap();
    let tokens: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let id = tokens[0]["id"].as_str().unwrap().to_string();
    shell.agnes(&["token", "revoke", &id]).agnes(&["token", "list", "ada@example.com"]);
    shell.check("tokens_are_made_listed_and_revoked");
}

#[test]
fn tables_are_registered_and_unregistered() {
    let mut shell = Shell::new();
    shop(&shell);
    shell.write("other/orders.csv", "id\n7\n");
    shell
        .agnes(&["ingest", "shop", "orders.csv", "in"])
        .agnes(&["rebuild"])
        .agnes(&["ingest", "other", "other"])
        .agnes(&["registry", "register", "plans"])
        .agnes(&["registry", "register", "plans", "--source", "erp", "--source-query", "SELECT 1"])
        .agnes(&["registry", "register", "plans", "--source", "erp", "--id", "ORDERS"])
        .agnes(&["registry", "register", "Plans", "--source", "erp", "--bucket", "in.c-main"])
        .agnes(&["registry", "update", "plans", "--description", "what is planned", "--bucket", ""])
        .agnes(&["registry", "list"])
        .agnes(&["registry", "unregister", "orders"])
        .agnes(&["query", "SHOW TABLES"])
        .agnes(&["rebuild"])
        .agnes(&["registry", "adopt"])
        .agnes(&["registry", "adopt", "other"])
        .agnes(&["registry", "unregister", "nothing"])
        .agnes(&["registry", "list", "--json"]);
    shell.check("tables_are_registered_and_unregistered");
}

#[test]
fn rows_as_arrow_and_parquet_are_read_back() {
    let mut shell = Shell::new();
    shop(&shell);
    shell.agnes(&["ingest", "shop", "orders.csv"]).agnes(&["rebuild"]);
    let output = shell.command(&["query", "FROM orders", "--format", "arrow"]).output().unwrap();
    let reader = agnes_core::arrow::ipc::reader::StreamReader::try_new(&output.stdout[..], None);
    let rows: usize = reader.unwrap().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, 3);
    let output = shell.command(&["query", "FROM orders", "--format", "parquet"]).output().unwrap();
    shell.write("in2/rows.parquet", &output.stdout);
    shell.agnes(&["ingest", "again", "in2"]).agnes(&["rebuild"]);
    let output =
        shell.command(&["query", "SELECT count(*) FROM rows", "-f", "csv"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "count_star()\n3\n");
}

#[test]
fn a_value_that_a_format_has_no_form_for_is_text_in_it() {
    let shell = Shell::new();
    let rows = |sql: &str, format: &str| -> Vec<u8> {
        let output = shell.command(&["query", sql, "-f", format]).output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let sql = "SELECT histogram(x) AS h, ['inf'::DOUBLE, '-inf', 'nan', 1e300, 0.5, NULL] AS f,
               MAP {DATE '2026-01-01': NULL, DATE '2026-01-02': {'g': 'inf'::FLOAT}} AS m,
               '101'::BIT AS b FROM (VALUES (1), (1), (2)) t(x)";
    let json: serde_json::Value = serde_json::from_slice(&rows(sql, "json")).unwrap();
    let expected = serde_json::json!([{
        "h": {"1": 2, "2": 1},
        "f": ["Infinity", "-Infinity", "NaN", 1e300, 0.5, null],
        "m": {"2026-01-01": null, "2026-01-02": {"g": "Infinity"}},
        "b": "101",
    }]);
    assert_eq!(json, expected);
    // Times that end later than Arrow's text, at any depth.
    let sql = "SELECT 'infinity'::DATE AS d, [TIME '24:00:00', NULL] AS t, \
               {'a': '-infinity'::TIMESTAMP_NS} AS n, DATE '5881580-07-10' AS far, \
               TIMESTAMP '290308-01-02 (BC) 03:04:05.5' AS bc, 1 AS d";
    assert_eq!(
        String::from_utf8(rows(sql, "csv")).unwrap(),
        "d,t,n,far,bc,d\ninfinity,\"[24:00:00, NULL]\",{a: -infinity},5881580-07-10,\
         290308-01-02 (BC)T03:04:05.500000,1\n"
    );
    let json: serde_json::Value = serde_json::from_slice(&rows(sql, "jsonl")).unwrap();
    let expected = serde_json::json!({
        "d": "infinity", "t": ["24:00:00", null], "n": {"a": "-infinity"},
        "far": "5881580-07-10", "bc": "290308-01-02 (BC)T03:04:05.500000", "d_1": 1,
    });
    assert_eq!(json, expected);
    let table = String::from_utf8(rows(sql, "table")).unwrap();
    assert!(table.contains("infinity") && table.contains("24:00:00"), "{table}");
    let union = "SELECT union_value(n := 1) AS u, UUID '00000000-0000-0000-0000-000000000001' AS i";
    assert!(String::from_utf8(rows(union, "json")).unwrap().contains("\"u\":\"{n=1}\""));
    let sql = "SELECT INTERVAL 3 DAY AS i, [TIMESTAMP_S '2026-01-02 03:04:05'] AS s, 1 AS i";
    shell.write("in/odd.parquet", rows(sql, "parquet"));
    let duckdb = "SELECT s[1]::VARCHAR || ' ' || typeof(s) || ' ' || i_1 FROM odd";
    let output = shell.command(&["ingest", "odd", "in/odd.parquet"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(shell.command(&["rebuild"]).output().unwrap().status.success());
    let csv = String::from_utf8(rows(duckdb, "csv")).unwrap();
    assert!(csv.contains("2026-01-02 03:04:05 TIMESTAMP[] 1"), "{csv}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let shell = Shell::new();
    let mut child = shell
        .command(&["query", "FROM range(3000000)", "--limit", "0", "--format", "csv"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn completions_for_the_usual_shells() {
    let shell = Shell::new();
    for name in ["bash", "zsh", "fish"] {
        let output = shell.command(&["completions", name]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("ingest"), "{name}");
    }
}

/// The policy of older installations, which an import may need.
#[test]
fn the_environment_chooses_the_policy() {
    let mut shell = Shell::new();
    shop(&shell);
    shell
        .agnes(&["ingest", "shop", "orders.csv"])
        .agnes(&["rebuild"])
        .agnes(&["user", "add", "ada@example.com"])
        .agnes(&["registry", "update", "orders", "--public", "true"]);
    let ask = |policy: &str| {
        let mut command = shell.command(&["query", "--as", "ada@example.com", "FROM orders"]);
        let output = command.env("AGNES_TABLE_POLICY", policy).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).to_string())
    };
    assert_eq!(ask("grants_and_legacy").0, Some(0), "{:?}", ask("grants_and_legacy"));
    for strict in ["", "grants"] {
        assert_eq!(ask(strict).0, Some(3), "{:?}", ask(strict));
    }
    let (code, said) = ask("Grants_And_Legacy");
    assert!(code == Some(2) && said.contains("AGNES_TABLE_POLICY"), "{code:?} {said}");
}

#[test]
fn a_folder_that_can_t_be_written_is_named() {
    let shell = Shell::new();
    shop(&shell);
    shell.write("file", "I am no folder");
    for (folder, code) in [("file", 2), ("file/data", 7)] {
        let ingest = ["-d", folder, "ingest", "shop", "orders.csv"];
        let output = shell.command(&ingest).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).to_string();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains("file"), "{text}");
    }
}
