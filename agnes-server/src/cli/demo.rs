//! `agnes demo`: the main job on real data, step by step.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agnes_core::access::{Email, GrantOverview, GroupName, NewToken, Resource};
use agnes_core::connectors::files::{FilesConnector, FilesOptions};
use agnes_core::{Agnes, Error, Kind, Result, SourceName};
use clap::Args;

use super::environment::Environment;
use super::format::Format;
use super::log::LogFormat;
use super::output::{Done, Output};
use super::people::OPERATOR;
use super::{ingest, query, rebuild, serve};
use crate::http::ServerSettings;

pub(super) const HELP: &str = "\
See it work on real data.

Takes files of three US agencies, which come with the command, through the files connector \
into three extracts, publishes them and answers three questions with SQL. A second run finds \
everything unchanged. It works in ./agnes-demo unless --data-dir says otherwise; delete that \
folder when you have seen enough. With --serve a server goes on afterwards, on this machine alone, \
with a token for each of two users who see different tables.";

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Serve it afterwards, to two users who see different tables
    #[arg(long)]
    serve: bool,
    /// Where it listens then; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0", requires = "serve")]
    listen: SocketAddr,
}

/// Who asks the server of the demo, and what she may see.
const PEOPLE: [(&str, &[&str]); 2] = [
    ("ada@example.com", &["airports", "flights"]),
    ("bob@example.com", &["bird_strikes", "seattle_weather"]),
];

/// A source of the demo and its files, as they lie in examples/data.
struct Source {
    name: &'static str,
    what: &'static str,
    files: &'static [(&'static str, &'static [u8])],
}

macro_rules! data {
    ($path:literal) => {
        include_bytes!(concat!("../../../examples/data/", $path))
    };
}

const SOURCES: [Source; 3] = [
    Source {
        name: "aviation",
        what: "airports (CSV) and a sample of flights (JSON lines)",
        files: &[
            ("airports.csv", data!("aviation/airports.csv")),
            ("flights.jsonl", data!("aviation/flights.jsonl")),
        ],
    },
    Source {
        name: "weather",
        what: "four years of weather in Seattle (TSV)",
        files: &[("seattle_weather.tsv", data!("weather/seattle_weather.tsv"))],
    },
    Source {
        name: "wildlife",
        what: "birds that met aircraft (Parquet)",
        files: &[("bird_strikes.parquet", data!("wildlife/bird_strikes.parquet"))],
    },
];

/// What is asked, with the answer's SQL.
const QUESTIONS: [(&str, &str); 3] = [
    (
        "Which busy airports report the most bird strikes for their share of the flights?",
        include_str!("demo/airports.sql"),
    ),
    (
        "How do bird strikes in Washington and Oregon follow the seasons of Seattle's weather?",
        include_str!("demo/seasons.sql"),
    ),
    (
        "How did Seattle's first months go: delays, weather, birds?",
        include_str!("demo/seattle.sql"),
    ),
];

impl Demo {
    pub(super) fn run(self, data_dir: PathBuf, output: &Output) -> Result<Done> {
        let start = Instant::now();
        let agnes = self.open(&data_dir)?;
        let inbox = data_dir.join("inbox");
        output.line("1. Files become extracts: one folder of parquet for each source.")?;
        for source in &SOURCES {
            output.line(format_args!("{}: {}", source.name, source.what))?;
            let folder = inbox.join(source.name);
            lay_out(&folder, source.files)?;
            let name = SourceName::parse(source.name)?;
            let files = FilesConnector::new(vec![folder], FilesOptions::default());
            let report = agnes.ingest(&name, &files, &output.progress())?;
            ingest::show(&name, &report.extract, output)?;
        }
        output.line("\n2. A rebuild publishes all extracts as one analytics database.")?;
        let report = agnes.rebuild(None, &output.progress())?;
        rebuild::show(&report, output)?;
        output.line("\n3. SQL over all of it.")?;
        for (question, sql) in QUESTIONS {
            output.line(format_args!("\n   {question}\n"))?;
            for line in sql.trim_end().lines() {
                output.line(format_args!("     {line}"))?;
            }
            output.line("")?;
            query::run(&agnes.session()?, sql, Format::Table, 0, output)?;
        }
        let seconds = start.elapsed().as_secs_f64();
        let again = if report.published {
            "Run it again to see that nothing is done twice."
        } else {
            "Nothing had changed, so nothing was written."
        };
        output.line(format_args!("\nDone in {seconds:.2} s. {again}"))?;
        output.line(format_args!(
            "Go on: agnes --data-dir {0} query 'SHOW TABLES'\n       any DuckDB client opens {0}/analytics/server.duckdb",
            data_dir.display()
        ))?;
        if self.serve {
            let environment = Environment::of(&data_dir);
            let settings = ServerSettings::default();
            return serve::serve(
                agnes,
                settings,
                self.listen,
                LogFormat::Text,
                environment,
                output,
                |agnes, url| introduce(agnes, url, output),
            );
        }
        Ok(Done::whole_if(report.is_complete()))
    }
}

impl Demo {
    /// A server's data folder, where there is to be one.
    fn open(&self, data_dir: &Path) -> Result<Agnes> {
        let environment = Environment::of(data_dir);
        let config = environment.config();
        let settings = super::settings(data_dir, &environment, &config)?;
        let settings = match self.serve {
            true => serve::settings(settings, &config, &environment)?,
            false => settings,
        };
        Agnes::open_with(data_dir, settings, environment.components())
    }
}

/// Nobody asks as this one; she is there so that nobody else becomes the first admin.
const ADMIN: &str = "admin@example.com";

/// Lets two users see some tables each, and says how they ask.
fn introduce(agnes: &Agnes, url: &str, output: &Output) -> Result<()> {
    let access = agnes.access()?;
    let admin = access.admin(OPERATOR)?;
    output.line("\n4. A server, and two who ask it.")?;
    // Where there is an admin nobody becomes the first one by asking.
    if access.is_new() {
        access.seed_admin(&Email::parse(ADMIN)?, Some("Admin"), None)?;
    }
    for (address, tables) in PEOPLE {
        let email = Email::parse(address)?;
        let user = match access.user_by_email(&email) {
            Some(user) => user,
            None => admin.add_user(email, None)?,
        };
        let name = GroupName::parse(format!("friends of {address}"))?;
        let group = match admin.group_by_name(&name) {
            Ok(group) => group,
            Err(_) => admin.add_group(name, None)?,
        };
        admin.add_member(&group.id, &user.id)?;
        let granted = admin.grants();
        for table in tables {
            let resource = Resource::parse(&format!("table:{table}"))?;
            let has =
                |of: &GrantOverview| of.grant.group == group.id && of.grant.resource == resource;
            if !granted.iter().any(has) {
                admin.grant(&group.id, resource)?;
            }
        }
        let lifetime = Some(Duration::from_secs(24 * 3600));
        let new = NewToken { lifetime, ..NewToken::named("demo") };
        let (_, token) = admin.create_token(&user.id, new)?;
        output.line(format_args!(
            "   {address} sees {}, and asks with\n     {}",
            tables.join(" and "),
            token.expose()
        ))?;
    }
    output.line(format_args!(
        "   {ADMIN} is an admin without a password; SEED_ADMIN_EMAIL and SEED_ADMIN_PASSWORD make \
         one who has one."
    ))?;
    output.line(format_args!(
        "   curl -H \"Authorization: Bearer TOKEN\" {url}/api/catalog/tables\n   \
         Ctrl-C ends it."
    ))
}

/// Puts a source's files where they are read; one that is there already stays as it is.
fn lay_out(folder: &Path, files: &[(&str, &[u8])]) -> Result<()> {
    let failed = |path: &Path, e: std::io::Error| {
        Error::new(Kind::Unavailable, format!("can't write `{}`: {e}", path.display())).because(e)
    };
    std::fs::create_dir_all(folder).map_err(|e| failed(folder, e))?;
    for (name, content) in files {
        let path = folder.join(name);
        if std::fs::read(&path).is_ok_and(|there| there == *content) {
            continue;
        }
        std::fs::write(&path, content).map_err(|e| failed(&path, e))?;
    }
    Ok(())
}
