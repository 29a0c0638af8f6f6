//! The statements about remote systems: how one is attached, and what its catalog says.

use super::{Sql, ident, literal, quoted};
use crate::{AttachAlias, ColumnName, ExtensionName, TokenEnv};

/// A view over a remote table: `SELECT * FROM alias."schema"."table"`.
pub(crate) fn select_remote(alias: &AttachAlias, path: &[ColumnName]) -> Sql {
    Sql(format!("SELECT * FROM {}", remote_table(alias, path)))
}

/// The names in a query that is [`select_remote`], however they are written; none for any other.
pub(crate) fn remote_path(query: &str) -> Option<Vec<String>> {
    const FROM: &str = "SELECT * FROM ";
    let mut rest = query
        .trim()
        .get(..FROM.len())
        .filter(|s| s.eq_ignore_ascii_case(FROM))
        .and(query.trim().get(FROM.len()..))?;
    let mut path = Vec::new();
    loop {
        let mut name = String::new();
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut at = quoted;
            loop {
                let (part, after) = at.split_once('"')?;
                name.push_str(part);
                match after.strip_prefix('"') {
                    Some(more) => {
                        name.push('"');
                        at = more;
                    }
                    None => {
                        rest = after;
                        break;
                    }
                }
            }
        } else {
            let end =
                rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let (bare, after) = rest.split_at_checked(end)?;
            name.push_str(bare);
            rest = after;
        }
        if name.is_empty() {
            return None;
        }
        path.push(name);
        match rest.strip_prefix('.') {
            Some(more) => rest = more,
            None => return rest.is_empty().then_some(path),
        }
    }
}

/// Schema, name, estimated rows and definition of each table of an attached system.
pub(crate) const CATALOG_TABLES: &str = "SELECT schema_name, table_name, estimated_size, sql \
     FROM duckdb_tables() WHERE lower(database_name) = lower(?)";
/// The same of its views, of whose rows nothing is known.
pub(crate) const CATALOG_VIEWS: &str = "SELECT schema_name, view_name, NULL::BIGINT, sql \
     FROM duckdb_views() WHERE lower(database_name) = lower(?)";
/// Schema, table and name of each of its columns, in order.
pub(crate) const CATALOG_COLUMNS: &str = "SELECT schema_name, table_name, column_name \
     FROM duckdb_columns() WHERE lower(database_name) = lower(?) ORDER BY column_index";
/// What kind of system it is.
pub(crate) const CATALOG_TYPE: &str =
    "SELECT type FROM duckdb_databases() WHERE lower(database_name) = lower(?)";

fn remote_table(alias: &AttachAlias, path: &[ColumnName]) -> String {
    let parts = path.iter().map(ident);
    std::iter::once(ident(alias)).chain(parts).collect::<Vec<_>>().join(".")
}

/// The rows of a table in an attached DuckDB database, which it knows without reading them.
pub(crate) fn count_remote(alias: &AttachAlias, path: &[ColumnName]) -> Sql {
    Sql(format!("SELECT count(*) FROM {}", remote_table(alias, path)))
}

/// The bytes of the blocks that hold a table in an attached DuckDB database.
pub(crate) fn remote_bytes(alias: &AttachAlias, path: &[ColumnName]) -> Sql {
    let table = literal(&remote_table(alias, path));
    let alias = literal(alias.as_str());
    Sql(format!(
        "SELECT (SELECT count(DISTINCT block) FROM (SELECT unnest(list_append(additional_block_ids, \
         block_id)) AS block FROM pragma_storage_info({table}) WHERE persistent) WHERE block >= 0) \
         * (SELECT block_size FROM pragma_database_size() WHERE lower(database_name) = lower({alias}))"
    ))
}

/// What attaching a remote system takes, in the order in which it runs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct AttachStatements {
    /// Fetches the extension; at a rebuild only, and only where the policy says so.
    pub(crate) install: Option<Sql>,
    /// Loads the extension, unless it is built in.
    pub(crate) load: Option<Sql>,
    /// Makes the token known to the engine. Its one `?` is the token.
    pub(crate) secret: Option<Sql>,
    /// Attaches; names the secret, never the token.
    pub(crate) attach: Sql,
}

/// How the extensions that Agnes knows take a token and an address.
///
/// The token goes into a secret of the session, never into the text of an ATTACH, which
/// `duckdb_databases()` and error messages would show.
pub(crate) fn attach_remote(
    alias: &AttachAlias,
    extension: &ExtensionName,
    url: &str,
    token: Option<&TokenEnv>,
    community: bool,
) -> AttachStatements {
    let kind = extension.as_str().to_ascii_lowercase();
    let name = ident(extension);
    let built_in = kind == "duckdb";
    let (secret_type, parameter) = match (kind.as_str(), token.map(TokenEnv::as_str)) {
        // The variable that Google's own libraries read holds a path.
        ("bigquery", Some("GOOGLE_APPLICATION_CREDENTIALS")) => {
            (kind.as_str(), "SERVICE_ACCOUNT_PATH")
        }
        ("bigquery", _) => (kind.as_str(), "ACCESS_TOKEN"),
        ("postgres" | "mysql", _) => (kind.as_str(), "PASSWORD"),
        ("duckdb", _) => ("http", "BEARER_TOKEN"),
        _ => (kind.as_str(), "TOKEN"),
    };
    let prefix = if kind == "bigquery" { "bq_secret_" } else { "agnes_" };
    let secret_name = quoted(&format!("{prefix}{}", alias.as_str().to_ascii_lowercase()));
    // Keboola takes the address from the secret; BigQuery and HTTP find theirs by scope.
    let url_in_secret = kind == "keboola" && token.is_some();
    let named = token.is_some() && !matches!(kind.as_str(), "bigquery" | "duckdb");
    let secret = token.map(|_| {
        let url = if url_in_secret { format!(", URL {}", literal(url)) } else { String::new() };
        Sql(format!(
            "CREATE OR REPLACE TEMPORARY SECRET {secret_name} (TYPE {secret_type}, {parameter} ?{url})"
        ))
    });
    let by_secret = if named { format!(", SECRET {secret_name}") } else { String::new() };
    AttachStatements {
        install: (!built_in && community).then(|| Sql(format!("INSTALL {name} FROM community"))),
        load: (!built_in).then(|| Sql(format!("LOAD {name}"))),
        secret,
        attach: Sql(format!(
            "ATTACH {} AS {} (TYPE {name}{by_secret}, READ_ONLY)",
            if url_in_secret { "''".to_string() } else { literal(url) },
            ident(alias)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remote_rows_run() {
        let mut shown = String::new();
        for (alias, extension, url, token, community) in [
            ("kbc", "keboola", "https://connection.keboola.com", Some("KBC_TOKEN"), true),
            ("bq", "bigquery", "project=my-project-1", Some("BQ_TOKEN"), true),
            ("bq", "bigquery", "project=p", Some("GOOGLE_APPLICATION_CREDENTIALS"), true),
            ("bq", "bigquery", "project=my-project-1", None, true),
            (
                "pg",
                "postgres",
                "host=db.example dbname=shop user=reader",
                Some("PG_PASSWORD"),
                false,
            ),
            ("lite", "sqlite", "/srv/it's here.db", None, false),
            ("other", "duckdb", "/srv/other.duckdb", None, false),
        ] {
            let token = token.map(|t| TokenEnv::parse(t).unwrap());
            let statements = attach_remote(
                &AttachAlias::parse(alias).unwrap(),
                &ExtensionName::parse(extension).unwrap(),
                url,
                token.as_ref(),
                community,
            );
            let all =
                [statements.install, statements.load, statements.secret, Some(statements.attach)];
            for sql in all.into_iter().flatten() {
                shown.push_str(sql.as_str());
                shown.push_str(";\n");
            }
            shown.push('\n');
        }
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn a_remote_path_is_read_as_it_is_written() {
        let alias = AttachAlias::parse("far").unwrap();
        for names in [vec!["orders"], vec!["sales", "Or\"ders.x"], vec!["a b", "c"]] {
            let path: Vec<ColumnName> =
                names.iter().map(|n| ColumnName::parse(*n).unwrap()).collect();
            let read = remote_path(select_remote(&alias, &path).as_str()).unwrap();
            assert_eq!(read, [&["far"], names.as_slice()].concat());
        }
        assert_eq!(remote_path("select * from far.sales.orders").unwrap().len(), 3);
        for other in [
            "SELECT id FROM far.sales.orders",
            "SELECT * FROM far.sales.orders WHERE true",
            "SELECT * FROM far.sales.orders, x",
            "SELECT * FROM far.",
            "SELECT * FROM \"far",
            "SELECT * FROM ",
            "",
        ] {
            assert_eq!(remote_path(other), None, "{other}");
        }
    }
}
