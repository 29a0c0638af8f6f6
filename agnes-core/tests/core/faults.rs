//! Every write of publishing fails once: what was there stays, and the message says why.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agnes_core::disk::Disk;
use agnes_core::extract::{Extract, ExtractWriter, WriteMode};
use agnes_core::{Agnes, Components, Error, Kind, NoProgress, TableName, Timestamp};

use crate::support::{Place, foreign_at, left_out, outside, query, rebuild, table};

const FULL: i32 = 28;
const IO: i32 = 5;
const ACCESS: i32 = 13;

/// A disk whose step number `at` fails with `errno`, and the number of steps so far.
fn failing(at: usize, errno: i32) -> (Disk, Arc<AtomicUsize>) {
    let steps = Arc::new(AtomicUsize::new(0));
    let count = steps.clone();
    let disk = Disk::faulty(move |_, _| match count.fetch_add(1, Ordering::Relaxed) == at {
        true => Err(io::Error::from_raw_os_error(errno)),
        false => Ok(()),
    });
    (disk, steps)
}

/// Runs `work` with each of its steps failing once. `work` says whether it went well, and
/// `after` looks at what is left.
fn each_step(
    errno: i32,
    mut work: impl FnMut(usize, Disk) -> Result<(), Error>,
    mut after: impl FnMut(usize, bool),
) {
    for at in 0..1000 {
        let (disk, steps) = failing(at, errno);
        let done = work(at, disk);
        if let Err(error) = &done {
            assert_eq!(error.kind(), Kind::Unavailable, "step {at}: {error:?}");
            assert!(error.message().starts_with("can't "), "step {at}: {error}");
        }
        after(at, done.is_ok());
        if steps.load(Ordering::Relaxed) <= at {
            assert!(at > 5, "only {at} steps were seen");
            return;
        }
    }
    panic!("there is no end of steps");
}

fn version(place: &Place, version: usize) {
    let both = table("a", &format!("SELECT {version} AS v"))
        + &table("b", &format!("SELECT {version} AS v"))
        + &format!(
            "CREATE TABLE c AS SELECT {version} AS v; INSERT INTO _meta (table_name) VALUES ('c');"
        );
    foreign_at(&place.extract("s"), &both);
}

#[test]
fn a_rebuild_on_a_full_disk_leaves_the_old_generation() {
    rebuild_with(FULL);
}

#[test]
fn a_rebuild_on_a_broken_disk_leaves_the_old_generation() {
    rebuild_with(IO);
}

#[test]
fn a_rebuild_that_may_not_write_leaves_the_old_generation() {
    rebuild_with(ACCESS);
}

fn rebuild_with(errno: i32) {
    let place = Place::new();
    version(&place, 0);
    rebuild(&place.agnes());
    let mut published = 0;
    each_step(
        errno,
        |at, disk| {
            version(&place, at + 1);
            let components = Components { disk, ..Components::default() };
            let agnes = Agnes::open_with(place.data(), Default::default(), components)?;
            agnes.rebuild(None, &NoProgress).map(|report| {
                assert!(report.is_complete(), "{}", left_out(&report));
            })
        },
        |at, done| {
            let agnes = place.agnes();
            let sql = "SELECT format('{} {} {}', (SELECT v FROM a), (SELECT v FROM b), (SELECT v FROM c))";
            let ours = query(&agnes, sql);
            let old = format!("{published} {published} {published}");
            let new = format!("{0} {0} {0}", at + 1);
            // After the commit point a failure leaves the new one, complete.
            assert!(ours == new || (!done && ours == old), "step {at}: {ours}");
            let theirs = outside(&agnes, sql);
            assert!(theirs == new || theirs == old, "step {at}: {theirs} for outside readers");
            if ours == new {
                published = at + 1;
            }
            // The next rebuild succeeds, and brings everything up to date.
            let report = rebuild(&agnes);
            assert!(report.is_complete(), "{}", left_out(&report));
            published = published.max(at + 1);
            assert_eq!(outside(&agnes, sql), new, "step {at}");
            let states = agnes.store().unwrap().sync_states().unwrap();
            assert_eq!(states.len(), 3);
        },
    );
}

#[test]
fn a_writer_whose_disk_fails_leaves_the_old_extract() {
    let place = Place::new();
    let folder = place.extract("s");
    let name = |text: &str| TableName::parse(text).unwrap();
    let write = |version: usize, disk: Disk| -> Result<(), Error> {
        let mut writer =
            ExtractWriter::begin_on(&folder, WriteMode::Partial, Timestamp::EPOCH, disk)?;
        for table in ["a", "b"] {
            let sql = format!("SELECT {version} AS v FROM range({})", version + 1);
            writer.table_from_sql(&name(table), &sql)?;
        }
        writer.finish().map(drop)
    };
    write(0, Disk::real()).unwrap();
    let mut version = 0;
    each_step(
        FULL,
        |at, disk| write(at + 1, disk),
        |at, done| {
            let extract = Extract::open(&folder).unwrap();
            let rows: Vec<u64> = extract.tables().iter().map(|t| t.rows()).collect();
            let (old, new) = (version as u64 + 1, at as u64 + 2);
            assert!(rows == [new, new] || (!done && rows == [old, old]), "step {at}: {rows:?}");
            version = rows[0] as usize - 1;
        },
    );
}
