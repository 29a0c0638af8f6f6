//! What a rebuild will do: a pure function from what was found to a plan that can be read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use super::attach::AttachPolicy;
use super::generation::{Data, Generation, SkippedRecord, SourceRecord, View};
use super::scan::{Found, Scan, SourceScan};
use crate::disk::Fingerprint;
use crate::extract::{self, Content, Extract, RemoteAttach, Skipped, Table};
use crate::{AttachAlias, Error, Key, Kind, SourceName, ViewName};

/// Which source owns which name.
pub(crate) type Ownership = BTreeMap<ViewName, SourceName>;

/// The tables that an admin took out of the registry: their sources don't publish them.
pub(crate) type Withdrawn = BTreeSet<(SourceName, ViewName)>;

/// What the system database says about names.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) owners: Ownership,
    pub(crate) withdrawn: Withdrawn,
}

impl Names {
    fn is_withdrawn(&self, source: &SourceName, name: &ViewName) -> bool {
        !self.withdrawn.is_empty() && self.withdrawn.contains(&(source.clone(), name.clone()))
    }
}

/// What a rebuild will do, before it does any of it.
#[derive(Debug)]
pub struct RebuildPlan {
    /// The number of the generation that it starts from.
    pub(crate) from: u64,
    /// What is done about each view.
    pub(crate) views: BTreeMap<ViewName, ViewPlan>,
    /// Views that go.
    pub(crate) dropped: BTreeMap<ViewName, SourceName>,
    /// Names that get an owner.
    pub(crate) claimed: Ownership,
    /// Names whose owner doesn't publish them any more.
    pub(crate) released: Ownership,
    /// Tables whose name belongs to another source.
    pub(crate) collisions: Vec<Collision>,
    /// What is left out, and why.
    pub(crate) skipped: Vec<Skipped>,
    /// What will be remembered of each source.
    pub(crate) records: BTreeMap<SourceName, SourceRecord>,
    /// Sources with their state, for the reader of the plan.
    pub(crate) sources: Vec<(SourceName, SourceState)>,
}

impl RebuildPlan {
    /// Whether everything that the extracts publish will be there.
    pub fn is_complete(&self) -> bool {
        self.skipped.is_empty() && self.collisions.is_empty()
    }
}

/// How a source was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceState {
    /// As the last rebuild saw it.
    Unchanged,
    /// New, or changed since.
    Changed,
    /// Only another source was asked for.
    NotAsked,
    /// It can't be read; its views go.
    Broken,
    /// It can't be read just now; its views stay.
    Busy,
}

/// What is done about one view.
#[derive(Debug)]
pub(crate) enum ViewPlan {
    /// It stays as it is.
    Carry(Arc<View>),
    /// Only what is said about it changed.
    Restate(Arc<View>),
    /// It is made anew.
    Make(Box<Make>),
}

/// A view to be made.
#[derive(Debug)]
pub(crate) struct Make {
    pub(crate) source: SourceName,
    pub(crate) table: Table,
    pub(crate) origin: String,
    /// The files of the extract that it reads, as they were scanned.
    pub(crate) files: Vec<(std::path::PathBuf, Fingerprint)>,
    pub(crate) folder: std::path::PathBuf,
    pub(crate) attaches: Vec<RemoteAttach>,
    /// Whether a view of that name is there already.
    pub(crate) replaces: bool,
}

/// A table that can't be published under its name.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Collision {
    /// The name.
    pub view: ViewName,
    /// The source that owns it.
    pub owner: SourceName,
    /// The source whose table is left out.
    pub refused: SourceName,
}

impl RebuildPlan {
    /// Whether applying it would change nothing.
    pub fn is_empty(&self) -> bool {
        self.dropped.is_empty()
            && self.claimed.is_empty()
            && self.released.is_empty()
            && self.views.values().all(|v| matches!(v, ViewPlan::Carry(_)))
    }

    /// What is left out, and why.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// Tables whose name another source owns.
    pub fn collisions(&self) -> &[Collision] {
        &self.collisions
    }
}

/// Decides what a rebuild does. Reads nothing, writes nothing.
pub(crate) fn plan(
    previous: &Generation,
    scan: &Scan,
    names: &Names,
    policy: &AttachPolicy,
) -> RebuildPlan {
    let mut plan = RebuildPlan {
        from: previous.number,
        views: BTreeMap::new(),
        dropped: BTreeMap::new(),
        claimed: BTreeMap::new(),
        released: BTreeMap::new(),
        collisions: Vec::new(),
        skipped: scan.skipped.clone(),
        records: BTreeMap::new(),
        sources: Vec::new(),
    };
    plan.released = released(previous, scan, names);
    let aliases = owned_aliases(previous, scan);
    let mut published: HashMap<&SourceName, Published<'_>> = HashMap::new();
    for (name, view) in &previous.views {
        published.entry(&view.source).or_default().push((name, view));
    }
    let known = Known { previous, names, aliases: &aliases, policy };
    for found in &scan.sources {
        let before = published.get(&found.source).map_or(&[][..], Vec::as_slice);
        let state = match &found.found {
            Found::Unchanged | Found::NotAsked => {
                carry_source(&known, &found.source, before, &mut plan);
                let unchanged = matches!(found.found, Found::Unchanged);
                if unchanged { SourceState::Unchanged } else { SourceState::NotAsked }
            }
            Found::Busy(error) => {
                carry_source(&known, &found.source, before, &mut plan);
                plan.skipped.push(whole(&found.source, error.clone()));
                if let Some(record) = plan.records.get_mut(&found.source) {
                    record.digest.clear();
                }
                SourceState::Busy
            }
            Found::Broken(error) => {
                plan.skipped.push(whole(&found.source, error.clone()));
                SourceState::Broken
            }
            Found::Read { extract, digest } => {
                read_source(&known, extract, digest, scan.now_ns, &mut plan);
                SourceState::Changed
            }
        };
        plan.sources.push((found.source.clone(), state));
    }
    for (name, view) in &previous.views {
        if !plan.views.contains_key(name) {
            plan.dropped.insert(name.clone(), view.source.clone());
        }
    }
    plan
}

fn whole(source: &SourceName, error: Arc<Error>) -> Skipped {
    Skipped { source: source.to_string(), table: None, error }
}

/// The views that a source published, by name.
type Published<'a> = Vec<(&'a ViewName, &'a Arc<View>)>;

/// The names whose owner doesn't publish them any more; none unless every source could be
/// read, because a passing fault would otherwise give a name to somebody else.
fn released(previous: &Generation, scan: &Scan, recorded: &Names) -> Ownership {
    let readable =
        scan.sources.iter().all(|s| !matches!(s.found, Found::Broken(_) | Found::Busy(_)));
    if !readable {
        return Ownership::new();
    }
    // What a source names, whether it can be published or not; of one that wasn't read,
    // beside the views that it had.
    let named: HashMap<&SourceName, BTreeSet<ViewName>> = scan
        .sources
        .iter()
        .map(|SourceScan { source, found }| {
            let names: Vec<&str> = match found {
                Found::Read { extract, .. } => {
                    let tables = extract.tables().iter().map(|t| t.name().as_str());
                    let skipped = extract.skipped().iter().filter_map(|s| s.table.as_deref());
                    tables.chain(skipped).collect()
                }
                _ => {
                    let record = previous.sources.get(source);
                    let skipped = record.into_iter().flat_map(|r| &r.skipped);
                    skipped.filter_map(|s| s.table.as_deref()).collect()
                }
            };
            (source, names.into_iter().filter_map(|n| ViewName::parse(n).ok()).collect())
        })
        .collect();
    let was_read: BTreeSet<&SourceName> = scan
        .sources
        .iter()
        .filter(|s| matches!(s.found, Found::Read { .. }))
        .map(|s| &s.source)
        .collect();
    let publishes = |owner: &SourceName, name: &ViewName| {
        named.get(owner).is_some_and(|names| {
            let had = || previous.views.get(name).is_some_and(|view| view.source == *owner);
            names.contains(name) || (!was_read.contains(owner) && had())
        })
    };
    let owners = recorded.owners.iter();
    owners
        .filter(|(name, owner)| recorded.is_withdrawn(owner, name) || !publishes(owner, name))
        .map(|(name, owner)| (name.clone(), owner.clone()))
        .collect()
}

/// Which source an alias belongs to: the first that wants it, for one system.
type Aliases = BTreeMap<AttachAlias, (SourceName, RemoteAttach)>;

fn owned_aliases(previous: &Generation, scan: &Scan) -> Aliases {
    let mut aliases = Aliases::new();
    let known = scan.sources.iter().flat_map(|s| {
        let rows: &[RemoteAttach] = match &s.found {
            Found::Read { extract, .. } => extract.attaches(),
            _ => previous.sources.get(&s.source).map_or(&[], |r| &r.attaches),
        };
        rows.iter().map(move |row| (&s.source, row))
    });
    // Those that were there before come first: a newcomer takes no alias away.
    let (old, new): (Vec<_>, Vec<_>) = known.partition(|(source, row)| {
        previous.sources.get(source).is_some_and(|r| r.attaches.contains(row))
    });
    for (source, row) in old.into_iter().chain(new) {
        aliases.entry(row.alias.clone()).or_insert_with(|| (source.clone(), row.clone()));
    }
    aliases
}

fn carry_source(
    known: &Known<'_>,
    source: &SourceName,
    published: &[(&ViewName, &Arc<View>)],
    plan: &mut RebuildPlan,
) {
    let Known { previous, names, policy, .. } = *known;
    let Some(record) = previous.sources.get(source) else { return };
    let mut record = record.clone();
    for &(name, view) in published {
        if names.is_withdrawn(source, name) {
            // It may be declared again without the extract changing.
            record.digest.clear();
            continue;
        }
        // What the operator has forbidden since goes, though nothing of the extract changed.
        let remote = match &view.data {
            Data::Remote { aliases, .. } => aliases.as_slice(),
            Data::Files { .. } => &[],
        };
        if let Err(error) = may_attach(policy, source, &record.attaches, remote) {
            plan.skipped.push(left_out(source, view.table.as_str(), &error));
            // It may be allowed again without the extract changing.
            record.digest.clear();
            continue;
        }
        plan.views.insert(name.clone(), ViewPlan::Carry(view.clone()));
    }
    for SkippedRecord { table, kind, message } in record.skipped.clone() {
        let mut error = Error::new(kind, message).with(Key::Source, source);
        if let Some(table) = &table {
            error = error.with(Key::Table, table);
        }
        plan.skipped.push(Skipped { source: source.to_string(), table, error: Arc::new(error) });
    }
    plan.records.insert(source.clone(), record);
}

/// Asks the operator's policy about each alias that a table reads from.
fn may_attach(
    policy: &AttachPolicy,
    source: &SourceName,
    rows: &[RemoteAttach],
    aliases: &[AttachAlias],
) -> Result<(), Error> {
    for alias in aliases {
        let row = rows.iter().find(|row| row.alias == *alias).ok_or_else(|| {
            Error::new(
                Kind::Conflict,
                format!("`{source}` can't attach `{alias}`, which belongs to another source"),
            )
        })?;
        policy.allow(source, row)?;
    }
    Ok(())
}

/// A table that is left out for a reason that isn't its own.
fn left_out(source: &SourceName, table: &str, why: &Error) -> Skipped {
    let message = format!("the table `{table}` of `{source}` is left out: {}", why.message());
    extract::skipped(source, table, Error::new(why.kind(), message))
}

/// What a source's tables are held against.
struct Known<'a> {
    previous: &'a Generation,
    names: &'a Names,
    aliases: &'a Aliases,
    policy: &'a AttachPolicy,
}

fn read_source(
    known: &Known<'_>,
    extract: &Extract,
    digest: &str,
    now_ns: i64,
    plan: &mut RebuildPlan,
) {
    let Known { previous, names, aliases, policy } = *known;
    let source = extract.source();
    let mut skipped: Vec<Skipped> = extract.skipped().to_vec();
    let mut refused = Vec::new();
    // What depends on the operator or on other sources is decided anew by each rebuild.
    let mut digest = digest.to_string();
    for row in extract.attaches() {
        if let Some((owner, owned)) = aliases.get(&row.alias)
            && owner != source
            && (owned.extension != row.extension || owned.url != row.url)
        {
            let error = Error::new(
                Kind::Conflict,
                format!(
                    "`{source}` can't attach the alias `{}`: it belongs to `{owner}`, for another \
                     system; give it another alias",
                    row.alias
                ),
            );
            plan.skipped.push(extract::skipped(source, "_remote_attach", error));
            digest.clear();
        }
    }
    let usable = |row: &&RemoteAttach| {
        aliases.get(&row.alias).is_none_or(|(owner, owned)| {
            owner == source || (owned.extension == row.extension && owned.url == row.url)
        })
    };
    let attaches: Vec<RemoteAttach> = extract.attaches().iter().filter(usable).cloned().collect();
    for table in extract.tables() {
        let name = match ViewName::of(table.name()) {
            Ok(name) => name,
            Err(error) => {
                let error = extract::contract(format!(
                    "the table `{}` of `{source}` is left out: {}; rename it in the connector",
                    table.name(),
                    error.message()
                ));
                skipped.push(extract::skipped(source, table.name().as_str(), error));
                continue;
            }
        };
        if names.is_withdrawn(source, &name) {
            digest.clear();
            continue;
        }
        let reads_from: &[AttachAlias] = match &table.content {
            Content::Remote { aliases, .. } => aliases,
            _ => &[],
        };
        if let Err(error) = may_attach(policy, source, &attaches, reads_from) {
            plan.skipped.push(left_out(source, table.name().as_str(), &error));
            digest.clear();
            continue;
        }
        let attaches: Vec<RemoteAttach> =
            attaches.iter().filter(|row| reads_from.contains(&row.alias)).cloned().collect();
        let owned = names.owners.get(&name).filter(|_| !plan.released.contains_key(&name));
        let owner = owned.or_else(|| plan.claimed.get(&name));
        match owner {
            Some(owner) if owner != source => {
                plan.collisions.push(Collision {
                    view: name.clone(),
                    owner: owner.clone(),
                    refused: source.clone(),
                });
                refused.push(name);
                continue;
            }
            Some(_) => {}
            None => {
                plan.claimed.insert(name.clone(), source.clone());
            }
        }
        let origin = origin(extract, table, &attaches);
        let before = previous.views.get(&name).filter(|v| v.source == *source);
        let view = match before {
            Some(view) if view.origin == origin && !racy(extract, table, now_ns) => {
                let mut restated = View::clone(view);
                restate(&mut restated, table);
                if restated == **view {
                    ViewPlan::Carry(view.clone())
                } else {
                    ViewPlan::Restate(Arc::new(restated))
                }
            }
            _ => ViewPlan::Make(Box::new(Make {
                source: source.clone(),
                table: table.clone(),
                origin,
                files: read_files(extract, table),
                folder: extract.folder().to_path_buf(),
                attaches,
                replaces: previous.views.contains_key(&name),
            })),
        };
        plan.views.insert(name, view);
    }
    let records = skipped
        .iter()
        .map(|s| SkippedRecord {
            table: s.table.clone(),
            kind: s.error.kind(),
            message: s.error.message().to_string(),
        })
        .collect();
    plan.skipped.extend(skipped);
    plan.records
        .insert(source.clone(), SourceRecord { digest, attaches, skipped: records, refused });
}

/// Brings a view up to what its extract says about it now.
pub(crate) fn restate(view: &mut View, table: &Table) {
    view.table = table.meta.name.clone();
    view.description = table.meta.description.clone();
    view.extracted_at = table.meta.extracted_at;
    view.query_mode = table.meta.query_mode;
    if matches!(table.content, Content::Remote { .. }) {
        view.rows = table.meta.rows;
        view.size_bytes = table.meta.size_bytes;
    }
}

/// The files of the extract that a table reads, as they were scanned.
fn read_files(extract: &Extract, table: &Table) -> Vec<(std::path::PathBuf, Fingerprint)> {
    let file = |path: &std::path::PathBuf| Some((path.clone(), *extract.files.get(path)?));
    table.files().iter().filter_map(file).collect()
}

/// Whether a change of the table's files right after the scan could go unnoticed: then they
/// are read again, whatever their fingerprints say.
fn racy(extract: &Extract, table: &Table, now_ns: i64) -> bool {
    let exported = matches!(&table.content, Content::Export(export) if export.tables);
    let mut files = extract.files.iter().filter(|(path, _)| {
        table.files().contains(path) || (exported && path.starts_with(crate::layout::EXTRACT_DB))
    });
    files.any(|(_, file)| file.is_racy(now_ns))
}

/// Stands for everything that a table is made from. Equal ones give equal rows.
fn origin(extract: &Extract, table: &Table, attaches: &[RemoteAttach]) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    match &table.content {
        Content::Files { by_name, .. } => part(if *by_name { b"files by name" } else { b"files" }),
        Content::Export(export) => {
            part(b"export");
            part(export.query.as_str().as_bytes());
            for (name, query) in &export.views {
                part(name.as_str().as_bytes());
                part(query.as_str().as_bytes());
            }
            if export.tables {
                for (path, file) in &extract.files {
                    if path.as_os_str().as_bytes().starts_with(b"extract.duckdb") {
                        part(format!("{path:?} {file:?}").as_bytes());
                    }
                }
            }
        }
        Content::Remote { query, .. } => {
            part(b"remote");
            part(query.as_str().as_bytes());
            for row in attaches {
                part(format!("{row:?}").as_bytes());
            }
        }
    }
    for (path, file) in read_files(extract, table) {
        part(path.as_os_str().as_bytes());
        part(format!("{file:?}").as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// The plan as a program reads it.
impl serde::Serialize for RebuildPlan {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let names = |wanted: fn(&ViewPlan) -> bool| -> Vec<&ViewName> {
            self.views.iter().filter(|(_, v)| wanted(v)).map(|(name, _)| name).collect()
        };
        let sources: BTreeMap<&SourceName, SourceState> =
            self.sources.iter().map(|(name, state)| (name, *state)).collect();
        let mut plan = serializer.serialize_struct("RebuildPlan", 10)?;
        plan.serialize_field("from_generation", &self.from)?;
        plan.serialize_field("sources", &sources)?;
        plan.serialize_field(
            "create",
            &names(|v| matches!(v, ViewPlan::Make(make) if !make.replaces)),
        )?;
        plan.serialize_field(
            "replace",
            &names(|v| match v {
                ViewPlan::Make(make) => make.replaces,
                ViewPlan::Restate(_) => true,
                ViewPlan::Carry(_) => false,
            }),
        )?;
        plan.serialize_field("drop", &self.dropped.keys().collect::<Vec<_>>())?;
        plan.serialize_field("carry", &names(|v| matches!(v, ViewPlan::Carry(_))).len())?;
        plan.serialize_field("claim", &self.claimed)?;
        plan.serialize_field("release", &self.released)?;
        plan.serialize_field("collisions", &self.collisions)?;
        plan.serialize_field("skipped", &self.skipped)?;
        plan.end()
    }
}

/// The plan as an operator reads it.
impl fmt::Display for RebuildPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let carried = self.views.values().filter(|v| matches!(v, ViewPlan::Carry(_))).count();
        if self.is_empty() {
            writeln!(f, "nothing to do: generation {} is current", self.from)?;
        } else {
            writeln!(f, "generation {} -> {}", self.from, self.from + 1)?;
        }
        for (source, state) in &self.sources {
            let state = match state {
                SourceState::Unchanged => "unchanged",
                SourceState::Changed => "read",
                SourceState::NotAsked => "not asked for",
                SourceState::Broken => "can't be read, its views go",
                SourceState::Busy => "can't be read now, its views stay",
            };
            writeln!(f, "source {source}: {state}")?;
        }
        for (name, view) in &self.views {
            match view {
                ViewPlan::Carry(_) => {}
                ViewPlan::Restate(view) => {
                    writeln!(f, "  ~ {name}  ({}) what _meta says", view.source)?;
                }
                ViewPlan::Make(make) => {
                    let sign = if make.replaces { '~' } else { '+' };
                    let what = match &make.table.content {
                        Content::Files { files, .. } => match files.as_slice() {
                            [one] => one.display().to_string(),
                            many => format!("{} shards", many.len()),
                        },
                        Content::Export(_) => "exported from extract.duckdb".to_string(),
                        Content::Remote { .. } => "remote".to_string(),
                    };
                    writeln!(f, "  {sign} {name}  ({}) {what}", make.source)?;
                }
            }
        }
        for (name, source) in &self.dropped {
            writeln!(f, "  - {name}  ({source})")?;
        }
        if carried > 0 {
            writeln!(f, "  = {carried} carried over")?;
        }
        for (name, source) in &self.claimed {
            writeln!(f, "name {name}: goes to {source}")?;
        }
        for (name, source) in &self.released {
            writeln!(f, "name {name}: released by {source}")?;
        }
        for Collision { view, owner, refused } in &self.collisions {
            writeln!(f, "left out: {view} of {refused}: the name belongs to {owner}")?;
        }
        for skipped in &self.skipped {
            writeln!(f, "left out: {}", skipped.error.message())?;
        }
        Ok(())
    }
}
