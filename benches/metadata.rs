//! The figures of `benches/README.md` about what is known of remote tables: `make bench
//! BENCH=metadata`.
#![allow(missing_docs)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use agnes_benches::{fill, line, median, place, sections, shown, timed};
use agnes_core::access::Principal;
use agnes_core::metadata::{
    Address, MetadataProvider, MetadataProviders, Refresh, TableMetadata, Which,
};
use agnes_core::{Agnes, Components, Result, Settings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Answers at once.
struct AtOnce;

impl MetadataProvider for AtOnce {
    fn metadata(&self, _: &Address) -> Result<Option<TableMetadata>> {
        Ok(Some(TableMetadata {
            rows: Some(1_000_000),
            size_bytes: Some(1 << 30),
            partition_by: Some("day".into()),
            clustered_by: Some(vec!["customer".into()]),
            entity_type: Some("BASE TABLE".into()),
            known_columns: Some((0..20).map(|at| format!("column_{at}")).collect()),
        }))
    }
}

fn main() {
    sections(&[("metadata", measure)]);
}

fn measure() {
    let home = place("metadata");
    fill(
        &home,
        "INSERT INTO table_registry (id, name, source_name, source_type, bucket, query_mode, sync_strategy, is_public, registered_at)
           SELECT 'table_' || i, 'table_' || i, 'wh', 'warehouse', 'sales', 'remote', 'full_refresh', false, now()::TIMESTAMP FROM range(10000) t(i);",
    );
    let metadata_providers = MetadataProviders::default().of_type("warehouse", Arc::new(AtOnce));
    let components = Components { metadata_providers, ..Components::default() };
    let agnes = Agnes::open_with(&home, Settings::default(), components).expect("the folder opens");
    let operator = &Principal::Operator;
    agnes.metadata_status(operator).expect("the cache opens");
    let mut refreshes = Vec::new();
    for _ in 0..7 {
        let begun = Instant::now();
        let refresh = agnes.refresh_metadata(operator, Which::All).expect("it refreshes");
        refreshes.push(begun.elapsed());
        assert!(matches!(refresh, Refresh::Done(report) if report.succeeded == 10_000));
    }
    line(
        "refresh the metadata of 10,000 tables, 20 columns each",
        shown(median(refreshes)),
        "≤ 1 s",
    );
    let status = timed(50, 1, || {
        let status = agnes.metadata_status(operator).expect("it is known");
        assert_eq!(black_box(status).tables.len(), 10_000);
    });
    line("the status of 10,000 tables", shown(status), "≤ 5 ms");
    let json = timed(20, 1, || {
        let status = agnes.metadata_status(operator).expect("it is known");
        black_box(serde_json::to_vec(&status).expect("it is JSON").len());
    });
    line("the same as JSON", shown(json), "-");
}
