//! Metrics as YAML: `<dir>/<category>/<name>.yml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use super::Metric;
use crate::{Error, Key, Kind, Result};

/// What an import says of where a definition comes from.
const SOURCE: &str = "yaml_import";

/// A definition with the keys that nobody reads, or why it is none.
type Definition = Result<(Metric, Vec<String>)>;

/// The files of an import.
pub(super) fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return match path.exists() {
            true => Ok(vec![path.to_path_buf()]),
            false => Err(Error::new(
                Kind::NotFound,
                format!("there is no file or folder `{}`", path.display()),
            )
            .with(Key::Path, path.display())),
        };
    }
    let list = |folder: &Path| -> Result<Vec<PathBuf>> {
        let failed = |e| Error::io("list", folder, e);
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            entries.push(entry.map_err(failed)?.path());
        }
        entries.sort();
        Ok(entries)
    };
    let is_yaml = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("yml" | "yaml"))
    };
    let mut files = Vec::new();
    for category in list(path)?.iter().filter(|path| path.is_dir()) {
        files.extend(list(category)?.into_iter().filter(is_yaml));
    }
    if files.is_empty() {
        return Err(Error::new(
            Kind::NotFound,
            format!("there is no `<category>/<name>.yml` in `{}`", path.display()),
        )
        .with(Key::Path, path.display()));
    }
    Ok(files)
}

/// The definitions in a file; their category is that of its folder where they name none.
pub(super) fn read(file: &Path) -> Result<Vec<Definition>> {
    let text = crate::yaml::text(file).map_err(|e| Error::io("read", file, e))?;
    let folder = std::path::absolute(file).ok();
    let folder = folder.as_deref().and_then(Path::parent).and_then(Path::file_name);
    definitions(&text, folder.and_then(|folder| folder.to_str()))
        .map_err(|error| error.with(Key::Path, file.display()))
}

fn definitions(text: &str, category: Option<&str>) -> Result<Vec<Definition>> {
    let value = crate::yaml::parse(text)
        .map_err(|fault| Error::new(Kind::Invalid, format!("it {fault}")))?;
    let one = |value: Value| match value {
        Value::Object(map) => taken(map, category),
        _ => Err(Error::new(Kind::Invalid, "a metric is a mapping of keys to values")),
    };
    Ok(match value {
        Value::Array(items) => items.into_iter().map(one).collect(),
        value => vec![one(value)],
    })
}

/// Whether a metric or a category may be called so: files and folders are, too.
pub(super) fn check_name(name: &str) -> Result<()> {
    /// Bytes, with room for what is added to a file's name.
    const MOST: usize = 128;
    let bad = name.trim() != name
        || name.is_empty()
        || name.len() > MOST
        || name.starts_with('.')
        || name.contains(['/', '\\'])
        || name.chars().any(char::is_control);
    match bad {
        false => Ok(()),
        true => Err(Error::new(
            Kind::Invalid,
            format!(
                "`{}` can't be the name of a metric or a category: it has 1 to {MOST} bytes, no `/`, \
                 no control characters and no blank or dot in front",
                crate::name::shown(name)
            ),
        )),
    }
}

/// What a mapping defines.
fn taken(mut map: Map<String, Value>, category: Option<&str>) -> Definition {
    let name = text(&mut map, "name")?;
    let name = name.ok_or_else(|| Error::new(Kind::Invalid, "a metric needs a `name`"))?;
    let about = |error: Error| {
        let shown = crate::name::shown(&name);
        Error::new(error.kind(), format!("the metric `{shown}`: {}", error.message()))
    };
    let read = || -> Definition {
        let category = text(&mut map, "category")?.or_else(|| category.map(str::to_string));
        let category = category.ok_or_else(|| {
            Error::new(Kind::Invalid, "it needs a `category`, or a folder of that name")
        })?;
        check_name(&name)?;
        check_name(&category)?;
        let table = text(&mut map, "table")?;
        let table_name = text(&mut map, "table_name")?;
        let mut metric = Metric {
            id: format!("{category}/{name}"),
            display_name: text(&mut map, "display_name")?.unwrap_or_else(|| name.clone()),
            name: name.clone(),
            category,
            description: text(&mut map, "description")?,
            kind: text(&mut map, "type")?.unwrap_or_else(|| "sum".into()),
            unit: text(&mut map, "unit")?,
            grain: text(&mut map, "grain")?.unwrap_or_else(|| "monthly".into()),
            table_name: table.or(table_name),
            tables: list(&mut map, "tables")?,
            expression: text(&mut map, "expression")?,
            time_column: text(&mut map, "time_column")?,
            dimensions: list(&mut map, "dimensions")?,
            filters: list(&mut map, "filters")?,
            synonyms: list(&mut map, "synonyms")?,
            notes: list(&mut map, "notes")?,
            sql: text(&mut map, "sql")?.unwrap_or_default(),
            sql_variants: BTreeMap::new(),
            validation: map.remove("validation").filter(|value| !value.is_null()),
            source: Some(SOURCE.to_string()),
        };
        let variants: Vec<String> =
            map.keys().filter(|key| key.len() > 4 && key.starts_with("sql_")).cloned().collect();
        for key in variants {
            if let Some(sql) = text(&mut map, &key)? {
                let variant = key.strip_prefix("sql_").unwrap_or(&key);
                metric.sql_variants.insert(variant.to_string(), sql);
            }
        }
        Ok((metric, map.into_iter().map(|(key, _)| key).collect()))
    };
    read().map_err(about)
}

/// Takes a text out; an empty one is none.
fn text(map: &mut Map<String, Value>, key: &str) -> Result<Option<String>> {
    match map.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(Value::Bool(flag)) => Ok(Some(flag.to_string())),
        Some(_) => {
            Err(Error::new(Kind::Invalid, format!("`{}` takes a text", crate::name::shown(key))))
        }
    }
}

/// Takes a list of texts out; one text is a list of one.
fn list(map: &mut Map<String, Value>, key: &str) -> Result<Vec<String>> {
    let wrong = || Error::new(Kind::Invalid, format!("`{key}` takes a list of texts"));
    let item = |value: Value| match value {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        _ => Err(wrong()),
    };
    match map.remove(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => items.into_iter().map(item).collect(),
        Some(one) => item(one).map(|one| vec![one]),
    }
}

impl Metric {
    /// Reads definitions: one mapping, or a list of them. `category` is that of those which name
    /// none.
    ///
    /// # Errors
    /// `Invalid` for what is no YAML or no metric, saying what is wrong.
    pub fn parse_yaml(text: &str, category: Option<&str>) -> Result<Vec<Metric>> {
        definitions(text, category)?
            .into_iter()
            .map(|definition| definition.map(|(metric, _)| metric))
            .collect()
    }

    /// The definition as YAML, which [`Metric::parse_yaml`] reads back.
    ///
    /// # Errors
    /// `Internal` for a text that YAML can't hold.
    pub fn to_yaml(&self) -> Result<String> {
        serde_saphyr::to_string(&Written(self))
            .map_err(|e| Error::internal("a metric can't be written as YAML").because(e))
    }
}

/// A metric in the order in which people read it, without what is absent.
struct Written<'m>(&'m Metric);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let Metric {
            id: _,
            name,
            category,
            display_name,
            description,
            kind,
            unit,
            grain,
            table_name,
            tables,
            expression,
            time_column,
            dimensions,
            filters,
            synonyms,
            notes,
            sql,
            sql_variants,
            validation,
            source: _,
        } = self.0;
        let mut map = s.serialize_map(None)?;
        let texts = [
            ("name", Some(name)),
            ("category", Some(category)),
            ("display_name", Some(display_name)),
            ("description", description.as_ref()),
            ("type", Some(kind)),
            ("unit", unit.as_ref()),
            ("grain", Some(grain)),
            ("table", table_name.as_ref()),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                map.serialize_entry(key, text)?;
            }
        }
        let lists = [
            ("tables", tables),
            ("dimensions", dimensions),
            ("filters", filters),
            ("synonyms", synonyms),
            ("notes", notes),
        ];
        for (key, list) in lists {
            if !list.is_empty() {
                map.serialize_entry(key, list)?;
            }
        }
        let texts = [("expression", expression), ("time_column", time_column)];
        for (key, text) in texts {
            if let Some(text) = text {
                map.serialize_entry(key, text)?;
            }
        }
        if !sql.is_empty() {
            map.serialize_entry("sql", sql)?;
        }
        for (variant, sql) in sql_variants {
            map.serialize_entry(&format!("sql_{variant}"), sql)?;
        }
        if let Some(validation) = validation {
            map.serialize_entry("validation", validation)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_and_defaults() {
        let text = "- name: revenue\n  table_name: orders\n  notes: one\n  sqlx: x\n  owner: ada\n\
                    - {name: b, category: other, type: ratio, sql: 5, tables: [a, 1], sql_by_month: SELECT 1}\n";
        let read = definitions(text, Some("sales")).unwrap();
        let (first, ignored) = read[0].as_ref().unwrap();
        assert_eq!((first.id.as_str(), first.display_name.as_str()), ("sales/revenue", "revenue"));
        assert_eq!((first.kind.as_str(), first.grain.as_str()), ("sum", "monthly"));
        assert_eq!(
            (first.table_name.as_deref(), &first.notes),
            (Some("orders"), &vec!["one".into()])
        );
        assert_eq!(ignored, &["owner", "sqlx"]);
        let (second, _) = read[1].as_ref().unwrap();
        assert_eq!((second.id.as_str(), second.sql.as_str()), ("other/b", "5"));
        assert_eq!(second.tables, ["a", "1"]);
        assert_eq!(second.sql_variants["by_month"], "SELECT 1");
    }

    #[test]
    fn what_is_no_metric_is_told() {
        for (text, told) in [
            ("name: [1", "no YAML"),
            ("just text", "mapping"),
            ("{category: a}", "needs a `name`"),
            ("name: a", "needs a `category`"),
            ("{name: ../a, category: b}", "can't be"),
            ("{name: a, category: b/c}", "can't be"),
            ("{name: a, category: b, sql: [x]}", "the metric `a`: `sql` takes a text"),
            ("{name: a, category: b, tables: [[x]]}", "`tables` takes a list"),
            ("{name: a, name: b}", "duplicate"),
        ] {
            let error = Metric::parse_yaml(text, None).unwrap_err();
            assert!(error.message().contains(told), "{text}: {error}");
        }
    }

    fn texts() -> impl Strategy<Value = String> {
        prop_oneof![
            "\\PC{1,40}",
            "[ -~\\n\\t#:\\-'\"|>&*!%@`{}\\[\\],?]{1,60}",
            Just("yes".to_string()),
            Just("~".to_string()),
            Just("1e3".to_string()),
            Just("0x10".to_string()),
            Just("  SELECT 1\n   FROM t\n\n\n".to_string()),
            Just("2026-01-01".to_string()),
        ]
    }

    proptest! {
        /// An export is read back as what was exported.
        #[test]
        fn an_export_is_the_inverse_of_an_import(
            one in texts(), two in texts(), list in prop::collection::vec(texts(), 0..4),
            sql in texts(), some in any::<bool>(),
        ) {
            let given = |text: &String| some.then(|| text.clone());
            let metric = Metric {
                id: "sales.eu/re-venue".into(),
                name: "re-venue".into(),
                category: "sales.eu".into(),
                display_name: one.clone(),
                description: given(&two),
                kind: two.clone(),
                unit: given(&one),
                grain: one.clone(),
                table_name: given(&two),
                tables: list.clone(),
                expression: given(&sql),
                time_column: given(&one),
                dimensions: list.clone(),
                filters: vec![sql.clone()],
                synonyms: Vec::new(),
                notes: list,
                sql_variants: [("by_month".to_string(), sql.clone()), ("by_x y".to_string(), one)].into(),
                sql,
                validation: some.then(|| serde_json::json!({"min": 0, "max": 1.5, "of": [two, null, true]})),
                source: Some(SOURCE.to_string()),
            };
            let yaml = metric.to_yaml().unwrap();
            let back = Metric::parse_yaml(&yaml, None);
            prop_assert_eq!(back.map_err(|e| format!("{e}\n{yaml}")).unwrap(), vec![metric], "{}", yaml);
        }
    }
}
