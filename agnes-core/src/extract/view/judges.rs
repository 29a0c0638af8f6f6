//! What the view of an extract may read: its own files, tables and views, or its own remote systems.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::arguments::{
    constant_paths, constant_text, is_parquet_reader, list_of, looks_like_a_file, reader_arguments,
    rows_of,
};
use super::{Objects, Query};
use crate::extract::{RemoteAttach, contract};
use crate::query::guard::Judge;
use crate::query::tree::Tree;
use crate::sql::{self, Sql};
use crate::{AttachAlias, Error, Result, TableName};

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

/// A view that another one stands on.
pub(super) enum Needed {
    Judged(Tree),
    Written(Sql),
}

/// The judge of a view that is exported: it may read the extract's own files, tables and
/// views, and each is replaced by what Agnes knows it to be.
pub(super) struct OwnFiles<'a, 'b> {
    objects: &'b Objects<'a>,
    /// The views that are needed, each after those that it needs.
    pub(super) needed: Vec<(TableName, Needed)>,
    /// The views that are being looked at, to tell a circle.
    open: Vec<TableName>,
    pub(super) files: RefCell<Vec<PathBuf>>,
    pub(super) tables: bool,
}

impl<'a, 'b> OwnFiles<'a, 'b> {
    pub(super) fn new(objects: &'b Objects<'a>) -> Self {
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
pub(super) struct OwnAliases<'a> {
    pub(super) attaches: &'a [RemoteAttach],
    pub(super) used: BTreeSet<AttachAlias>,
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
