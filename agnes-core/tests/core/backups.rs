//! Backups, taken and given back while others work.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use agnes_core::access::{NewToken, Principal};
use agnes_core::disk::{Disk, Step};
use agnes_core::{Agnes, Components, Key, Kind, Secret, Settings};

use super::access::{group, resource, user};
use super::support::{Place, ingest, query_error, rebuild};

const OPERATOR: &Principal = &Principal::Operator;

fn addresses(agnes: &Agnes) -> BTreeSet<String> {
    let access = agnes.access().unwrap();
    let users = access.admin(OPERATOR).unwrap().users();
    users.into_iter().map(|overview| overview.user.email.to_string()).collect()
}

#[test]
fn what_is_given_back_is_what_was_taken() {
    let place = Place::new();
    let csv = place.write("orders.csv", "id\n1\n2\n");
    let agnes = place.agnes();
    ingest(&agnes, "shop", &[&csv]);
    rebuild(&agnes);
    let access = agnes.access().unwrap();
    let admin = access.admin(OPERATOR).unwrap();
    let (ada, bob) = (user(&admin, "ada@example.com"), user(&admin, "bob@example.com"));
    let sales = group(&admin, "sales");
    admin.add_member(&sales.id, &ada.id).unwrap();
    admin.add_member(&sales.id, &bob.id).unwrap();
    admin.grant(&sales.id, resource("table:orders")).unwrap();
    let (_, token) = admin.create_token(&ada.id, NewToken::named("laptop")).unwrap();
    let hers = access.session_token(&ada.id, serde_json::Map::new()).unwrap();
    place.write("data/state/instance.yaml", "instance: {name: then}\n");
    place.write("data/user_artifacts/x/notes.md", "hers");
    let file = place.path("monday.tar.zst");
    let backup = agnes.back_up(&file).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let listed: Vec<&str> = backup.files.keys().map(|name| name.as_str()).collect();
    assert_eq!(
        listed,
        [
            "state/.jwt_secret",
            "state/instance.yaml",
            "state/system.duckdb",
            "user_artifacts/x/notes.md",
        ]
    );

    // Everything changes, but for what Bob may see.
    let session = agnes.session_for(&Principal::user(bob.id.clone())).unwrap();
    admin.remove_user(&ada.id).unwrap();
    user(&admin, "eve@example.com");
    place.write("data/state/instance.yaml", "instance: {name: now}\n");
    place.write("data/state/.env_overlay", "A=1\n");
    place.write("data/user_artifacts/x/notes.md", "another's");
    fs::write(place.path("data/state/.jwt_secret"), "x".repeat(64)).unwrap();
    assert!(access.authenticate(token.expose(), None).is_err());

    let restored = agnes.restore(&file).unwrap();
    assert_eq!(restored.backup, backup);
    let both = ["ada@example.com", "bob@example.com"].map(str::to_string);
    assert_eq!(addresses(&agnes), both.into());
    // The key is that of the backup.
    let who = access.authenticate(token.expose(), None).unwrap();
    assert!(access.decide(&who, &resource("table:orders")).is_allowed());
    assert!(access.authenticate(hers.expose(), None).is_err(), "every session ends");
    let ended = query_error(&session, "FROM orders");
    assert_eq!(ended.context(Key::Reason), Some("session_ended"));
    let now = agnes.session_for(&Principal::user(ada.id.clone())).unwrap();
    assert!(now.query("FROM orders", &Default::default()).is_ok());
    let read = |name: &str| fs::read_to_string(place.path(name)).ok();
    assert_eq!(read("data/state/instance.yaml").unwrap(), "instance: {name: then}\n");
    assert_eq!(read("data/user_artifacts/x/notes.md").unwrap(), "hers");
    assert_eq!(read("data/state/.env_overlay"), None, "the backup has none");
    // The handle goes on, and so does the next process.
    user(&access.admin(OPERATOR).unwrap(), "cyd@example.com");
    rebuild(&agnes);
    let before = restored.before.unwrap();
    drop((now, session));
    drop((access, agnes));
    let agnes = place.agnes();
    assert_eq!(addresses(&agnes).len(), 3);
    let events = agnes.access().unwrap().admin(OPERATOR).unwrap().audit(100).unwrap();
    assert!(events.iter().any(|event| event.action == "backup.restored"));
    // What was there before is a backup, too.
    let second = agnes.restore(&before).unwrap();
    assert_eq!(
        addresses(&agnes),
        ["bob@example.com", "eve@example.com"].map(str::to_string).into()
    );
    assert!(before.exists() && second.before.unwrap() != before, "nothing that was kept goes");
    assert_eq!(read("data/state/.env_overlay").unwrap(), "A=1\n");
    assert_eq!(left_over(&place), Vec::<String>::new());
}

/// What a backup or a restore has left lying about.
fn left_over(place: &Place) -> Vec<String> {
    let entries = ["data", "data/state"].map(|folder| fs::read_dir(place.path(folder)).unwrap());
    let names = entries.into_iter().flatten();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(".backup-") || name.ends_with(".tmp")).collect()
}

#[test]
fn a_cookie_that_was_ended_does_not_come_back() {
    let place = Place::new();
    let agnes = place.agnes();
    let access = agnes.access().unwrap();
    let admin = access.admin(OPERATOR).unwrap();
    let ada = user(&admin, "ada@example.com");
    let sign_in = || access.session_token(&ada.id, serde_json::Map::new()).unwrap();
    let stolen = sign_in();
    let file = place.path("monday.tar.zst");
    agnes.back_up(&file).unwrap();
    admin.set_password(&ada.id, &Secret::new("correct horse")).unwrap();
    let cookies = [stolen, sign_in()];
    agnes.restore(&file).unwrap();
    let holds = |agnes: &Agnes, cookie: &Secret| {
        agnes.access().unwrap().authenticate(cookie.expose(), None).is_ok()
    };
    assert!(cookies.iter().all(|cookie| !holds(&agnes, cookie)));
    let after = sign_in();
    assert!(holds(&agnes, &after));
    // Nor does the file that was given back let them in.
    drop((access, agnes));
    let agnes = place.agnes();
    assert!(cookies.iter().all(|cookie| !holds(&agnes, cookie)) && holds(&agnes, &after));
}

/// A disk whose steps fail as `fault` says.
fn on_disk(
    place: &Place,
    fault: impl Fn(Step, &Path) -> io::Result<()> + Send + Sync + 'static,
) -> Agnes {
    let components = Components { disk: Disk::faulty(fault), ..Components::default() };
    Agnes::open_with(place.data(), Settings::default(), components).unwrap()
}

fn is_of_uploads(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "user_artifacts")
}

#[test]
fn uploads_may_lie_on_another_file_system() {
    const CROSSES: i32 = 18;
    let place = Place::new();
    let crossed = Mutex::new(BTreeSet::<PathBuf>::new());
    let agnes = on_disk(&place, move |step, path| {
        let crosses = step == Step::Rename
            && is_of_uploads(path)
            && crossed.lock().unwrap().insert(path.to_path_buf());
        match crosses {
            true => Err(io::Error::from_raw_os_error(CROSSES)),
            false => Ok(()),
        }
    });
    let notes = place.write("data/user_artifacts/x/notes.md", "hers");
    let file = place.path("monday.tar.zst");
    agnes.back_up(&file).unwrap();
    fs::remove_dir_all(place.path("data/user_artifacts")).unwrap();
    agnes.restore(&file).unwrap();
    assert_eq!(fs::read_to_string(&notes).unwrap(), "hers");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let folder = notes.parent().unwrap();
    assert_eq!((mode(&notes), mode(folder)), (0o600, 0o700), "as uploads make them");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
    assert_eq!(left_over(&place), Vec::<String>::new());
}

#[test]
fn a_restore_that_fails_half_way_takes_nothing_away() {
    let place = Place::new();
    let broken = Arc::new(AtomicBool::new(false));
    let is_broken = broken.clone();
    let agnes = on_disk(&place, move |step, path| {
        match step == Step::Rename && is_of_uploads(path) && is_broken.load(Ordering::SeqCst) {
            true => Err(io::Error::from_raw_os_error(5)),
            false => Ok(()),
        }
    });
    let add = |address: &str| {
        user(&agnes.access().unwrap().admin(OPERATOR).unwrap(), address);
    };
    add("ada@example.com");
    place.write("data/user_artifacts/x/notes.md", "hers");
    let file = place.path("monday.tar.zst");
    agnes.back_up(&file).unwrap();
    add("eve@example.com");
    let later = place.write("data/user_artifacts/x/later.md", "hers, too");
    broken.store(true, Ordering::SeqCst);
    let error = agnes.restore(&file).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert!(error.message().contains("before-restore-"), "{error}");
    assert_eq!(addresses(&agnes).len(), 2, "the system database comes after what may fail");
    assert!(later.exists(), "what is to go goes last");
    broken.store(false, Ordering::SeqCst);
    agnes.restore(&file).unwrap();
    assert_eq!(addresses(&agnes).len(), 1);
    assert!(!later.exists());
    assert_eq!(left_over(&place), Vec::<String>::new());
}

#[test]
fn what_comes_after_the_backup_of_a_restore_stays() {
    let place = Place::new();
    let late = place.path("data/user_artifacts/x/late.md");
    let path = late.clone();
    let agnes = on_disk(&place, move |step, to| {
        // What was there is written; somebody uploads something.
        if step == Step::Rename && to.to_string_lossy().contains("before-restore-") {
            fs::create_dir_all(path.parent().unwrap())?;
            fs::write(&path, "hers")?;
        }
        Ok(())
    });
    let file = place.path("monday.tar.zst");
    agnes.back_up(&file).unwrap();
    agnes.restore(&file).unwrap();
    assert!(late.exists(), "no backup has it");
}

#[test]
fn a_folder_in_the_place_of_a_file_is_said_before_anything_is_touched() {
    let place = Place::new();
    let agnes = place.agnes();
    place.write("data/user_artifacts/x/notes.md", "hers");
    let file = place.path("monday.tar.zst");
    agnes.back_up(&file).unwrap();
    let notes = place.path("data/user_artifacts/x/notes.md");
    let refused = |what: &str| {
        let error = agnes.restore(&file).unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict, "{error}");
        assert!(error.message().contains(what), "{error}");
        let state = fs::read_dir(place.path("data/state")).unwrap();
        let mut names = state.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(!names.any(|name| name.starts_with("before-restore-")));
    };
    fs::remove_file(&notes).unwrap();
    fs::create_dir(&notes).unwrap();
    refused("is a folder");
    fs::remove_dir_all(place.path("data/user_artifacts/x")).unwrap();
    place.write("data/user_artifacts/x", "a file");
    refused("is no folder");
}

#[test]
fn what_can_not_be_in_a_backup_is_named_and_stays() {
    use std::os::unix::ffi::OsStrExt as _;
    let place = Place::new();
    let agnes = place.agnes();
    place.write("data/user_artifacts/x/notes.md", "hers");
    let half = place.write("data/user_artifacts/x/.5b0f6a2e", "ha");
    let deep = place.write("data/user_artifacts/a/b/c/d/deep.md", "deep");
    let link = place.path("data/user_artifacts/x/link");
    std::os::unix::fs::symlink("notes.md", &link).unwrap();
    let odd = place.path("data/user_artifacts").join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    fs::write(&odd, "odd").unwrap();
    let file = place.path("monday.tar.zst");
    let backup = agnes.back_up(&file).unwrap();
    let listed: Vec<&str> = backup.files.keys().map(|name| name.as_str()).collect();
    assert_eq!(listed, ["state/system.duckdb", "user_artifacts/x/notes.md"]);
    let skipped = ["user_artifacts/a/b/c/d", "user_artifacts/caf\u{fffd}", "user_artifacts/x/link"];
    assert_eq!(backup.skipped, skipped);
    assert_eq!(agnes.inspect(&file).unwrap(), backup);
    agnes.restore(&file).unwrap();
    for left in [half, deep, link, odd] {
        assert!(left.symlink_metadata().is_ok(), "{}", left.display());
    }
    // What can't be looked into is no folder without files.
    place.write("data/user_sessions", "a file");
    assert_eq!(agnes.back_up(&file).unwrap_err().kind(), Kind::Unavailable);
}

#[test]
fn a_backup_holds_no_other_and_a_restore_takes_none_away() {
    let place = Place::new();
    let agnes = place.agnes();
    let files = ["monday", "tuesday"].map(|day| place.path(&format!("data/state/{day}.tar.zst")));
    for file in &files {
        let backup = agnes.back_up(file).unwrap();
        assert_eq!(backup.files.len(), 1, "{:?}", backup.files);
    }
    agnes.restore(&files[0]).unwrap();
    assert!(files.iter().all(|file| file.exists()));
}

#[test]
fn looking_at_a_backup_opens_no_folder_to_others() {
    let place = Place::new();
    let file = place.path("monday.tar.zst");
    place.agnes().back_up(&file).unwrap();
    let elsewhere = Place::new();
    let agnes = elsewhere.agnes();
    agnes.inspect(&file).unwrap();
    let state = fs::metadata(elsewhere.path("data/state")).unwrap();
    assert_eq!(state.permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_backup_beside_writers_holds_what_was_acknowledged_before() {
    let place = Place::new();
    let agnes = place.agnes();
    let access = agnes.access().unwrap();
    let (done, backed_up) = (AtomicBool::new(false), place.path("during.tar.zst"));
    let mut written = Vec::new();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let admin = access.admin(OPERATOR).unwrap();
            let mut written = Vec::new();
            while !done.load(Ordering::SeqCst) {
                let address = format!("user{}@example.com", written.len());
                user(&admin, &address);
                written.push(address);
            }
            written
        });
        for _ in 0..5 {
            let before = addresses(&agnes);
            agnes.back_up(&backed_up).unwrap();
            let elsewhere = Place::new().agnes_of(&backed_up);
            let after = addresses(&agnes);
            assert!(before.is_subset(&elsewhere), "what was acknowledged is in it");
            assert!(elsewhere.is_subset(&after), "and nothing that never was");
        }
        done.store(true, Ordering::SeqCst);
        written = writer.join().unwrap();
    });
    drop((access, agnes));
    // The copies took nothing from whoever wrote meanwhile.
    assert_eq!(addresses(&place.agnes()), written.into_iter().collect());
}

trait Elsewhere {
    fn agnes_of(&self, backup: &Path) -> BTreeSet<String>;
}

impl Elsewhere for Place {
    /// Who is in a backup, given back on another machine.
    fn agnes_of(&self, backup: &Path) -> BTreeSet<String> {
        let agnes = self.agnes();
        assert_eq!(agnes.restore(backup).unwrap().before, None);
        addresses(&agnes)
    }
}

#[test]
fn what_is_no_backup_or_was_changed_changes_nothing() {
    let place = Place::new();
    let agnes = place.agnes();
    user(&agnes.access().unwrap().admin(OPERATOR).unwrap(), "ada@example.com");
    let file = place.path("good.tar.zst");
    agnes.back_up(&file).unwrap();
    let good = fs::read(&file).unwrap();
    user(&agnes.access().unwrap().admin(OPERATOR).unwrap(), "bob@example.com");
    let refused = |bytes: &[u8], what: &str| {
        let path = place.write("bad.tar.zst", bytes);
        let error = agnes.restore(&path).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{what}: {error}");
        assert!(error.message().contains("bad.tar.zst"), "{what}: {error}");
        assert_eq!(addresses(&agnes).len(), 2, "{what}");
    };
    refused(b"", "nothing");
    refused(b"PK\x03\x04 something else", "another kind of file");
    for part in [10, good.len() / 2, good.len() - 1] {
        refused(&good[..part], "cut off");
    }
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x40;
    refused(&flipped, "a flipped bit");
    let packed = |entries: &[(&str, &[u8])]| {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            // As an attacker does it: the crate's own way refuses such names.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            archive.append(&header, *content).unwrap();
        }
        zstd::encode_all(&*archive.into_inner().unwrap(), 1).unwrap()
    };
    let list = |files: &str, schema: u32| {
        format!(
            "{{\"format\":1,\"version\":\"9\",\"schema\":{schema},\
             \"created_at\":\"2026-11-22T00:00:00Z\",\"files\":{{{files}}}}}"
        )
    };
    let of = |content: &[u8]| {
        format!("{{\"size\":{},\"blake3\":\"{}\"}}", content.len(), blake3::hash(content).to_hex())
    };
    let database = format!("\"state/system.duckdb\":{}", of(b"no database"));
    refused(&packed(&[("other.txt", b"x")]), "no list");
    refused(&packed(&[("backup.json", b"{")]), "a broken list");
    refused(&packed(&[("backup.json", list("", 1).as_bytes())]), "no database listed");
    refused(&packed(&[("backup.json", list(&database, 99).as_bytes())]), "a newer schema");
    let both =
        [("backup.json", list(&database, 1)), ("state/system.duckdb", "no database".to_string())];
    let both: Vec<(&str, &[u8])> = both.iter().map(|(n, c)| (*n, c.as_bytes())).collect();
    refused(&packed(&both), "a database that is none");
    for name in [
        "../evil",
        "/tmp/evil",
        "state/../../evil",
        "state//tmp/evil",
        "user_sessions//tmp/evil",
        "state/agnes.sock",
    ] {
        let listed = format!("{database},\"{name}\":{}", of(b"x"));
        let listed = list(&listed, 1);
        let entries: [(&str, &[u8]); 2] = [("backup.json", listed.as_bytes()), (name, b"x")];
        refused(&packed(&entries), name);
        let unlisted = list(&database, 1);
        let entries: [(&str, &[u8]); 2] = [("backup.json", unlisted.as_bytes()), (name, b"x")];
        refused(&packed(&entries), name);
    }
    assert!(!place.path("data/evil").exists() && !place.path("evil").exists());
    assert!(!Path::new("/tmp/evil").exists());
    let error = agnes.restore(&place.path("nowhere")).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(left_over(&place), Vec::<String>::new());
}

#[test]
fn a_system_database_that_is_broken_is_set_aside() {
    let place = Place::new();
    let agnes = place.agnes();
    user(&agnes.access().unwrap().admin(OPERATOR).unwrap(), "ada@example.com");
    let file = place.path("good.tar.zst");
    agnes.back_up(&file).unwrap();
    drop(agnes);
    place.write("data/state/system.duckdb", "garbage");
    let agnes = place.agnes();
    assert!(agnes.access().is_err());
    let aside = agnes.restore(&file).unwrap().before.unwrap();
    assert_eq!(fs::read(&aside).unwrap(), b"garbage");
    assert_eq!(addresses(&agnes), ["ada@example.com".to_string()].into());
    // A second one has a name of its own.
    drop(agnes);
    place.write("data/state/system.duckdb", "more garbage");
    let agnes = place.agnes();
    let second = agnes.restore(&file).unwrap().before.unwrap();
    assert_eq!(fs::read(&second).unwrap(), b"more garbage");
    assert_eq!(fs::read(&aside).unwrap(), b"garbage");
}

#[test]
fn a_backup_that_can_not_be_written_leaves_the_one_before() {
    let place = Place::new();
    let agnes = place.agnes();
    let file = place.path("kept.tar.zst");
    agnes.back_up(&file).unwrap();
    // What somebody keeps beside it is hers.
    let beside = place.write("kept.tar.zst.tmp", "hers");
    agnes.back_up(&file).unwrap();
    assert_eq!(fs::read_to_string(beside).unwrap(), "hers");
    let before = fs::read(&file).unwrap();
    let error = agnes.back_up(&place.path("no/such/folder/x.tar.zst")).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
    assert_eq!(fs::read(&file).unwrap(), before);
    assert_eq!(left_over(&place), Vec::<String>::new());
}
