//! What a foreign view reads, told from its text without running it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use globset::GlobBuilder;
use serde_json::{Value, json};

use super::{Content, Export, MetaRow, Opened, QueryMode, RemoteAttach, contract};
use crate::disk::Fingerprint;
use crate::layout::{DATA, EXTRACT_DB};
use crate::query::guard::Judge;
use crate::query::tree::{self, Tree};
use crate::sql::{self, Sql};
use crate::{AttachAlias, Error, Result, SourceName, TableName};

/// A column with the absolute path of the file that a row comes from, which DuckDB's parquet
/// reader adds when asked for it by name or by an option.
const FILENAME: &str = "filename";

/// What else a view may tell `read_parquet`.
const READER_OPTIONS: &[&str] = &[
    "union_by_name",
    "hive_partitioning",
    "hive_types",
    "hive_types_autocast",
    "binary_as_string",
    "file_row_number",
];

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

fn looks_like_a_file(name: &str) -> bool {
    name.contains('/') || name.to_ascii_lowercase().ends_with(".parquet")
}

fn is_parquet_reader(function: Option<&str>) -> bool {
    function.is_some_and(|f| {
        f.eq_ignore_ascii_case("read_parquet") || f.eq_ignore_ascii_case("parquet_scan")
    })
}

/// What a view hands to `read_parquet`.
struct ReaderArguments {
    paths: Vec<String>,
    /// Options by lower-case name; the value where it is `true` or `false`.
    options: Vec<(String, Option<bool>)>,
}

impl ReaderArguments {
    /// Whether columns are matched by name, if no option changes more than that.
    fn harmless_by_name(&self) -> Option<bool> {
        let mut by_name = false;
        for (name, value) in &self.options {
            match (name.as_str(), value) {
                ("union_by_name", Some(value)) => by_name = *value,
                ("hive_partitioning" | "filename" | "file_row_number", Some(false)) => {}
                _ => return None,
            }
        }
        Some(by_name)
    }
}

/// The arguments of a reader, if all of them are constants.
fn reader_arguments(node: &Value) -> Option<ReaderArguments> {
    let mut found = ReaderArguments { paths: Vec::new(), options: Vec::new() };
    for (index, argument) in node.pointer("/function/arguments")?.as_array()?.iter().enumerate() {
        let expression = argument.get("expression")?;
        let name = argument.get("name").and_then(Value::as_str).unwrap_or("");
        if index == 0 && name.is_empty() {
            found.paths = constant_paths(expression)?;
        } else if !name.is_empty() {
            found.options.push((name.to_ascii_lowercase(), constant_bool(expression)));
        } else {
            // `option = value` is parsed as a comparison.
            if expression.get("type")?.as_str()? != "COMPARE_EQUAL" {
                return None;
            }
            let option = expression.pointer("/left/column_names/0")?.as_str()?;
            let value = constant_bool(expression.get("right")?);
            found.options.push((option.to_ascii_lowercase(), value));
        }
    }
    Some(found)
}

fn constant_text(expression: &Value) -> Option<String> {
    let literal = expression.get("literal")?;
    (literal.get("kind")?.as_str()? == "STRING")
        .then(|| literal.get("text")?.as_str())?
        .map(String::from)
}

/// A truth value; DuckDB 1.x stores it as `CAST('t' AS BOOLEAN)`.
fn constant_bool(expression: &Value) -> Option<bool> {
    if expression.get("class").and_then(Value::as_str) == Some("CAST") {
        let to = expression.pointer("/type_expr/type_name").and_then(Value::as_str)?;
        return match expression.pointer("/child/literal/text")?.as_str()? {
            "t" | "true" if to.eq_ignore_ascii_case("boolean") => Some(true),
            "f" | "false" if to.eq_ignore_ascii_case("boolean") => Some(false),
            _ => None,
        };
    }
    // The text 'false' means something else: `filename = 'false'` names a column.
    if expression.pointer("/literal/kind").and_then(Value::as_str) == Some("STRING") {
        return None;
    }
    match expression.pointer("/literal/text")?.as_str()?.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn constant_paths(expression: &Value) -> Option<Vec<String>> {
    if let Some(path) = constant_text(expression) {
        return Some(vec![path]);
    }
    let function = expression.get("function_name")?.as_str()?;
    if function != "list_value" {
        return None;
    }
    expression
        .get("arguments")?
        .as_array()?
        .iter()
        .map(|argument| constant_text(argument.get("expression")?))
        .collect()
}

/// The parse tree of `['a', 'b']`.
fn list_of(paths: &[String]) -> Value {
    let constant = |text: &String| {
        json!({"name": "", "expression": {
            "class": "CONSTANT", "type": "VALUE_CONSTANT", "alias": "",
            "literal": {"kind": "STRING", "text": text}
        }})
    };
    json!({
        "class": "FUNCTION", "type": "FUNCTION", "alias": "", "function_name": "list_value",
        "schema": "", "catalog": "", "filter": null,
        "order_bys": {"type": "ORDER_MODIFIER", "orders": []},
        "distinct": false, "is_operator": false, "export_state": false,
        "arguments": paths.iter().map(constant).collect::<Vec<_>>(),
        "qualified_name": {"path": ["list_value"]}
    })
}

/// `(SELECT * FROM function)` in the place of a table reference, under its name or `otherwise`.
///
/// A query of its own gives the columns of the files and no more. Of the reader itself one could
/// also ask for `filename`, by many ways of naming a column, and publish paths of this machine.
fn rows_of(function: &Value, reference: &Value, otherwise: &str) -> Value {
    let kept = |key: &str, absent: Value| reference.get(key).cloned().unwrap_or(absent);
    let alias = match reference.get("alias").and_then(Value::as_str) {
        Some(alias) if !alias.is_empty() => alias,
        _ => otherwise,
    };
    json!({
        "type": "SUBQUERY", "alias": alias, "sample": kept("sample", Value::Null),
        "column_name_alias": kept("column_name_alias", json!([])),
        "subquery": {"named_param_map": [], "node": {
            "type": "SELECT_NODE", "modifiers": [], "cte_map": {"map": []},
            "select_list": [{"class": "STAR", "type": "STAR", "alias": ""}],
            "from_table": {
                "type": "TABLE_FUNCTION", "alias": "", "sample": null, "function": function,
                "column_name_alias": [], "with_ordinality": "WITHOUT_ORDINALITY"
            },
            "where_clause": null, "group_expressions": [], "group_sets": [], "having": null,
            "aggregate_handling": "STANDARD_HANDLING", "sample": null, "qualify": null
        }}
    })
}

/// A view that another one stands on.
enum Needed {
    Judged(Tree),
    Written(Sql),
}

/// The judge of a view that is exported: it may read the extract's own files, tables and
/// views, and each is replaced by what Agnes knows it to be.
struct OwnFiles<'a, 'b> {
    objects: &'b Objects<'a>,
    /// The views that are needed, each after those that it needs.
    needed: Vec<(TableName, Needed)>,
    /// The views that are being looked at, to tell a circle.
    open: Vec<TableName>,
    files: RefCell<Vec<PathBuf>>,
    tables: bool,
}

impl<'a, 'b> OwnFiles<'a, 'b> {
    fn new(objects: &'b Objects<'a>) -> Self {
        OwnFiles {
            objects,
            needed: Vec::new(),
            open: Vec::new(),
            files: RefCell::default(),
            tables: false,
        }
    }

    /// Absolute paths of own files, noted as read.
    fn absolute(&self, patterns: &[String]) -> Result<Vec<String>> {
        let own = self.objects.own_files(patterns)?;
        let paths = own
            .iter()
            .map(|f| self.objects.folder.join(f).to_str().map(String::from))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| contract("the extract's folder is no UTF-8 text"))?;
        self.files.borrow_mut().extend(own);
        Ok(paths)
    }
}

impl OwnFiles<'_, '_> {
    /// Folders called `key=value` become columns: those of the extract may, where it lies not.
    fn no_folders_of_ours(&self, function: &mut Value, paths: &[String]) -> Result<()> {
        let home = self.objects.folder.to_str().unwrap_or("");
        if !home.contains('=') {
            return Ok(());
        }
        if paths.iter().any(|path| path.strip_prefix(home).is_none_or(|own| own.contains('='))) {
            return Err(contract(
                "its files lie in folders called `key=value`, and so does the data folder; write \
                 the values into the files",
            ));
        }
        let off = json!({"name": "", "expression": {
            "class": "COMPARISON", "type": "COMPARE_EQUAL", "alias": "",
            "left": {"class": "COLUMN_REF", "type": "COLUMN_REF", "alias": "",
                "column_names": ["hive_partitioning"]},
            "right": {"class": "CONSTANT", "type": "VALUE_CONSTANT", "alias": "",
                "literal": {"kind": "BOOLEAN", "text": "false"}}
        }});
        let is_hive = |argument: &Value| {
            let option =
                argument.pointer("/expression/left/column_names/0").and_then(Value::as_str);
            let name = argument.get("name").and_then(Value::as_str);
            [option, name].into_iter().flatten().any(|o| o.to_ascii_lowercase().starts_with("hive"))
        };
        if let Some(arguments) = function.get_mut("arguments").and_then(Value::as_array_mut) {
            arguments.retain(|argument| !is_hive(argument));
            arguments.push(off);
        }
        Ok(())
    }
}

impl Judge for OwnFiles<'_, '_> {
    fn has_arrow_lambdas(&self) -> bool {
        true
    }

    fn table(&mut self, name: &[String], node: &mut Value) -> Result<()> {
        let outside = || {
            contract(format!(
                "its view reads `{}`, which is not in the extract",
                crate::name::shown(&name.join("."))
            ))
        };
        let last = match name {
            [one] if looks_like_a_file(one) => {
                let paths = self.absolute(std::slice::from_ref(one))?;
                let stem = Path::new(one).file_stem().and_then(|stem| stem.to_str());
                let mut function = list_of(&[]);
                if let Some(f) = function.as_object_mut() {
                    f.insert("function_name".into(), json!("read_parquet"));
                    f.insert("qualified_name".into(), json!({"path": ["read_parquet"]}));
                    f.insert(
                        "arguments".into(),
                        json!([{"name": "", "expression": list_of(&paths)}]),
                    );
                }
                self.no_folders_of_ours(&mut function, &paths)?;
                *node = rows_of(&function, node, stem.unwrap_or(""));
                return Ok(());
            }
            [one] => one,
            [schema, one] if schema.eq_ignore_ascii_case("main") => one,
            // The catalog is called after the file it was written in.
            [catalog, schema, one]
                if schema.eq_ignore_ascii_case("main")
                    && (catalog.eq_ignore_ascii_case("extract")
                        || catalog.eq_ignore_ascii_case(self.objects.source.as_str())) =>
            {
                one
            }
            _ => return Err(outside()),
        };
        let table = TableName::parse(last.clone()).map_err(|_| outside())?;
        if node.get("at_clause").is_some_and(|at| !at.is_null()) {
            return Err(contract("its view asks for an earlier version of a table"));
        }
        let path = if self.objects.tables.contains_key(&table) {
            self.tables = true;
            vec![sql::EXTRACT, "main", table.as_str()]
        } else {
            if self.open.contains(&table) {
                return Err(contract(format!("its view reads itself through `{table}`")));
            }
            if !self.needed.iter().any(|(name, _)| *name == table) {
                let query = self.objects.views.get(&table).ok_or_else(outside)?;
                let query = query
                    .clone()
                    .map_err(|why| contract(format!("its view reads `{table}`, which {why}")))?;
                let needed = match query {
                    Query::OwnFile(file) => {
                        let path = self.objects.folder.join(&file);
                        self.files.borrow_mut().push(file);
                        Needed::Written(sql::select_parquet(&[path], false)?)
                    }
                    Query::Parsed(mut tree) => {
                        self.open.push(table.clone());
                        tree.judge(self)?;
                        self.open.pop();
                        Needed::Judged(tree)
                    }
                };
                self.needed.push((table.clone(), needed));
            }
            vec![table.as_str()]
        };
        if let Some(reference) = node.as_object_mut() {
            let part = |back: usize| {
                path.len().checked_sub(back).and_then(|i| path.get(i)).copied().unwrap_or("")
            };
            reference.insert("table_name".into(), json!(part(1)));
            reference.insert("schema_name".into(), json!(part(2)));
            reference.insert("catalog_name".into(), json!(part(3)));
            reference.insert("qualified_name".into(), json!({"path": path}));
        }
        Ok(())
    }

    fn table_function(&mut self, name: &str, node: &mut Value) -> Result<()> {
        if !is_parquet_reader(Some(name)) {
            return Err(contract(format!(
                "its view uses the table function `{}`; only read_parquet over its own files is read",
                crate::name::shown(name)
            )));
        }
        let unclear = || contract("its view computes what it hands to read_parquet");
        for (option, value) in reader_arguments(node).ok_or_else(unclear)?.options {
            match (option.as_str(), value) {
                (FILENAME, Some(false)) => {}
                (FILENAME, _) => {
                    return Err(contract(
                        "its view has the option filename, which would publish paths of this \
                         machine",
                    ));
                }
                (option, _) if READER_OPTIONS.contains(&option) => {}
                (option, _) => {
                    return Err(contract(format!(
                        "its view has the option `{}` of read_parquet, which is not allowed",
                        crate::name::shown(option)
                    )));
                }
            }
        }
        if node.get("with_ordinality").and_then(Value::as_str).unwrap_or("") == "WITH_ORDINALITY" {
            return Err(contract("its view numbers the rows of files with WITH ORDINALITY"));
        }
        let paths = node
            .pointer("/function/arguments/0/expression")
            .and_then(constant_paths)
            .ok_or_else(|| contract("its view computes the names of the files that it reads"))?;
        let paths = self.absolute(&paths)?;
        if let Some(first) = node.pointer_mut("/function/arguments/0/expression") {
            *first = list_of(&paths);
        }
        let mut function = node.get("function").cloned().unwrap_or(Value::Null);
        self.no_folders_of_ours(&mut function, &paths)?;
        *node = rows_of(&function, node, name);
        Ok(())
    }
}

/// The judge of a remote view: it may read from the aliases of its own extract alone.
struct OwnAliases<'a> {
    attaches: &'a [RemoteAttach],
    used: BTreeSet<AttachAlias>,
}

impl Judge for OwnAliases<'_> {
    fn table(&mut self, name: &[String], _: &mut Value) -> Result<()> {
        let own = match name {
            [alias, _, ..] => {
                self.attaches.iter().find(|a| a.alias.as_str().eq_ignore_ascii_case(alias))
            }
            _ => None,
        };
        let own = own.ok_or_else(|| {
            contract(format!(
                "its remote view reads `{}`, which is under no alias of the extract's own \
                 `_remote_attach`",
                crate::name::shown(&name.join("."))
            ))
        })?;
        self.used.insert(own.alias.clone());
        Ok(())
    }

    /// BigQuery reads its views through a function that takes the attached catalog.
    fn table_function(&mut self, name: &str, node: &mut Value) -> Result<()> {
        let first = node.pointer("/function/arguments/0/expression").and_then(constant_text);
        let own = first.and_then(|first| {
            self.attaches.iter().find(|a| {
                a.extension.as_str().eq_ignore_ascii_case("bigquery")
                    && (a.alias.as_str().eq_ignore_ascii_case(&first)
                        || a.url.split_whitespace().any(|p| p == format!("project={first}")))
            })
        });
        if let Some(own) = own
            && matches!(name, "bigquery_query" | "bigquery_scan")
        {
            self.used.insert(own.alias.clone());
            return Ok(());
        }
        Err(Error::new(
            crate::Kind::Contract,
            format!("its remote view uses the table function `{}`", crate::name::shown(name)),
        ))
    }
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
