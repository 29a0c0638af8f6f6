//! Reading `_meta` and `_remote_attach`, written by anybody.

use super::{Skipped, TABLES_MAX, contract, skipped};
use crate::worker::{Foreign, Texts};
use crate::{
    AttachAlias, Error, ExtensionName, Key, Result, SourceName, TableName, Timestamp, TokenEnv, sql,
};

/// How a table is queried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueryMode {
    /// Its rows are here, in parquet.
    Local,
    /// Its rows stay in a remote system.
    Remote,
    /// Its rows are here: the result of a query that a remote system ran.
    Materialized,
}

/// A valid row of `_meta`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MetaRow {
    pub(crate) name: TableName,
    pub(crate) description: Option<String>,
    pub(crate) rows: u64,
    pub(crate) size_bytes: u64,
    pub(crate) extracted_at: Option<Timestamp>,
    pub(crate) query_mode: QueryMode,
    /// What the connector noted about its input, to tell whether it changed.
    pub(crate) input_hash: Option<String>,
}

/// A valid row of `_remote_attach`: how to attach the system that remote views read from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RemoteAttach {
    /// The catalog name that the views use.
    pub alias: AttachAlias,
    /// The DuckDB extension that speaks to the system.
    pub extension: ExtensionName,
    /// Its address, in the extension's own form.
    pub url: String,
    /// The variable that holds the token; none when the system needs none.
    pub token_env: Option<TokenEnv>,
}

impl RemoteAttach {
    /// Of texts that are checked here.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn of(
        alias: String,
        extension: String,
        url: String,
        token_env: Option<String>,
    ) -> Result<RemoteAttach> {
        Ok(RemoteAttach {
            alias: AttachAlias::parse(alias)?,
            extension: ExtensionName::parse(extension)?,
            url,
            token_env: token_env.map(TokenEnv::parse).transpose()?,
        })
    }
}

/// What both tables say.
pub(crate) struct Meta {
    pub(crate) rows: Vec<MetaRow>,
    pub(crate) attaches: Vec<RemoteAttach>,
    pub(crate) skipped: Vec<Skipped>,
}

/// The columns of a table of the extract, or nothing when there is no such table.
/// A view of that name doesn't count: it would be code.
fn columns(foreign: &Foreign, table: &'static str) -> Result<Option<Vec<String>>> {
    let text = foreign.texts("read the columns", sql::extract_table_text(table).as_str())?;
    let Some(text) = text.into_iter().flatten().next() else { return Ok(None) };
    // A generated column is the extract's code, which reading the table would run.
    if text.is_some_and(|text| text.contains(super::view::GENERATED)) {
        return Err(contract("it has a generated column; write its values into plain ones"));
    }
    let columns = sql::describe(&sql::from_extract(table));
    let columns = foreign.texts("read the columns", columns.as_str())?;
    Ok(Some(columns.into_iter().filter_map(|row| row.into_iter().next()?).collect()))
}

/// Reads both tables. Columns are found by name; those that are missing are empty.
pub(crate) fn read(foreign: &Foreign, source: &SourceName) -> Result<Meta> {
    let broken = |what: String| {
        contract(format!("the extract of `{source}` {what}")).with(Key::Source, source)
    };
    let unreadable =
        |e: Error| broken(format!("has a `_meta` that can't be read: {}", e.message()));
    let found = columns(foreign, "_meta").map_err(unreadable)?.ok_or_else(|| {
        broken("has no table `_meta`; write one row into it for each table".to_string())
    })?;
    let has = |name: &str| found.iter().any(|c| c.eq_ignore_ascii_case(name));
    if !has("table_name") {
        return Err(broken("has a `_meta` without the column `table_name`".to_string()));
    }
    let mut meta = Meta { rows: Vec::new(), attaches: Vec::new(), skipped: Vec::new() };
    read_tables(foreign, source, &has, &mut meta).map_err(unreadable)?;
    let attach = columns(foreign, "_remote_attach").map_err(unreadable)?;
    if let Some(found) = attach {
        let has = |name: &str| found.iter().any(|c| c.eq_ignore_ascii_case(name));
        let unreadable = |e: Error| {
            broken(format!("has a `_remote_attach` that can't be read: {}", e.message()))
        };
        read_attaches(foreign, source, &has, &mut meta).map_err(unreadable)?;
    }
    Ok(meta)
}

/// The cells of a row; those that aren't there are empty.
pub(super) fn cells<const N: usize>(row: Texts) -> [Option<String>; N] {
    let mut row = row.into_iter();
    std::array::from_fn(|_| row.next().flatten())
}

fn read_tables(
    foreign: &Foreign,
    source: &SourceName,
    has: &dyn Fn(&str) -> bool,
    meta: &mut Meta,
) -> Result<()> {
    let query = sql::extract_meta(has, TABLES_MAX + 1);
    let rows = foreign.texts("read `_meta`", query.as_str())?;
    if rows.len() > TABLES_MAX {
        return Err(contract(format!("it has more than {TABLES_MAX} rows")));
    }
    let mut seen = std::collections::HashSet::new();
    for row in rows {
        let [name, description, rows, size, at, mode, input_hash] = cells(row);
        let number = |text: Option<String>| text.and_then(|text| text.parse::<i64>().ok());
        let Some(name) = name else {
            let error = contract(format!(
                "a row of `_meta` in `{source}` has no table_name; it is left out"
            ));
            meta.skipped.push(skipped(source, "", error));
            continue;
        };
        let table = match TableName::parse(name.clone()) {
            Ok(table) => table,
            Err(error) => {
                let error = contract(format!(
                    "a table of `{source}` is left out: {}; rename it in the connector",
                    error.message()
                ));
                meta.skipped.push(skipped(source, &name, error));
                continue;
            }
        };
        if ["_meta", "_remote_attach"].iter().any(|own| table.as_str().eq_ignore_ascii_case(own)) {
            let error = contract(format!(
                "`_meta` of `{source}` names `{table}`, which is the contract's own table and \
                 isn't published"
            ));
            meta.skipped.push(skipped(source, &name, error));
            continue;
        }
        if !seen.insert(table.clone()) {
            let error = contract(format!(
                "`_meta` of `{source}` names `{table}` more than once (case doesn't count); \
                 the first row is used"
            ));
            meta.skipped.push(skipped(source, &name, error));
            continue;
        }
        let query_mode = match mode.as_deref().map(str::trim) {
            None | Some("") => QueryMode::Local,
            Some(m) if m.eq_ignore_ascii_case("local") => QueryMode::Local,
            Some(m) if m.eq_ignore_ascii_case("remote") => QueryMode::Remote,
            Some(m) if m.eq_ignore_ascii_case("materialized") => QueryMode::Materialized,
            Some(other) => {
                let error = contract(format!(
                    "the table `{table}` of `{source}` is left out: its query_mode `{}` is not \
                     one of local, remote and materialized",
                    crate::name::shown(other)
                ));
                meta.skipped.push(skipped(source, &name, error));
                continue;
            }
        };
        let count = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
        meta.rows.push(MetaRow {
            name: table,
            description: description.filter(|d| !d.is_empty()),
            rows: count(number(rows)),
            size_bytes: count(number(size)),
            extracted_at: number(at).map(Timestamp::from_micros),
            query_mode,
            input_hash,
        });
    }
    Ok(())
}

fn read_attaches(
    foreign: &Foreign,
    source: &SourceName,
    has: &dyn Fn(&str) -> bool,
    meta: &mut Meta,
) -> Result<()> {
    /// A source speaks to a handful of systems at most.
    const MOST: usize = 100;
    let query = sql::extract_attaches(has, MOST);
    // (what is asked for isn't believed to be kept)
    for row in foreign.texts("read `_remote_attach`", query.as_str())?.into_iter().take(MOST) {
        let [alias, extension, url, token_env] = cells(row);
        let shown = alias.clone().unwrap_or_default();
        let parsed = || -> Result<RemoteAttach> {
            let url = url.clone().unwrap_or_default();
            if url.contains('\0') {
                return Err(contract("its url holds a NUL character"));
            }
            Ok(RemoteAttach {
                alias: AttachAlias::parse(alias.clone().unwrap_or_default())?,
                extension: ExtensionName::parse(extension.clone().unwrap_or_default())?,
                url,
                token_env: token_env
                    .clone()
                    .filter(|t| !t.is_empty())
                    .map(TokenEnv::parse)
                    .transpose()?,
            })
        };
        match parsed() {
            Ok(row) if meta.attaches.iter().any(|a| a.alias == row.alias) => {
                let error = contract(format!(
                    "`_remote_attach` of `{source}` names the alias `{}` more than once; the \
                     first row is used",
                    row.alias
                ));
                meta.skipped.push(skipped(source, "_remote_attach", error));
            }
            Ok(row) => meta.attaches.push(row),
            Err(error) => {
                let error = contract(format!(
                    "the row `{}` of `_remote_attach` in `{source}` is left out: {}",
                    crate::name::shown(&shown),
                    error.message()
                ));
                meta.skipped.push(skipped(source, "_remote_attach", error));
            }
        }
    }
    Ok(())
}
