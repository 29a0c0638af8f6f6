//! The guard as random statements meet it (`fuzz/guard.rs`), built with `--cfg fuzzing` alone.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;

use duckdb::Connection;
use serde_json::Value;

use super::checked::check;
use super::functions::{self, Verdict};
use super::guard;
use super::house::House;
use crate::{engine, sql};

/// What the plan of a query over tables consists of, without the optimizer.
const OPERATORS: &[&str] = &[
    "ASOF_JOIN",
    "BLOCKWISE_NL_JOIN",
    "COLUMN_DATA_SCAN",
    "CROSS_PRODUCT",
    "CTE",
    "CTE_SCAN",
    "DELIM_SCAN",
    "DUMMY_SCAN",
    "EMPTY_RESULT",
    "EXPRESSION_SCAN",
    "FILTER",
    "HASH_GROUP_BY",
    "HASH_JOIN",
    "IE_JOIN",
    "LEFT_DELIM_JOIN",
    "LIMIT",
    "LIMIT_PERCENT",
    "NESTED_LOOP_JOIN",
    "ORDER_BY",
    "PARTITIONED_AGGREGATE",
    "PERFECT_HASH_GROUP_BY",
    "PIECEWISE_MERGE_JOIN",
    "PIVOT",
    "POSITIONAL_JOIN",
    "POSITIONAL_SCAN",
    "PRAGMA_SHOW",
    "PROJECTION",
    "REC_CTE",
    "REC_CTE_SCAN",
    "REC_KEY_CTE",
    "REC_REC_CTE_SCAN",
    "RESERVOIR_SAMPLE",
    "RIGHT_DELIM_JOIN",
    "SEQ_SCAN",
    "STREAMING_LIMIT",
    "STREAMING_SAMPLE",
    "STREAMING_WINDOW",
    "TOP_N",
    "UNGROUPED_AGGREGATE",
    "UNION",
    "UNNEST",
    "WINDOW",
];
/// And of one over lists of tables and columns.
const OF_THE_CATALOG: &[&str] =
    &["DUCKDB_COLUMNS", "DUCKDB_CONSTRAINTS", "DUCKDB_SCHEMAS", "DUCKDB_TABLES", "DUCKDB_VIEWS"];

/// The visible tables. What is hidden isn't there, and named by nothing that the guard accepts.
const TABLES: &str = "
CREATE TABLE rows_of_orders (id INTEGER, customer VARCHAR, amount DECIMAL(10, 2), day DATE,
    tags VARCHAR[], info VARCHAR);
CREATE TABLE rows_of_customers (id INTEGER, name VARCHAR, country VARCHAR);
CREATE VIEW orders AS FROM rows_of_orders;
CREATE VIEW customers AS FROM rows_of_customers;
";

/// The guard, and an engine in which it alone keeps something hidden.
#[allow(missing_debug_implementations)]
pub struct Guard {
    house: House,
    parser: Connection,
    planner: Connection,
}

impl Guard {
    /// Opens both.
    pub fn open() -> Guard {
        let house = House::new();
        let limits = engine::Limits { memory_bytes: 256 << 20, threads: 1 };
        let parser = engine::in_memory(&limits).unwrap();
        let planner = engine::in_memory(&limits).unwrap();
        planner.execute_batch(TABLES).unwrap();
        planner.execute_batch("PRAGMA disable_optimizer").unwrap();
        engine::run(&planner, "open", &sql::bounds()).unwrap();
        engine::run(&planner, "lock", &sql::lock::<&str>(&[]).unwrap()).unwrap();
        Guard { house, parser, planner }
    }

    /// The names of all functions.
    pub fn functions(&self) -> Vec<String> {
        let text = "SELECT DISTINCT function_name FROM duckdb_functions() ORDER BY 1";
        let mut names = self.parser.prepare(text).unwrap();
        let names = names.query_map([], |row| row.get(0)).unwrap();
        names.map(Result::unwrap).collect()
    }

    /// What is wrong with how a statement was judged, if anything.
    pub fn fault(&self, text: &str) -> Option<String> {
        let checked = guard::explained(text).and_then(|query| {
            let query = query.unwrap_or(text);
            Ok((query, check(&self.house.shown, &self.parser, query, &[])?))
        });
        let (query, checked) = match checked {
            Ok(checked) => checked,
            Err(error) if error.kind() == crate::Kind::Internal => {
                return Some(format!("the parser: {error}"));
            }
            Err(_) => return None,
        };
        let text = format!("EXPLAIN (FORMAT json) {query}");
        let plan = self.planner.query_row(&text, [], |row| row.get::<_, String>(1));
        let plan: Value = match plan {
            Ok(plan) => {
                // Hundreds of UNIONs are a tree of hundreds of levels.
                let mut reader = serde_json::Deserializer::from_str(&plan);
                reader.disable_recursion_limit();
                serde::Deserialize::deserialize(&mut reader).unwrap()
            }
            Err(error) => {
                let said = engine::message(&error);
                let is_fault = ["Permission", "INTERNAL", "FATAL", "IO Error"];
                let is_fault = is_fault.iter().any(|fault| said.starts_with(fault));
                return (is_fault || said.contains("Table with name")).then_some(said);
            }
        };
        let tables = checked.names().iter();
        let tables = tables.map(|name| format!("memory.main.rows_of_{name}").to_lowercase());
        fault_of(&plan, &tables.collect(), checked.lists())
    }
}

/// What a plan does that it shouldn't.
fn fault_of(plan: &Value, tables: &BTreeSet<String>, lists: bool) -> Option<String> {
    let of = |key: &str| plan.pointer(key).and_then(Value::as_str).map(str::trim);
    let name = match of("/name") {
        // A table function of a lateral join.
        Some("INOUT_FUNCTION") => Some(of("/extra_info/Name").unwrap_or_default()),
        name => name,
    };
    if let Some(name) = name
        && !OPERATORS.contains(&name)
        && !matches!(functions::table_function(&name.to_lowercase()), Verdict::Allowed(_))
        && !(lists && OF_THE_CATALOG.contains(&name))
    {
        return Some(format!("the plan has {name}"));
    }
    if let Some(table) = of("/extra_info/Table")
        && !tables.contains(&table.to_lowercase())
    {
        return Some(format!("the plan reads {table}"));
    }
    let children = plan.get("children").unwrap_or(plan).as_array();
    children.into_iter().flatten().find_map(|child| fault_of(child, tables, lists))
}
