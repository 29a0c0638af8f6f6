//! The command line: arguments in, the core does it, output out.

mod backup;
mod beside;
mod check;
mod config;
mod demo;
mod doctor;
mod environment;
mod format;
mod import;
mod ingest;
mod log;
mod manifest;
mod metadata;
mod metrics;
#[cfg(feature = "otel")]
mod otel;
mod output;
mod people;
mod profile;
mod query;
mod rebuild;
mod registry;
mod remote;
mod schedule;
mod serve;
mod server_settings;
mod status;
mod sync;
mod token;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agnes_core::config::Config;
use agnes_core::{Agnes, Error, Kind, Result, Settings, SourceName};
use clap::{Args, CommandFactory, Parser, Subcommand};

use environment::Environment;
use output::{Done, Output};

const ABOUT: &str = "A governed data layer: files and systems in, SQL out";

const LONG_ABOUT: &str = "\
A governed data layer: files and systems in, SQL out.

A connector turns each source into an extract, a rebuild publishes all extracts as one \
analytics database, and SQL runs on that.";

const AFTER_HELP: &str = "\
Start here:
  agnes demo                                 see it work on real data
  agnes ingest shop orders.csv ./exports     files become the source `shop`
  agnes rebuild                              publish what changed
  agnes query 'FROM orders LIMIT 5'          ask
  agnes user add ada@example.com             let somebody see some of it
  agnes group create sales
  agnes group add-member sales ada@example.com
  agnes grant create sales table:orders
  agnes query --as ada@example.com 'SHOW TABLES'

Exit codes:
  0 done   9 done in part   2 wrong call   3 denied   4 not found   5 conflict
  6 an extract breaks the contract   7 try again later   8 over a limit   70 a bug";

/// The arguments of `agnes`.
#[derive(Debug, Parser)]
#[command(name = "agnes", version, about = ABOUT, long_about = LONG_ABOUT, after_help = AFTER_HELP)]
#[command(disable_help_subcommand = true, max_term_width = 100)]
struct Cli {
    /// The folder that holds extracts, analytics and state; `./data` when absent
    #[arg(long, short = 'd', global = true, env = "DATA_DIR", value_name = "DIR", value_parser = folder)]
    data_dir: Option<PathBuf>,

    /// Ask a server elsewhere, as the user of AGNES_TOKEN, instead of a data folder
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Turn files into the extract of a source
    #[command(long_about = ingest::HELP)]
    Ingest(ingest::Ingest),
    /// Say what an extract gets wrong
    #[command(long_about = check::HELP)]
    Check(check::Check),
    /// Publish what the extracts hold now
    #[command(long_about = rebuild::HELP)]
    Rebuild(rebuild::Rebuild),
    /// Bring sources over when they are due, and publish them
    #[command(long_about = sync::HELP)]
    Sync(sync::Sync),
    /// Run SQL over everything that is published
    #[command(long_about = query::HELP)]
    Query(query::Query),
    /// Show what is published, how large and how old
    Status(status::Status),
    /// Show what is in a table, column by column
    #[command(long_about = profile::HELP)]
    Profile(profile::ProfileCommand),
    /// Declare tables, so that they can be granted
    #[command(long_about = registry::HELP)]
    Registry(registry::Registry),
    /// Say what business numbers mean, and compute them
    #[command(long_about = metrics::HELP)]
    Metrics(metrics::Metrics),
    /// Show how large and how fresh remote tables are
    #[command(long_about = metadata::HELP)]
    Metadata(metadata::Metadata),
    /// Say what a schedule means
    #[command(long_about = schedule::HELP)]
    Schedule(schedule::Schedule),
    /// Add, list and remove users
    User(people::User),
    /// Make groups of users
    Group(people::Group),
    /// Let groups see tables
    Grant(people::Grant),
    /// Make personal access tokens, with which programs act for a user
    #[command(long_about = token::HELP)]
    Token(token::Token),
    /// Say who may see what, and why
    Access(people::AccessOf),
    /// List what a user may download, with hashes
    Manifest(manifest::Manifest),
    /// Take over the system database of another installation
    #[command(long_about = import::HELP)]
    Import(import::Import),
    /// Say what is wrong with an installation
    #[command(long_about = doctor::HELP)]
    Doctor(doctor::Doctor),
    /// Write what no sync brings back to one file
    #[command(long_about = backup::BACKUP_HELP)]
    Backup(backup::BackupCommand),
    /// Give back what a backup holds
    #[command(long_about = backup::RESTORE_HELP)]
    Restore(backup::Restore),
    /// Make somebody an admin when no admin is left
    #[command(long_about = people::BREAK_GLASS_HELP)]
    BreakGlass(people::BreakGlass),
    /// The older spelling of some commands
    #[command(hide = true, subcommand)]
    Admin(Admin),
    /// Say what is configured, and what is wrong with it
    #[command(long_about = config::HELP)]
    Config(config::ConfigCommand),
    /// Serve it over HTTP
    #[command(long_about = serve::HELP)]
    Serve(serve::Serve),
    /// See it work on real data
    #[command(long_about = demo::HELP)]
    Demo(demo::Demo),
    /// Print the completions for a shell
    ///
    /// As in `agnes completions bash > ~/.local/share/bash-completion/completions/agnes`.
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
enum Admin {
    /// `agnes break-glass`
    BreakGlass(people::BreakGlass),
}

/// `--json`, where a program may read the answer.
#[derive(Debug, Clone, Copy, Args)]
struct Json {
    /// Print the report as JSON
    #[arg(long, global = true)]
    json: bool,
}

impl Json {
    /// Shows one thing.
    fn one(
        self,
        output: &Output,
        value: &impl serde::Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<Done> {
        match self.json {
            true => output.json(value)?,
            false => output.line(text())?,
        }
        Ok(Done::Whole)
    }

    /// Shows many things.
    fn list<T: serde::Serialize>(
        self,
        output: &Output,
        values: &[T],
        show: impl FnOnce(&[T], &Output) -> Result<()>,
    ) -> Result<Done> {
        match self.json {
            true => output.json(&values)?,
            false => show(values, output)?,
        }
        Ok(Done::Whole)
    }
}

/// What the server starts this program with to have statements run in it. It isn't for people.
pub(crate) const WORKER: &str = "worker";

/// Runs the command that this process was started with.
pub fn run() -> ExitCode {
    // Before there is anything else: nothing may have begun a second thread.
    if std::env::args_os().skip(1).eq([WORKER]) {
        return agnes_core::serve_as_worker();
    }
    ExitCode::from(run_with(std::env::args_os().collect()))
}

fn run_with(arguments: Vec<OsString>) -> u8 {
    let output = Output::new();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; clap tells where each belongs.
            let wrong = error.use_stderr();
            let _ = error.print();
            return if wrong { 2 } else { 0 };
        }
    };
    if let Some(url) = &cli.server {
        let done = remote::Server::new(url, Environment::token())
            .and_then(|server| remote::run(cli.command, &server, &output));
        return output.finish(done);
    }
    let data_dir = cli.data_dir.clone().unwrap_or_else(|| PathBuf::from("data"));
    if cli.command.needs_the_folder()
        && let Some(done) = beside_a_server(&data_dir, &arguments, &output)
    {
        return done.unwrap_or_else(|error| output.finish(Err(error)));
    }
    let done = dispatch(cli, &output);
    output.finish(done)
}

/// What the command comes to where a server holds the data folder; none where none does.
// The one place that asks where it works.
#[allow(clippy::disallowed_methods)]
fn beside_a_server(data_dir: &Path, arguments: &[OsString], output: &Output) -> Option<Result<u8>> {
    let folder = std::env::current_dir().ok()?;
    beside::run(&Environment::state_of(data_dir), arguments, &folder, output)
}

/// Runs a command that another process was started with, on the folder that this one holds.
fn run_beside(
    arguments: Vec<OsString>,
    agnes: &Agnes,
    environment: &Environment,
    output: &Output,
) -> u8 {
    let done = Cli::try_parse_from(arguments)
        // The caller has parsed the same.
        .map_err(|e| Error::new(Kind::Invalid, e.to_string()))
        .and_then(|cli| cli.command.run(agnes, &environment.config(), output));
    output.finish(done)
}

impl Command {
    /// Whether it works on what the data folder holds.
    fn needs_the_folder(&self) -> bool {
        !matches!(
            self,
            Command::Check(_)
                | Command::Config(_)
                | Command::Schedule(_)
                | Command::Serve(_)
                | Command::Demo(_)
                | Command::Doctor(_)
                | Command::Completions { .. }
        )
    }

    /// Runs a command that does.
    fn run(self, agnes: &Agnes, config: &Config, output: &Output) -> Result<Done> {
        match self {
            Command::Ingest(command) => command.run(agnes, output),
            Command::Rebuild(command) => command.run(agnes, output),
            Command::Sync(command) => command.run(agnes, config, output),
            Command::Query(command) => command.run(agnes, output),
            Command::Status(command) => command.run(agnes, output),
            Command::Registry(command) => command.run(agnes, output),
            Command::Metrics(command) => command.run(agnes, output),
            Command::Profile(command) => command.run(agnes, output),
            Command::Metadata(command) => command.run(agnes, output),
            Command::User(command) => command.run(agnes, output),
            Command::Group(command) => command.run(agnes, output),
            Command::Grant(command) => command.run(agnes, output),
            Command::Token(command) => command.run(agnes, output),
            Command::Access(command) => command.run(agnes, output),
            Command::Manifest(command) => command.run(agnes, output),
            Command::Import(command) => command.run(agnes, output),
            Command::Backup(command) => command.run(agnes, output),
            Command::Restore(command) => command.run(agnes, output),
            Command::BreakGlass(command) | Command::Admin(Admin::BreakGlass(command)) => {
                command.run(agnes, output)
            }
            Command::Check(_)
            | Command::Config(_)
            | Command::Schedule(_)
            | Command::Serve(_)
            | Command::Demo(_)
            | Command::Doctor(_)
            | Command::Completions { .. } => {
                Err(Error::new(Kind::Invalid, "this command needs no data folder"))
            }
        }
    }
}

fn dispatch(cli: Cli, output: &Output) -> Result<Done> {
    let Cli { data_dir, command, .. } = cli;
    let usual = || PathBuf::from("data");
    match command {
        Command::Check(command) => command.run(output),
        Command::Config(command) => {
            command.run(Environment::of(&data_dir.unwrap_or_else(usual)), output)
        }
        Command::Schedule(command) => command.run(output),
        Command::Serve(command) => {
            let data_dir = data_dir.unwrap_or_else(usual);
            let environment = Environment::of(&data_dir);
            let config = command.configuration(&environment);
            let settings = settings(&data_dir, &environment, &config)?;
            let settings = serve::settings(settings, &config, &environment)?;
            let agnes = Agnes::open_with(data_dir, settings, environment.clone().components())?;
            command.run(agnes, &config, environment, output)
        }
        Command::Doctor(command) => {
            let data_dir = data_dir.unwrap_or_else(usual);
            let environment = Environment::of(&data_dir);
            command.run(data_dir, environment, output)
        }
        Command::Demo(command) => {
            command.run(data_dir.unwrap_or_else(|| PathBuf::from("agnes-demo")), output)
        }
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "agnes", &mut text);
            output.data(&text)?;
            Ok(Done::Whole)
        }
        command => {
            let (agnes, config) = open_configured(data_dir.unwrap_or_else(usual))?;
            command.run(&agnes, &config, output)
        }
    }
}

/// Opens a data folder with the settings and secrets of this process's environment, and gives its
/// configuration, too.
fn open_configured(data_dir: PathBuf) -> Result<(Agnes, Config)> {
    let environment = Environment::of(&data_dir);
    let config = environment.config();
    Ok((open_with(data_dir, &environment, &config)?, config))
}

fn open_with(data_dir: PathBuf, environment: &Environment, config: &Config) -> Result<Agnes> {
    let settings = settings(&data_dir, environment, config)?;
    Agnes::open_with(data_dir, settings, environment.clone().components())
}

/// The settings of a configuration, where there may be a data folder.
fn settings(data_dir: &Path, environment: &Environment, config: &Config) -> Result<Settings> {
    if data_dir.metadata().is_ok_and(|is| !is.is_dir()) {
        return Err(Error::new(
            Kind::Invalid,
            format!("the data folder `{}` is a file", data_dir.display()),
        ));
    }
    // What is wrong with a whole file concerns every command.
    for problem in config.problems().iter().filter(|problem| problem.path.is_empty()) {
        Output::new().note(problem);
    }
    environment.settings(config)
}

/// A source's name as an argument.
fn folder(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("it is empty; name a folder, or unset DATA_DIR".into()),
        text => Ok(text.into()),
    }
}

fn source_name(text: &str) -> Result<SourceName, String> {
    SourceName::parse(text).map_err(|e| e.message().to_string())
}
