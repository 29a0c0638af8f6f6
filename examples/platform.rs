//! A small platform: a configuration, sources that are brought over when they are due, and what is
//! known about their tables.
//!
//! `cargo run --example platform` from the top of the checkout.
#![allow(clippy::print_stdout)]

use std::path::Path;

use agnes_core::access::{Principal, Resource};
use agnes_core::config::{Config, Files};
use agnes_core::sync::Which;
use agnes_core::{Agnes, Components, Error, Kind, NoProgress, QueryOptions, Result};

/// Brings over what is due below `home` and tells about the weather.
fn run(home: &Path, repository: &Path) -> Result<String> {
    let unwritable =
        |e| Error::new(Kind::Unavailable, "the configuration can't be written").because(e);
    std::fs::create_dir_all(home.join("config")).map_err(unwritable)?;
    let yaml = format!(
        "instance: {{name: Weather}}\nsources:\n  weather:\n    connector: files\n    \
         schedule: every 1h\n    config: {{paths: [{:?}]}}\n",
        repository.join("examples/data/weather")
    );
    std::fs::write(home.join("config/instance.yaml"), yaml).map_err(unwritable)?;

    // The core reads no environment: whoever embeds it says what variables there are.
    let files = Files::in_folder(home.join("config"), home.join("data/state"));
    let config = Config::load(&files, &|_| None);
    let agnes = Agnes::open_with(home.join("data"), config.settings()?, Components::default())?;

    let mut told = String::new();
    let mut tell = |line: String| told.extend([line.as_str(), "\n"]);
    let report = agnes.sync(&Which::Due, &NoProgress)?;
    for source in &report.sources {
        tell(format!(
            "{}: {}, {} tables",
            source.source,
            source.status.as_str(),
            source.tables.len()
        ));
    }

    let who = Principal::Operator;
    let table = agnes.access()?.decide(&who, &Resource::parse("table:seattle_weather")?);
    let profile = agnes.profile(&table.permit()?)?;
    tell(format!("{} rows, {} % full", profile.row_count, profile.avg_completeness));
    for alert in &profile.alerts {
        tell(format!("{}: {}", alert.column, alert.message));
    }

    agnes.import_metrics(&who, &repository.join("docs/metrics/weather/wet_days.yml"))?;
    let metric = agnes.metric(&who, "weather/wet_days")?;
    let rows =
        agnes.session_for(&who)?.query(metric.query(Some("by_year"))?, &QueryOptions::default())?;
    tell(format!("{} of {} years", metric.display_name, rows.read_all()?.len()));
    Ok(told)
}

fn main() -> Result<()> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    print!("{}", run(Path::new("agnes-demo/platform"), &repository)?);
    Ok(())
}

#[test]
fn it_brings_over_what_is_due() {
    let dir = tempfile::tempdir().unwrap();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let told = run(dir.path(), &repository).unwrap();
    assert!(told.contains("weather: ok, 1 tables\n1461 rows"), "{told}");
    assert!(told.contains("Wet days of 4 years"), "{told}");
    // An hour hasn't passed.
    assert!(!run(dir.path(), &repository).unwrap().contains("weather: ok"));
}
