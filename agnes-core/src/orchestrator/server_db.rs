//! `server.duckdb`, the database for outside readers: written aside, or changed in a copy of
//! the last one where that is less work.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::ScopedJoinHandle;

use duckdb::Connection;

use super::attach;
use super::generation::{Column, Data, Generation, View};
use super::plan::Make;
use super::{Context, Progress};
use crate::extract::{self, Content};
use crate::layout::Layout;
use crate::sql::{self, Sql};
use crate::{AttachAlias, Error, Key, Kind, Result, SourceName, TableName, ViewName, disk, engine};

const WRITE: &str = "write the analytics database";

/// The next `server.duckdb`, open beside the one in place.
pub(super) struct Draft {
    connection: Connection,
    file: PathBuf,
    /// Whether it holds the views of the last generation.
    copied: bool,
}

impl Draft {
    /// An empty one.
    fn new(context: &Context<'_>) -> Result<Draft> {
        Draft::open(context, false)
    }

    /// A copy of the one in place. The engine reads the whole catalog when it opens it.
    pub(super) fn copy(context: &Context<'_>) -> Result<Draft> {
        Draft::open(context, true)
    }

    fn open(context: &Context<'_>, copied: bool) -> Result<Draft> {
        let file = disk::aside(&context.layout.server_db());
        engine::remove_database(context.disk, &file)?;
        context.disk.engine_writes(&file)?;
        if copied {
            let copy = || -> std::io::Result<()> {
                fs::copy(context.layout.server_db(), &file)?;
                fs::set_permissions(&file, fs::Permissions::from_mode(0o644))
            };
            copy().map_err(|e| Error::io("copy `server.duckdb` to", &file, e))?;
        }
        // With more threads one would wait busily for another: nothing here runs in parallel.
        let limits = engine::Limits { threads: 1, ..context.limits.clone() };
        let connection = engine::in_memory(&limits)?;
        engine::run(&connection, WRITE, &sql::attach_to_write(&file, "server")?)?;
        Ok(Draft { connection, file, copied })
    }

    /// Gives up what was begun.
    pub(super) fn discard(self, disk: &disk::Disk) -> Result<()> {
        let Draft { connection, file, .. } = self;
        drop(connection);
        engine::remove_database(disk, &file)
    }

    /// Finishes the file, which nobody changes from now on. It still lies beside its place.
    pub(super) fn close(self, disk: &disk::Disk) -> Result<Closed> {
        let Draft { connection, file, .. } = self;
        engine::run(&connection, WRITE, &sql::close_written("server"))?;
        let log = disk::with_suffix(&file, ".wal");
        if log.symlink_metadata().is_ok() {
            return Err(Error::internal("the analytics database kept a log when it was closed"));
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(0o444))
            .map_err(|e| Error::io("write", &file, e))?;
        disk.flush(&file)?;
        Ok(Closed { file, connection })
    }

    fn run(&self, statement: &str) -> Result<()> {
        self.connection.execute_batch(statement).map_err(|e| engine::error(WRITE, e))
    }
}

/// A draft that is finished.
pub(super) struct Closed {
    pub(super) file: PathBuf,
    /// The instance that wrote it, which has let go of it.
    pub(super) connection: Connection,
}

/// Where a draft comes from: a copy that was begun while the plan was made, or anew.
pub(super) struct Drafts<'a> {
    pub(super) context: &'a Context<'a>,
    begun: Option<ScopedJoinHandle<'a, Result<Draft>>>,
}

impl<'a> Drafts<'a> {
    pub(super) fn new(
        context: &'a Context<'a>,
        begun: Option<ScopedJoinHandle<'a, Result<Draft>>>,
    ) -> Self {
        Drafts { context, begun }
    }

    pub(super) fn is_begun(&self) -> bool {
        self.begun.is_some()
    }

    fn take(&mut self, copied: bool) -> Result<Draft> {
        if !copied {
            // One file at a time lies aside.
            self.discard()?;
            return Draft::new(self.context);
        }
        self.begun.take().map_or_else(|| Draft::copy(self.context), super::join)
    }

    /// Gives up a copy that isn't needed.
    pub(super) fn discard(&mut self) -> Result<()> {
        match self.begun.take().map(super::join) {
            Some(Ok(copy)) => copy.discard(self.context.disk),
            _ => Ok(()),
        }
    }
}

/// A table whose view can't be made.
pub(super) struct Refused {
    pub(super) source: SourceName,
    pub(super) table: TableName,
    pub(super) error: Error,
    /// Whether it may be well again next time, with nothing changed in its extract.
    pub(super) passing: bool,
}

/// What came of the views.
pub(super) struct Written {
    /// The draft that holds them; none when the database in place does.
    pub(super) draft: Option<Draft>,
    pub(super) attached: Vec<AttachAlias>,
    pub(super) refused: Vec<Refused>,
}

/// Writes `views` into a draft and learns their columns. Those that can't be made are taken
/// out of `views`. `current` says whether what is in place holds the views of `previous`.
pub(super) fn write(
    drafts: &mut Drafts<'_>,
    previous: &Generation,
    current: bool,
    views: &mut BTreeMap<ViewName, Arc<View>>,
    made: &BTreeMap<ViewName, Box<Make>>,
    progress: &dyn Progress,
) -> Result<Written> {
    let context = drafts.context;
    let layout = context.layout;
    let mut written = Written { draft: None, attached: Vec::new(), refused: Vec::new() };
    let mut change = Change::between(previous, current, views);
    if current && change.is_empty() {
        return Ok(written);
    }
    let draft = drafts.take(current && change.len() * 2 < views.len())?;
    if draft.copied != current {
        change = Change::between(previous, draft.copied, views);
    }
    attach_remote_systems(context, &draft, &change, views, made, &mut written)?;
    let mut refused_so_far = 0;
    loop {
        if written.refused.len() != refused_so_far {
            refused_so_far = written.refused.len();
            change = Change::between(previous, draft.copied, views);
        }
        if draft.copied && change.is_empty() {
            draft.discard(context.disk)?;
            return Ok(written);
        }
        draft.run("BEGIN")?;
        if draft.copied {
            for name in change.gone.iter().chain(&change.new) {
                draft.run(sql::drop_server_view(name).as_str())?;
            }
        }
        // A remote system that is away now may be there when the view is read. Such views
        // come last: listing the columns would bind them.
        let is_deferred = |name: &ViewName| {
            let remote = views.get(name).is_some_and(|v| matches!(v.data, Data::Remote { .. }));
            remote && !made.contains_key(name)
        };
        let (deferred, bound): (Vec<&ViewName>, Vec<&ViewName>) =
            change.new.iter().partition(|name| is_deferred(name));
        progress.start("writing views", bound.len() as u64);
        let failed = bound.iter().enumerate().find_map(|(at, name)| {
            let view = views.get(*name)?;
            let create = |body| draft.run(sql::create_server_view(name, &body, false).as_str());
            let done = body(layout, view).and_then(create);
            progress.step(1);
            done.err().map(|error| (at, error))
        });
        if let Some((at, error)) = failed {
            // The statement that failed has ended the transaction. All views that can't be
            // made are found before it is begun again.
            draft.run("ROLLBACK")?;
            let rest = bound.get(at..).unwrap_or(&[]);
            let refused = refused(context, &draft, views, made, rest)?;
            if refused.is_empty() {
                return Err(error);
            }
            for (name, refused) in refused {
                views.remove(&name);
                written.refused.push(refused);
            }
            continue;
        }
        let learnt =
            read_columns(&draft.connection, views, &bound).map_err(|e| engine::error(WRITE, e))?;
        for name in deferred {
            let Some(view) = views.get(name) else { continue };
            let create = sql::create_server_view(name, &body(layout, view)?, true);
            draft.run(create.as_str())?;
        }
        draft.run("COMMIT")?;
        for (name, columns) in learnt {
            if let Some(view) = views.get_mut(&name) {
                Arc::make_mut(view).columns = columns;
            }
        }
        return Ok(Written { draft: Some(draft), ..written });
    }
}

/// What must be done to a database that holds the views of a generation.
struct Change {
    new: Vec<ViewName>,
    gone: Vec<ViewName>,
}

impl Change {
    /// From the views of `previous`, or from none, to `views`. What comes out as it was keeps
    /// its columns.
    fn between(
        previous: &Generation,
        from_previous: bool,
        views: &mut BTreeMap<ViewName, Arc<View>>,
    ) -> Change {
        let mut change = Change { new: Vec::new(), gone: Vec::new() };
        for (name, view) in views.iter_mut() {
            let old = previous.views.get_key_value(name).filter(|(old_name, old)| {
                old_name.as_str() == name.as_str()
                    && (Arc::ptr_eq(old, view) || has_same_body(old, view))
            });
            if let Some((_, old)) = old
                && view.columns.is_empty()
            {
                Arc::make_mut(view).columns = old.columns.clone();
            }
            if !from_previous || old.is_none() {
                change.new.push(name.clone());
            }
        }
        if from_previous {
            let gone = previous.views.keys().filter(|name| !views.contains_key(name));
            change.gone = gone.cloned().collect();
        }
        change
    }

    fn len(&self) -> usize {
        self.new.len() + self.gone.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The view's body in `server.duckdb`, with the paths of today.
fn body(layout: &Layout, view: &View) -> Result<Sql> {
    match &view.data {
        Data::Files { by_name, .. } => {
            sql::select_parquet(&Generation::paths(layout, view), *by_name)
        }
        Data::Remote { query, .. } => Ok(sql::guarded(query.clone())),
    }
}

/// Whether two views have the same definition in `server.duckdb`.
fn has_same_body(a: &View, b: &View) -> bool {
    match (&a.data, &b.data) {
        (Data::Files { files: a, by_name: x, .. }, Data::Files { files: b, by_name: y, .. }) => {
            x == y && a.iter().map(|p| &p.path).eq(b.iter().map(|p| &p.path))
        }
        (a, b) => a == b,
    }
}

/// Binds each view on a connection of its own, which no failure ends, and gives back those
/// that the engine refuses.
fn refused(
    context: &Context<'_>,
    draft: &Draft,
    views: &BTreeMap<ViewName, Arc<View>>,
    made: &BTreeMap<ViewName, Box<Make>>,
    names: &[&ViewName],
) -> Result<Vec<(ViewName, Refused)>> {
    let probe = draft.connection.try_clone().map_err(|e| engine::error(WRITE, e))?;
    let mut all = Vec::new();
    for name in names {
        let Some(view) = views.get(*name) else { continue };
        let Err(error) = engine::columns(&probe, &body(context.layout, view)?) else { continue };
        let left_out = format!("the table `{}` of `{}` is left out", view.table, view.source);
        // It could be read when it was made.
        let carried = !made.contains_key(*name);
        let error = if carried {
            let what = "its file was changed or removed behind Agnes' back; run the rebuild again";
            Error::new(Kind::Unavailable, format!("{left_out}: {what}"))
        } else {
            let root = context.layout.root().to_string_lossy().into_owned();
            let text = engine::message(&error).replace(&root, "…");
            extract::contract(format!("{left_out}: it can't be read by DuckDB: {text}"))
        };
        let refused = Refused {
            source: view.source.clone(),
            table: view.table.clone(),
            error,
            passing: carried || matches!(view.data, Data::Remote { .. }),
        };
        all.push(((*name).clone(), refused));
    }
    Ok(all)
}

/// Attaches the systems that views to be made anew read from, each once. One that can't be
/// attached costs every table that reads from it, and no other.
fn attach_remote_systems(
    context: &Context<'_>,
    draft: &Draft,
    change: &Change,
    views: &mut BTreeMap<ViewName, Arc<View>>,
    made: &BTreeMap<ViewName, Box<Make>>,
    written: &mut Written,
) -> Result<()> {
    // Asked for each source, also where another has attached the same system.
    let mut asked: BTreeMap<(SourceName, AttachAlias), std::result::Result<(), Arc<Error>>> =
        BTreeMap::new();
    for name in &change.new {
        let Some(make) = made.get(name) else { continue };
        if !matches!(make.table.content, Content::Remote { .. }) {
            continue;
        }
        for row in &make.attaches {
            let key = (make.source.clone(), row.alias.clone());
            let done = asked.entry(key).or_insert_with(|| {
                let attach = attach::resolve(context.policy, context.secrets, &make.source, row)?;
                if !written.attached.contains(&row.alias) {
                    attach.run(&draft.connection, true)?;
                    written.attached.push(row.alias.clone());
                }
                Ok(())
            });
            if let Err(error) = done {
                let message = format!(
                    "the table `{}` of `{}` is left out: {}",
                    make.table.name(),
                    make.source,
                    error.message()
                );
                views.remove(name);
                written.refused.push(Refused {
                    source: make.source.clone(),
                    table: make.table.name().clone(),
                    error: Error::new(error.kind(), message).with(Key::Source, &make.source),
                    passing: true,
                });
                break;
            }
        }
    }
    Ok(())
}

/// The columns of those of the views that were made whose columns aren't known yet.
fn read_columns(
    connection: &Connection,
    views: &BTreeMap<ViewName, Arc<View>>,
    made: &[&ViewName],
) -> Result<BTreeMap<ViewName, Vec<Column>>, duckdb::Error> {
    /// Above this, one look at all columns is less work than many at a few.
    const FEW: usize = 50;
    let is_unknown = |name: &&&ViewName| views.get(**name).is_some_and(|v| v.columns.is_empty());
    let unknown: Vec<&ViewName> = made.iter().filter(is_unknown).copied().collect();
    let mut learnt = BTreeMap::new();
    if unknown.len() <= FEW {
        for name in unknown {
            let columns = engine::columns(connection, &sql::select_server_view(name))?;
            let columns = columns.into_iter().map(|(name, kind)| Column { name, kind }).collect();
            learnt.insert(name.clone(), columns);
        }
        return Ok(learnt);
    }
    let mut statement = connection.prepare(
        "SELECT table_name, column_name, data_type FROM duckdb_columns() \
         WHERE database_name = 'server' AND schema_name = 'main' ORDER BY table_oid, column_index",
    )?;
    let mut rows = statement.query([])?;
    let unknown: HashSet<&ViewName> = unknown.into_iter().collect();
    while let Some(row) = rows.next()? {
        let Ok(name) = ViewName::parse(row.get::<_, String>(0)?) else { continue };
        if unknown.contains(&name) {
            let column = Column { name: row.get(1)?, kind: row.get(2)? };
            learnt.entry(name).or_insert_with(Vec::new).push(column);
        }
    }
    Ok(learnt)
}
