//! Configurations: the example, what is wrong with others, and what is never shown.

use std::path::Path;

use agnes_core::WorkerProgram;
use agnes_core::access::{Principal, TablePolicy};
use agnes_core::config::{Config, Files, Level};
use agnes_core::sync::Runs;
use serde_json::Value;

use crate::support::Place;

const EXAMPLE: &str = include_str!("../../../examples/instance.yaml");

fn load(place: &Place, text: &str) -> Config {
    place.write("config/instance.yaml", text);
    loaded(place)
}

fn loaded(place: &Place) -> Config {
    let files = Files::in_folder(place.path("config"), place.path("state"));
    let variables = |name: &str| match name {
        "EMPTY" => Some(String::new()),
        "WEBAPP_SECRET_KEY" | "ERP_TOKEN" | "SMTP_PASSWORD" => Some("hunter2".to_string()),
        "NUMBER" => Some(" 42 ".to_string()),
        _ => None,
    };
    Config::load(&files, &variables)
}

/// What came of a configuration for everybody who reads it.
fn read(config: &Config) -> String {
    format!(
        "{:?}",
        (
            (&config.instance, &config.server, &config.email, &config.api),
            (&config.auth.allowed_domain, &config.auth.providers),
            [&config.auth.webapp_secret_key, &config.email.smtp_password]
                .map(|secret| secret.as_ref().map(|secret| secret.expose().to_string())),
            (&config.data_source, config.get(&["config_version"])),
            (config.settings(), config.workers(WorkerProgram::this(["worker"]).unwrap())),
        )
    )
}

fn problems(config: &Config) -> Vec<String> {
    config.problems().iter().map(ToString::to_string).collect()
}

/// Every leaf of a tree, by its path.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(key, value)| leaves(value, &format!("{path}/{key}"), found));
        }
        Value::Array(items) if !items.is_empty() => {
            let items = items.iter().enumerate();
            items.for_each(|(at, value)| leaves(value, &format!("{path}/{at}"), found));
        }
        _ => found.push(path.to_string()),
    }
}

#[test]
fn every_key_of_the_example_is_read() {
    let place = Place::new();
    let example = load(&place, EXAMPLE);
    assert_eq!(problems(&example), Vec::<String>::new());
    let before = read(&example);
    let tree: Value = serde_saphyr::from_str(EXAMPLE).unwrap();
    let mut paths = Vec::new();
    leaves(&tree, "", &mut paths);
    assert!(paths.len() > 40, "{paths:?}");
    for path in paths {
        let mut changed = tree.clone();
        let leaf = changed.pointer_mut(&path).unwrap();
        *leaf = match (path.as_str(), &*leaf) {
            ("/access/table_policy", _) => "grants_and_legacy".into(),
            (path, _) if path.ends_with("/schedule") => "every 99m".into(),
            (_, Value::Number(number)) => (number.as_u64().unwrap() + 1).into(),
            (_, Value::Bool(flag)) => (!flag).into(),
            (_, Value::Object(_)) => serde_json::json!({"other": 1}),
            (_, Value::String(_)) => "other".into(),
            (path, leaf) => panic!("{path}: {leaf}"),
        };
        let config = load(&place, &serde_saphyr::to_string(&changed).unwrap());
        assert_ne!(read(&config), before, "nobody reads {path}");
    }
}

#[test]
fn the_example_says_what_the_defaults_are() {
    let place = Place::new();
    let example = load(&place, EXAMPLE).settings().unwrap();
    let default = agnes_core::Settings::default();
    assert_eq!(example.query, default.query);
    assert_eq!(example.metadata, default.metadata);
    assert_eq!((example.profiler, example.hybrid), (default.profiler, default.hybrid));
    assert_eq!(example.limits.memory_bytes, default.limits.memory_bytes);
    assert_eq!((example.grace, example.table_policy), (default.grace, default.table_policy));
    let (sync, usual) = (&example.sync, &default.sync);
    assert_eq!((sync.timeout, sync.drop_in_timeout), (usual.timeout, usual.drop_in_timeout));
    assert_eq!((sync.concurrency, &sync.python), (usual.concurrency, &usual.python));
    assert_eq!(sync.base_dir, place.path("config"));
    assert_eq!(sync.connectors_dir, Some(place.path("config/connectors/custom")));
}

#[test]
fn what_is_wrong_is_told_all_of_it_and_by_its_path() {
    let place = Place::new();
    let config = load(
        &place,
        "config_version: 2\n\
         instance: {nmae: x}\n\
         server: {host: [a], prot: 8000}\n\
         qurey: {}\n\
         telegram: {bot: 1}\n\
         query: {time_seconds: soon, memory_mb: -1, threads: '${NUMBER}'}\n\
         metadata: {concurrency: 0}\n\
         access: {table_policy: everybody}\n\
         attach: [{extension: keboola, url_perfix: x}, {source: crm}, 5]\n\
         sources:\n  \
           Bad-Name: {connector: files}\n  \
           crm: {schedule: hourly, conector: files}\n  \
           erp: {connector: a, command: [b]}\n  \
           ERP: {config: {token: '${UNSET}'}}\n  \
           plain:\n",
    );
    insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("config_problems", problems(&config).join("\n"));
    });
    assert!(config.settings().is_err());
    let paths: Vec<&str> = config.problems().iter().map(|p| p.path.as_str()).collect();
    assert!(
        paths.contains(&"query.time_seconds") && paths.contains(&"attach[0].url_perfix"),
        "{paths:?}"
    );
}

#[test]
fn limits_with_which_nothing_works_are_told() {
    let place = Place::new();
    for (text, range) in [
        ("query: {time_seconds: 0}", "from 1 to 1000000000, not `0`"),
        ("query: {running: 0}", "from 1 to"),
        ("query: {threads: 1000000001}", "from 1 to"),
        ("rebuild: {memory_mb: 1}", "from 16 to"),
        ("profiler: {sample_size: 0}", "from 1 to"),
        ("profiler: {histogram_bins: 1000000}", "from 1 to 1000, not `1000000`"),
        ("profiler: {alert_missing_pct: 'nan'}", "from 0 to 100"),
        ("profiler: {alert_missing_pct: 101}", "from 0 to 100"),
        ("remote_query: {timeout_seconds: 0}", "from 1 to"),
        ("sync: {concurrency: 0}", "from 1 to"),
        ("sources: {crm: {timeout_seconds: 0}}", "from 1 to"),
    ] {
        let told = problems(&load(&place, text));
        assert!(told[0].starts_with("error: ") && told[0].contains(range), "{text}: {told:?}");
    }
    let most = load(&place, "profiler: {histogram_bins: 1000, alert_missing_pct: 12.5}\n");
    assert_eq!(most.settings().unwrap().profiler.alert_missing_pct, 12.5);
}

#[test]
fn the_server_calls_no_address_inside() {
    let place = Place::new();
    let stack = |address: &str| {
        format!("data_source: {{type: keboola, keboola: {{stack_url: '{address}'}}}}")
    };
    assert!(load(&place, &stack("https://connection.keboola.com")).settings().is_ok());
    for inside in ["https://169.254.169.254/", "http://connection.keboola.com", "https://localhost"]
    {
        let told = problems(&load(&place, &stack(inside)));
        assert!(told[0].contains("error: `data_source.keboola.stack_url`"), "{told:?}");
    }
}

#[test]
fn a_source_that_is_wrong_is_left_out_and_stops_no_other() {
    let place = Place::new();
    let text = "sources:\n  good: {connector: files, schedule: every 1h}\n  \
                bad: {connector: files, schedule: hourly}\n  worse: [a]\n";
    let config = load(&place, text);
    let names: Vec<String> =
        config.settings().unwrap().sync.sources.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["good"]);
    assert!(problems(&config).iter().any(|told| told.contains("`sources.bad.schedule`")));
    // What matters to all stops everything.
    assert!(load(&place, &format!("{text}access: {{table_policy: nobody}}\n")).settings().is_err());
}

#[test]
fn what_a_variable_gives_is_never_shown_by_what_is_wrong_with_it() {
    let place = Place::new();
    let text = "query: {threads: '${ERP_TOKEN}'}\nsources: {crm: {schedule: 'x${ERP_TOKEN}', timeout_seconds: '${ERP_TOKEN}'}}\n";
    let config = load(&place, text);
    let told = format!("{:?} {config:?}", problems(&config));
    assert!(!told.contains("hunter2") && told.contains("`query.threads`"), "{told}");
    assert!(
        told.contains("`sources.crm.schedule`") && told.contains("`sources.crm.timeout_seconds`")
    );
}

#[test]
fn an_embedder_needs_no_file_at_all() {
    let place = Place::new();
    let config = loaded(&place);
    let settings = config.settings().unwrap();
    assert_eq!(settings.query, agnes_core::Settings::default().query);
    let missing: Vec<&str> = config
        .problems()
        .iter()
        .filter(|problem| problem.level == Level::Missing)
        .map(|problem| problem.path.as_str())
        .collect();
    assert_eq!(missing, ["auth.allowed_domain", "instance.name", "server.host", "server.hostname"]);
    for empty in ["", "# nothing\n", "~\n"] {
        assert!(load(&place, empty).settings().is_ok(), "{empty:?}");
    }
}

#[test]
fn the_overlay_goes_before_the_file_and_a_broken_one_is_ignored() {
    let place = Place::new();
    place.write(
        "state/instance.yaml",
        "instance: {name: Over}\nsources: {crm: {schedule: every 5m}}\n",
    );
    let text = "instance: {name: Under, theme: dark}\nserver: {host: '::1'}\n\
                sources: {crm: {connector: files, schedule: every 1h}}\n";
    let config = load(&place, text);
    assert_eq!(config.instance.name.as_deref(), Some("Over"));
    assert_eq!(config.server.host.as_deref(), Some("::1"));
    assert_eq!(config.get(&["instance", "theme"]), Some(&"dark".into()));
    assert_eq!(config.get(&["instance", "nothing", "here"]), None);
    let source = &config.settings().unwrap().sync.sources.into_values().next().unwrap();
    assert_eq!(source.schedule.as_ref().unwrap().as_str(), "every 5m");
    assert_eq!(source.runs, Runs::Connector("files".into()));
    for broken in ["a: [1, 2", "- a list", "a: 1\na: 2\n", "\u{0}", "just text", "{{{{"] {
        place.write("state/instance.yaml", broken);
        let config = load(&place, text);
        assert_eq!(config.instance.name.as_deref(), Some("Under"), "{broken:?}");
        assert!(config.settings().is_ok());
        assert!(problems(&config).iter().any(|p| p.contains("it is ignored")), "{broken:?}");
    }
    // The file itself isn't ignored.
    for broken in ["a: [1, 2", "- a list", "\u{0}"] {
        let error = load(&place, broken).settings().unwrap_err();
        assert!(error.message().contains("instance.yaml"), "{error}");
    }
}

#[test]
fn variables_give_numbers_and_choices_and_an_empty_one_the_default() {
    let place = Place::new();
    let config = load(
        &place,
        "query: {time_seconds: '${NUMBER}', threads: '${EMPTY}', memory_mb: '512'}\n\
         access: {table_policy: '${EMPTY}'}\n\
         auth: {allowed_domain: ' a.example, ,b.example '}\n\
         sources: {crm: {command: run.sh, timeout_seconds: '${NUMBER}'}}\n",
    );
    let settings = config.settings().unwrap();
    assert_eq!((settings.query.time.as_secs(), settings.query.memory_bytes), (42, 512 << 20));
    assert_eq!(settings.query.threads, agnes_core::Settings::default().query.threads);
    assert_eq!(settings.table_policy, TablePolicy::Grants);
    assert_eq!(config.allowed_domains(), ["a.example", "b.example"]);
    let crm = &settings.sync.sources.into_values().next().unwrap();
    assert_eq!(
        (&crm.runs, crm.timeout.unwrap().as_secs()),
        (&Runs::Program(vec!["run.sh".into()]), 42)
    );
    assert_eq!(config.data_source(None), "local");
    assert_eq!(config.data_source(Some("")), "local");
    assert_eq!(config.data_source(Some("jira")), "jira");
    assert_eq!(load(&place, "data_source: {type: keboola}").data_source(None), "keboola");
}

#[test]
fn a_secret_is_never_shown() {
    let place = Place::new();
    let text = EXAMPLE.replace("${ERP_TOKEN}", "hunter2")
        + "telegram: {bot_token: hunter2, chat: 5}\ndesktop: {smtp_url: 'smtp://me:hunter2@mail/'}\n";
    let config = load(&place, &text);
    assert!(!config.shown().to_string().contains("hunter2"));
    assert!(!format!("{config:?} {:?} {:?}", config.auth, config.problems()).contains("hunter2"));
    assert!(!serde_json::to_string(&config.auth).unwrap().contains("hunter2"));
    assert_eq!(config.shown()["auth"]["webapp_secret_key"], "${WEBAPP_SECRET_KEY}");
    // Nor by what is wrong beside it.
    for wrong in [
        "auth: {webapp_secret_key: hunter2\n",
        "auth: {webapp_secret_key: [hunter2]}\n",
        "auth:\n  webapp_secret_key: hunter2\n webapp: x\n",
        "auth: hunter2\n",
    ] {
        let config = load(&place, wrong);
        let told = problems(&config).join("\n") + &format!("{config:?} {:?}", config.settings());
        assert!(!told.contains("hunter2") && !config.problems().is_empty(), "{wrong}: {told}");
    }
}

#[test]
fn a_folder_in_the_place_of_the_file_is_told() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("config/instance.yaml")).unwrap();
    let error = loaded(&place).settings().unwrap_err();
    assert!(error.message().contains("can't be read"), "{error}");
    assert!(Path::new(error.context(agnes_core::Key::Path).unwrap()).ends_with("instance.yaml"));
}

/// A change of the overlay as an admin makes it.
fn change(place: &Place, sections: Value) -> agnes_core::Result<Vec<String>> {
    let files = Files::in_folder(place.path("config"), place.path("state"));
    let variables = |name: &str| (name == "SMTP_PASSWORD").then(|| "hunter2".to_string());
    let sections = sections.as_object().unwrap();
    let fits = |config: &Config| match config.server.host.as_deref() {
        Some("nowhere") => Err(agnes_core::Error::new(agnes_core::Kind::Invalid, "nowhere")),
        _ => Ok(()),
    };
    place.agnes().change_config(&Principal::Operator, &files, &variables, sections, &fits)
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_overlay_is_changed_and_secrets_go_around_unseen() {
    let place = Place::new();
    load(
        &place,
        "instance: {name: Sales}\nserver: {port: 8000}\n\
         email: {smtp_host: a, smtp_password: hunter2}\njira: {url: 'https://me:hunter2@jira/'}\n",
    );
    let shown = loaded(&place).changeable();
    assert!(!shown.to_string().contains("hunter2"), "{shown}");
    assert_eq!(shown["email"]["smtp_password"], "***");
    assert!(shown.get("sources").is_none() && shown.get("attach").is_none());
    // What is sent back as it was shown changes nothing.
    assert_eq!(change(&place, shown.clone()).unwrap(), Vec::<String>::new());
    assert!(!place.path("state/instance.yaml").exists());
    let mut edited = shown;
    edited["instance"]["name"] = "More sales".into();
    edited["email"]["from_name"] = "b".into();
    let paths = change(&place, edited).unwrap();
    assert_eq!(paths, ["email.from_name", "instance.name"]);
    let config = loaded(&place);
    assert_eq!(config.instance.name.as_deref(), Some("More sales"));
    assert_eq!(config.email.from_name.as_deref(), Some("b"));
    assert_eq!(config.email.smtp_password.as_ref().unwrap().expose(), "hunter2");
    assert_eq!(config.get(&["jira", "url"]).unwrap(), "https://me:hunter2@jira/");
    let overlay = place.path("state/instance.yaml");
    assert_eq!(mode(&overlay), 0o600);
    assert!(!std::fs::read_to_string(&overlay).unwrap().contains("hunter2"));
    // A secret may be replaced, and the log doesn't have it.
    let paths = change(&place, serde_json::json!({"email": {"smtp_password": "hunter3"}})).unwrap();
    assert_eq!(paths, ["email.smtp_password"]);
    assert_eq!(loaded(&place).email.smtp_password.unwrap().expose(), "hunter3");
    let agnes = place.agnes();
    let access = agnes.access().unwrap();
    access.flush().unwrap();
    let told = access.admin(&Principal::Operator).unwrap().audit(10).unwrap();
    let told = serde_json::to_string(&told).unwrap();
    assert!(told.contains("email.from_name") && told.contains("More sales"), "{told}");
    assert!(!told.contains("hunter"), "{told}");
}

#[test]
fn a_change_that_can_t_be_is_none() {
    let place = Place::new();
    load(&place, "instance: {name: Sales}\n");
    for (sections, told) in [
        (serde_json::json!({"sources": {"a": {"command": ["rm"]}}}), "`sources` is no section"),
        (serde_json::json!({"sever": {}}), "did you mean `server`?"),
        (serde_json::json!({"server": {"port": "many"}}), "server.port"),
        (serde_json::json!({"server": 5}), "`server`"),
        (
            serde_json::json!({"data_source": {"keboola": {"stack_url": "https://127.0.0.1/"}}}),
            "isn't public",
        ),
        (
            serde_json::json!({"data_source": {"keboola": {"stack_url": "http://example.com/"}}}),
            "https",
        ),
    ] {
        let error = change(&place, sections).unwrap_err();
        assert_eq!(error.kind(), agnes_core::Kind::Invalid, "{error}");
        assert!(error.message().contains(told), "{error}");
    }
    // Nor one that has somebody else read the environment, or the next start ignore or refuse it.
    let mut deep = Value::from(1);
    for _ in 0..200 {
        deep = serde_json::json!({"a": deep});
    }
    for sections in [
        serde_json::json!({"instance": {"home_route": "/x?${SMTP_PASSWORD}"}}),
        serde_json::json!({"theme": {"a": {"b": ["x", "${SMTP_PASSWORD}"]}}}),
        serde_json::json!({"theme": {"color": "${}${SMTP_PASSWORD}"}}),
        serde_json::json!({"data_source": {"keboola": {"stack_url": "https://${SMTP_PASSWORD}.com/"}}}),
        serde_json::json!({"theme": {"large": "x".repeat(2 << 20)}}),
        serde_json::json!({"theme": deep}),
        serde_json::json!({"server": {"prot": 1}}),
        serde_json::json!({"server": {"host": "nowhere"}}),
    ] {
        let error = change(&place, sections).unwrap_err();
        assert_eq!(error.kind(), agnes_core::Kind::Invalid, "{error}");
        assert!(!error.message().contains("hunter2"), "{error}");
    }
    assert!(!place.path("state/instance.yaml").exists());
    // A stored password isn't sent elsewhere.
    load(&place, "email: {smtp_host: a, smtp_password: hunter2}\n");
    let elsewhere = serde_json::json!({"email": {"smtp_host": "b"}});
    assert!(change(&place, elsewhere).unwrap_err().message().contains("smtp_password"));
    let anew = serde_json::json!({"email": {"smtp_host": "b", "smtp_password": "hunter3"}});
    assert!(change(&place, anew).is_ok());
    std::fs::remove_file(place.path("state/instance.yaml")).unwrap();
    // What can't be read isn't written over.
    place.write("state/instance.yaml", "a: [");
    let error = change(&place, serde_json::json!({"theme": {"color": "red"}})).unwrap_err();
    assert_eq!(error.kind(), agnes_core::Kind::Contract);
    assert_eq!(std::fs::read_to_string(place.path("state/instance.yaml")).unwrap(), "a: [");
}

#[test]
fn a_program_may_put_its_configuration_together() {
    let files = Files::of("data", "");
    assert_eq!(files.state_dir, Path::new("data/state"));
    let written = serde_json::json!({
        "query": {"time_seconds": "${SECONDS}"}, "qury": {},
        "sources": {"shop": {"connector": "files", "config": {"paths": ["orders.csv"]}}},
    });
    let variables = |name: &str| (name == "SECONDS").then(|| "7".to_string());
    let config = Config::of(written, &files, &variables).unwrap();
    let settings = config.settings().unwrap();
    assert_eq!(settings.query.time.as_secs(), 7);
    assert_eq!(settings.sync.base_dir, Path::new(""));
    assert_eq!(settings.sync.sources.len(), 1);
    // What a server would need matters to no program.
    let told = config.problems().iter().filter(|problem| !problem.is_of_a_server());
    let told: Vec<String> = told.map(ToString::to_string).collect();
    assert_eq!(told, ["warning: `qury` is no key; did you mean `query`?"]);
    assert!(config.problems().len() > 1);
    let error = Config::of(serde_json::json!(["query"]), &files, &variables).unwrap_err();
    assert_eq!(error.kind(), agnes_core::Kind::Invalid);
}
