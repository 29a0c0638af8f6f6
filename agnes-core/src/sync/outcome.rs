//! What a connector has left: its extract is looked at, whatever it says.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::Runs;
use super::program::Ended;
use crate::connector::{ConnectorReport, TableOutcome, TableStatus};
use crate::disk::Fingerprint;
use crate::extract::{Content, Extract, Table};
use crate::layout::EXTRACT_DB;
use crate::orchestrator::View;
use crate::{Error, Key, Kind, Result, TableName};

/// How a connector ended.
pub(super) enum Ran {
    /// It told what became of its tables.
    Told(ConnectorReport),
    /// It is a program, of which the exit code is all that is known.
    Ended(Ended),
}

/// What a connector was asked for.
pub(super) struct Order<'a> {
    pub(super) runs: &'a Runs,
    /// None for everything.
    pub(super) tables: Option<&'a [TableName]>,
    /// What its source publishes so far.
    pub(super) published: &'a BTreeMap<TableName, &'a View>,
}

/// What it has left.
pub(super) struct Left {
    pub(super) report: ConnectorReport,
    /// What went wrong with the whole.
    pub(super) failure: Option<Error>,
    /// Published tables that are gone or doubtful and are to be what they were.
    pub(super) lost: Vec<TableName>,
}

impl Order<'_> {
    /// Looks at the extract.
    pub(super) fn look(&self, before: Option<&Extract>, folder: &Path, ran: Result<Ran>) -> Left {
        let after = Extract::open(folder);
        // One that failed as a whole may have been ended in the middle of a table.
        let ended_badly = matches!(&ran, Ok(Ran::Ended(Ended::Badly(_))));
        let ended =
            |what| Error::new(Kind::Unavailable, format!("the connector `{}`: {what}", self.runs));
        let (told, mut failure) = match ran {
            Ok(Ran::Told(report)) => (Some(report), None),
            Ok(Ran::Ended(Ended::Well)) => (None, None),
            Ok(Ran::Ended(Ended::InPart(what) | Ended::Badly(what))) => (None, Some(ended(what))),
            Err(error) => (Some(ConnectorReport::default()), Some(error)),
        };
        let told_of_tables =
            told.iter().any(|report| report.tables.iter().any(|t| t.status.is_up_to_date()));
        // With nothing to do and nothing there it needn't write one.
        let should_be = before.is_some()
            || !self.published.is_empty()
            || folder.join(EXTRACT_DB).exists()
            || told_of_tables;
        if let (None, Err(error), true) = (&failure, &after, should_be) {
            failure = Some(Error::new(
                Kind::Contract,
                format!(
                    "the connector `{}` says that all went well, but left no extract that can be \
                     read: {}",
                    self.runs,
                    error.message()
                ),
            ));
        }
        let after = after.ok();
        let mut report = match (told, &after) {
            (Some(told), _) => told,
            (None, Some(after)) => self.compared(before, after, failure.as_ref(), ended_badly),
            (None, None) => ConnectorReport::default(),
        };
        self.add_broken(after.as_ref(), &mut report);
        let lost = self.lost(after.as_ref(), &report, failure.is_some());
        Left { report, failure, lost }
    }

    fn is_asked(&self, table: &TableName) -> bool {
        self.tables.is_none_or(|tables| tables.contains(table))
    }

    /// What became of the tables, told by what the extract was before and is now.
    fn compared(
        &self,
        before: Option<&Extract>,
        after: &Extract,
        failure: Option<&Error>,
        ended_badly: bool,
    ) -> ConnectorReport {
        let mut report = ConnectorReport::default();
        for table in after.tables() {
            let name = table.name();
            let old = before.and_then(|before| {
                let old = before.tables().iter().find(|old| old.name() == name)?;
                Some(is_same(before, old, after, table))
            });
            let error = |failure: &Error| {
                Some(Arc::new(Error::new(failure.kind(), failure.message()).with(Key::Table, name)))
            };
            let (status, error) = match (old, failure) {
                (None | Some(false), Some(failure))
                    if ended_badly && self.published.contains_key(name) =>
                {
                    (TableStatus::Failed, error(failure))
                }
                (None, _) if !self.published.contains_key(name) => (TableStatus::Created, None),
                (None | Some(false), _) => (TableStatus::Replaced, None),
                (Some(true), None) => (TableStatus::Unchanged, None),
                // Nobody knows whether it failed or had nothing new: it is asked for again.
                (Some(true), Some(failure)) => (TableStatus::Failed, error(failure)),
            };
            if self.is_asked(name) || !matches!(status, TableStatus::Unchanged) {
                report.tables.push(outcome(name, table.rows(), status, error));
            }
        }
        let there = |name: &TableName| {
            let broken = after.skipped().iter().filter_map(|skipped| skipped.table.as_deref());
            after.tables().iter().any(|table| table.name() == name)
                || broken.into_iter().any(|table| table.eq_ignore_ascii_case(name.as_str()))
        };
        for name in self.tables.unwrap_or_default().iter().filter(|name| !there(name)) {
            let told = failure.map_or_else(
                || format!("the connector `{}` wrote no table `{name}`", self.runs),
                |failure| failure.message().to_string(),
            );
            let error = Error::new(Kind::Contract, told).with(Key::Table, name);
            report.tables.push(outcome(name, 0, TableStatus::Failed, Some(Arc::new(error))));
        }
        if self.tables.is_none() && failure.is_none() {
            let old = before.into_iter().flat_map(Extract::tables).map(Table::name);
            for name in old.filter(|name| !there(name)) {
                report.tables.push(outcome(name, 0, TableStatus::Removed, None));
            }
        }
        report
    }

    /// A table that can't be read has failed, whatever was said of it.
    fn add_broken(&self, after: Option<&Extract>, report: &mut ConnectorReport) {
        for skipped in after.into_iter().flat_map(Extract::skipped) {
            let name = skipped.table.as_deref().and_then(|name| TableName::parse(name).ok());
            let Some(name) = name else { continue };
            report.tables.retain(|table| table.table != name);
            let error = Some(skipped.error.clone());
            report.tables.push(outcome(&name, 0, TableStatus::Failed, error));
        }
    }

    /// The published tables that are missing though nobody asked for them or asking for them
    /// failed, and those that failed though they changed.
    fn lost(
        &self,
        after: Option<&Extract>,
        report: &ConnectorReport,
        failed: bool,
    ) -> Vec<TableName> {
        let is_there = |name: &TableName| {
            after.is_some_and(|after| after.tables().iter().any(|table| table.name() == name))
        };
        let has_failed = |name: &TableName| report.failed().any(|table| table.table == *name);
        let is_lost = |name: &&TableName| match is_there(name) {
            false => failed || has_failed(name) || !self.is_asked(name),
            true => has_failed(name) && failed && self.changed(after, name),
        };
        self.published.keys().filter(is_lost).cloned().collect()
    }

    /// Whether a table isn't what is published of it.
    fn changed(&self, after: Option<&Extract>, name: &TableName) -> bool {
        let now = after.and_then(|after| after.tables().iter().find(|table| table.name() == name));
        let published = self.published.get(name);
        now.zip(published).is_some_and(|(now, published)| {
            now.extracted_at() != published.extracted_at
                || now.files().len() != published.files().len()
                || after.is_some_and(|after| {
                    let files = now.files().iter().zip(published.files());
                    files.into_iter().any(|(file, pin)| after.files.get(file) != Some(&pin.origin))
                })
        })
    }
}

fn outcome(
    table: &TableName,
    rows: u64,
    status: TableStatus,
    error: Option<Arc<Error>>,
) -> TableOutcome {
    TableOutcome { table: table.clone(), from: None, rows, status, error }
}

/// Whether a table is what it was: what is said of it, and its files.
fn is_same(before: &Extract, old: &Table, after: &Extract, new: &Table) -> bool {
    let files = |extract: &Extract, table: &Table| -> Vec<Option<Fingerprint>> {
        table.files().iter().map(|file| extract.files.get(file).copied()).collect()
    };
    let is_export = |table: &Table| matches!(table.content, Content::Export(_));
    old.rows() == new.rows()
        && old.extracted_at() == new.extracted_at()
        && old.content == new.content
        && files(before, old) == files(after, new)
        && (!is_export(new) || new.extracted_at().is_some())
}
