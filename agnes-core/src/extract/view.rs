//! What a foreign view reads, told from its text without running it.

mod arguments;
mod judges;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use globset::GlobBuilder;
use serde_json::Value;

use self::arguments::{is_parquet_reader, looks_like_a_file, reader_arguments};
use self::judges::{Needed, OwnAliases, OwnFiles};
use super::{Content, Export, MetaRow, Opened, QueryMode, RemoteAttach, contract};
use crate::disk::Fingerprint;
use crate::layout::{DATA, EXTRACT_DB};
use crate::query::tree::{self, Tree};
use crate::sql;
use crate::{Result, SourceName, TableName};

/// How the engine's text of a table names a column that is computed when it is read: code of
/// the extract that the guard hasn't seen.
pub(super) const GENERATED: &str = "GENERATED ALWAYS AS";

/// The longest text of a view, bytes: room for a list of ten thousand shards.
pub(super) const VIEW_MAX: usize = 4 << 20;

/// The tables and views of an extract, and the files that they may read.
pub(crate) struct Objects<'a> {
    folder: &'a Path,
    source: &'a SourceName,
    files: &'a BTreeMap<PathBuf, Fingerprint>,
    tables: HashMap<TableName, ()>,
    /// The query of each view, or why it can't be used.
    views: HashMap<TableName, std::result::Result<Query, String>>,
}

/// What a view selects.
#[derive(Clone)]
enum Query {
    /// Letter for letter what is written for one of the extract's own files: this file.
    OwnFile(PathBuf),
    /// Anything else, as the engine parses it.
    Parsed(Tree),
}

impl<'a> Objects<'a> {
    /// Lists what the attached extract holds and parses its views' texts.
    pub(crate) fn read(
        opened: &Opened<'_>,
        folder: &'a Path,
        source: &'a SourceName,
        files: &'a BTreeMap<PathBuf, Fingerprint>,
    ) -> Result<Self> {
        let list = |query: &str| -> Result<Vec<(String, Option<String>)>> {
            let rows = opened.engine().texts("list the extract's tables", query)?;
            let named = rows.into_iter().map(|row| {
                let mut row = row.into_iter();
                Some((row.next()??, row.next()?))
            });
            Ok(named.flatten().collect())
        };
        let tables = list(sql::EXTRACT_TABLES)?;
        let views = list(sql::EXTRACT_VIEWS)?;
        // Names that are no identifiers can't be published, nor named by what is.
        let named: Vec<(TableName, String)> = views
            .into_iter()
            .filter_map(|(name, text)| {
                Some((TableName::parse(name).ok()?, text.unwrap_or_default()))
            })
            .collect();
        let mut objects =
            Objects { folder, source, files, tables: HashMap::new(), views: HashMap::new() };
        let mut parse: Vec<(&TableName, &str)> = Vec::new();
        for (name, text) in &named {
            let query = match query_of(text) {
                None => Err("renames its columns or is of an unknown form".to_string()),
                Some(query) => match objects.own_file_of(name, query) {
                    Some(file) => Ok(Query::OwnFile(file)),
                    None => {
                        parse.push((name, query));
                        continue;
                    }
                },
            };
            objects.views.insert(name.clone(), query);
        }
        for (name, query) in parse {
            let parser = opened.parser()?;
            let tree = Tree::parse_long(parser, query, VIEW_MAX);
            if parser.fate().is_some() {
                return tree.map(|_| objects);
            }
            let query = tree.map(Query::Parsed).map_err(|e| e.message().to_string());
            objects.views.insert(name.clone(), query);
        }
        for (name, text) in tables {
            let Ok(name) = TableName::parse(name) else { continue };
            if text.is_some_and(|text| text.contains(GENERATED)) {
                let why = "has a generated column; write its values into a plain one";
                objects.views.insert(name, Err(why.to_string()));
            } else {
                objects.tables.insert(name, ());
            }
        }
        Ok(objects)
    }

    /// The file `data/<name>.parquet`, if the query is exactly what is written for it, by
    /// Agnes or by most connectors. This saves parsing thousands of views that are alike;
    /// whatever differs by one letter is parsed.
    fn own_file_of(&self, name: &TableName, query: &str) -> Option<PathBuf> {
        let file = Path::new(DATA).join(format!("{name}.parquet"));
        let path = self.folder.join(&file);
        let path = path.to_str().filter(|p| !p.contains(['\'', '"', '*', '?', '[']))?;
        let rest = query.strip_prefix("SELECT * FROM ")?;
        let known = rest.strip_prefix("read_parquet('").is_some_and(|rest| {
            rest.strip_prefix(path)
                .is_some_and(|rest| matches!(rest, "')" | "', (hive_partitioning = false))"))
        });
        (known && self.files.contains_key(&file)).then_some(file)
    }

    /// Where the rows of a published table come from.
    ///
    /// # Errors
    /// `Contract`: there is no table or view of that name, it reads something outside of
    /// the extract, or its files are missing.
    pub(crate) fn content(
        &self,
        opened: &Opened<'_>,
        row: &MetaRow,
        attaches: &[RemoteAttach],
    ) -> Result<Content> {
        let left_out = |what: String| {
            contract(format!("the table `{}` of `{}` is left out: {what}", row.name, self.source))
        };
        if self.tables.contains_key(&row.name) {
            return Ok(Content::Export(Export {
                views: Vec::new(),
                query: sql::select_extract_table(&row.name),
                files: Vec::new(),
                tables: true,
            }));
        }
        let Some(tree) = self.views.get(&row.name) else {
            return Err(left_out(format!(
                "`{EXTRACT_DB}` has no view or table of that name; create one, or take the row \
                 out of `_meta`"
            )));
        };
        let tree = match tree.as_ref().map_err(|why| left_out(format!("its view {why}")))? {
            Query::OwnFile(file) if row.query_mode != QueryMode::Remote => {
                return Ok(Content::Files { files: vec![file.clone()], by_name: false });
            }
            Query::OwnFile(_) => {
                return Err(left_out("it is remote, but its view reads a file".to_string()));
            }
            Query::Parsed(tree) => tree,
        };
        if row.query_mode == QueryMode::Remote {
            return self.remote(opened, tree, attaches).map_err(|e| left_out(e.message().into()));
        }
        if let Some(plain) = self.plain(tree).map_err(|e| left_out(e.message().into()))? {
            return Ok(plain);
        }
        let mut judge = OwnFiles::new(self);
        let mut tree = tree.clone();
        tree.judge(&mut judge).map_err(|e| left_out(e.message().into()))?;
        let OwnFiles { mut needed, files, tables, .. } = judge;
        let parser = opened.parser()?;
        let query = sql::guarded(tree.to_sql(parser)?);
        let mut views = Vec::with_capacity(needed.len());
        for (name, needed) in needed.drain(..) {
            let query = match needed {
                Needed::Judged(tree) => sql::guarded(tree.to_sql(parser)?),
                Needed::Written(query) => query,
            };
            views.push((name, query));
        }
        let mut files = files.into_inner();
        files.sort();
        files.dedup();
        Ok(Content::Export(Export { views, query, files, tables }))
    }

    /// A view that is nothing but `SELECT *` over some of the extract's own files.
    fn plain(&self, tree: &Tree) -> Result<Option<Content>> {
        let Some(from) = tree.plain_source() else { return Ok(None) };
        let (patterns, by_name) = match from.get("type").and_then(Value::as_str) {
            Some("BASE_TABLE") => match tree::name_parts(from).as_slice() {
                [path] if looks_like_a_file(path) => (vec![path.clone()], false),
                _ => return Ok(None),
            },
            Some("TABLE_FUNCTION") if is_parquet_reader(tree::function_name(from)) => {
                let Some(arguments) = reader_arguments(from) else { return Ok(None) };
                let Some(by_name) = arguments.harmless_by_name() else { return Ok(None) };
                (arguments.paths, by_name)
            }
            _ => return Ok(None),
        };
        let files = self.own_files(&patterns)?;
        // `key=value` folders are columns of their own; a pinned file has no such folder.
        if files.iter().any(|f| f.to_string_lossy().contains('=')) {
            return Ok(None);
        }
        let by_name = by_name && files.len() > 1;
        Ok(Some(Content::Files { files, by_name }))
    }

    /// The extract's own files that the paths and patterns of a view stand for.
    fn own_files(&self, patterns: &[String]) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for pattern in patterns {
            let shown = crate::name::shown(pattern);
            let relative = self.relative(pattern).ok_or_else(|| {
                contract(format!(
                    "its view reads `{shown}`, outside of the extract; only files below its own \
                     `{DATA}/` are read"
                ))
            })?;
            let before = found.len();
            if relative.contains(['*', '?', '[']) {
                // Braces mean themselves to DuckDB.
                let pattern = relative.replace('{', "[{]").replace('}', "[}]");
                let glob = GlobBuilder::new(&pattern)
                    .literal_separator(true)
                    .build()
                    .map_err(|_| contract(format!("its view reads the unknown pattern `{shown}`")))?
                    .compile_matcher();
                found.extend(self.files.keys().filter(|f| glob.is_match(f)).cloned());
            } else if self.files.contains_key(Path::new(&relative)) {
                found.push(PathBuf::from(&relative));
            }
            if found.len() == before {
                return Err(contract(format!(
                    "its file `{}` is missing; links don't count as files",
                    crate::name::shown(&relative)
                )));
            }
        }
        if found.is_empty() {
            return Err(contract("its view names no file"));
        }
        Ok(found)
    }

    /// `data/…` as the text of a view means it, whatever folder it was written for: the
    /// rebuild decides where a file lies, not the text inside of the extract.
    fn relative(&self, text: &str) -> Option<String> {
        if text.split('/').any(|part| part == "..") {
            return None;
        }
        let folder = self.folder.to_str()?;
        let home = format!("extracts/{}/", self.source);
        let below_home = || {
            let at = text.rfind(&home)?;
            let at_a_boundary = at == 0 || text.as_bytes().get(at - 1) == Some(&b'/');
            at_a_boundary.then(|| text.get(at + home.len()..)).flatten()
        };
        let rest = if let Some(rest) = text.strip_prefix(folder).and_then(|r| r.strip_prefix('/')) {
            rest
        } else if let Some(rest) = below_home() {
            rest
        } else if text.starts_with('/') {
            // Written for a folder that is no more: the tail tells which file was meant.
            let at = text.rfind("/data/")?;
            let before_pattern = text.split(['*', '?', '[']).next().unwrap_or(text);
            let base = match before_pattern.rsplit_once('/') {
                Some((folder, _)) if before_pattern != text => Path::new(folder),
                _ => Path::new(text),
            };
            if base.symlink_metadata().is_ok() {
                return None;
            }
            text.get(at + 1..)?
        } else {
            text.strip_prefix("./").unwrap_or(text)
        };
        let inside = rest.strip_prefix("data/")?;
        let clean = inside.split('/').all(|part| !matches!(part, "" | "." | ".."));
        clean.then(|| format!("data/{inside}"))
    }

    fn remote(
        &self,
        opened: &Opened<'_>,
        tree: &Tree,
        attaches: &[RemoteAttach],
    ) -> Result<Content> {
        let mut tree = tree.clone();
        let mut judge = OwnAliases { attaches, used: BTreeSet::new() };
        tree.judge(&mut judge)?;
        if judge.used.is_empty() {
            return Err(contract("it is remote, but its view reads from no alias"));
        }
        let aliases = judge.used.into_iter().collect();
        Ok(Content::Remote { query: sql::guarded(tree.to_sql(opened.writer()?)?), aliases })
    }
}

/// The query of a `CREATE VIEW` text, as `duckdb_views()` gives it. Nothing when the view
/// names its columns anew: the query alone would not be the view.
fn query_of(text: &str) -> Option<&str> {
    let mut rest = text.trim().strip_prefix("CREATE")?.trim_start();
    rest = rest.strip_prefix("SECURE").unwrap_or(rest).trim_start();
    rest = rest.strip_prefix("VIEW")?.trim_start();
    loop {
        let name_end = if let Some(quoted) = rest.strip_prefix('"') {
            // A doubled quote stands for one.
            let mut at = 0;
            loop {
                let close = at + quoted.get(at..)?.find('"')?;
                if quoted.as_bytes().get(close + 1) == Some(&b'"') {
                    at = close + 2;
                } else {
                    break close + 2;
                }
            }
        } else {
            rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'))?
        };
        rest = rest.get(name_end..)?;
        match rest.strip_prefix('.') {
            Some(more) => rest = more,
            None => break,
        }
    }
    let query = rest.trim_start().strip_prefix("AS")?;
    query.starts_with([' ', '\n', '(']).then(|| query.trim().trim_end_matches(';'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_is_found_behind_any_name() {
        for (text, query) in [
            ("CREATE VIEW t AS SELECT * FROM x;", Some("SELECT * FROM x")),
            ("CREATE VIEW main.t AS FROM x;", Some("FROM x")),
            ("CREATE VIEW \"a\"\" AS b\" AS SELECT 1;", Some("SELECT 1")),
            ("CREATE VIEW \"a.b\".\"c\" AS (SELECT 1);", Some("(SELECT 1)")),
            ("CREATE VIEW t (a, b) AS SELECT 1, 2;", None),
            ("CREATE VIEW t", None),
            ("CREATE TABLE t (a INT)", None),
            ("", None),
            ("CREATE VIEW \"t", None),
        ] {
            assert_eq!(query_of(text), query, "{text}");
        }
    }

    #[test]
    fn a_path_means_the_extract_s_own_file_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("extracts/crm");
        std::fs::create_dir_all(&folder).unwrap();
        let outside = dir.path().join("elsewhere/data/t.parquet");
        std::fs::create_dir_all(outside.parent().unwrap()).unwrap();
        std::fs::write(&outside, "x").unwrap();
        let (files, source) = (BTreeMap::new(), SourceName::parse("crm").unwrap());
        let objects = Objects {
            folder: &folder,
            source: &source,
            files: &files,
            tables: HashMap::new(),
            views: HashMap::new(),
        };
        let here = folder.join("data/t.parquet");
        for (text, relative) in [
            ("data/t.parquet", Some("data/t.parquet")),
            ("./data/t/*.parquet", Some("data/t/*.parquet")),
            (here.to_str().unwrap(), Some("data/t.parquet")),
            ("/data/extracts/crm/data/t.parquet", Some("data/t.parquet")),
            ("extracts/crm/data/t.parquet", Some("data/t.parquet")),
            ("/gone/build/data/t.parquet", Some("data/t.parquet")),
            ("/data/extracts/other/data/../../crm/data/t.parquet", None),
            (outside.to_str().unwrap(), None),
            ("/etc/passwd", None),
            ("../other/data/t.parquet", None),
            ("data/../../other/data/t.parquet", None),
            ("data//t.parquet", None),
            ("other/t.parquet", None),
            ("http://example.org/data/t.parquet", None),
            ("s3://bucket/data/t.parquet", None),
        ] {
            assert_eq!(objects.relative(text).as_deref(), relative, "{text}");
        }
    }
}
