//! Ten minutes of everything at once: whether memory, files and threads stay what they are.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agnes_benches::{line, place, table_name};
use serde_json::{Value, json};

use crate::client::{Client, curl};
use agnes_benches::running::{ADMIN, Running, serve};

/// What is seen of the server at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    memory: u64,
    descriptors: usize,
    threads: u64,
}

fn sample(server: &Running) -> Sample {
    Sample {
        memory: server.memory(),
        descriptors: server.descriptors(),
        threads: server.status("Threads"),
    }
}

fn middle(samples: &[Sample]) -> Sample {
    let of = |value: fn(&Sample) -> u64| {
        let mut all: Vec<u64> = samples.iter().map(value).collect();
        all.sort_unstable();
        all[all.len() / 2]
    };
    Sample {
        memory: of(|s| s.memory),
        descriptors: usize::try_from(of(|s| s.descriptors as u64)).expect("it fits"),
        threads: of(|s| s.threads),
    }
}

/// Done by Ada, by an admin, at an address, for the so many-th time.
type Work = fn(&Client, &Client, &str, u64);

/// What everybody does, with how often it was done.
const WORK: [(&str, Work); 7] = [
    ("check-access", |ada, _, _, at| {
        let table = table_name(at as usize % 10, at as usize % 100);
        ada.get(&format!("/api/data/{table}/check-access"), None);
    }),
    ("catalog", |ada, _, _, at| {
        ada.get(
            ["/api/catalog/tables", "/api/sync/manifest", "/api/v2/catalog"][at as usize % 3],
            None,
        );
    }),
    ("query as JSON", |ada, _, _, at| {
        let sql =
            format!("SELECT id, customer, amount FROM rows WHERE id % 50 = {} LIMIT 1000", at % 50);
        ada.post("/api/query", &json!({"sql": sql}));
    }),
    ("query as Arrow", |ada, _, _, at| {
        let sql = format!("SELECT * FROM rows WHERE id >= {}", at % 1000);
        let body = json!({"sql": sql, "limit": 10_000});
        ada.post_for("/api/query", &body, "application/vnd.apache.arrow.stream");
    }),
    ("download", |ada, _, url, _| {
        curl(&format!("{url}/api/data/big/download"), Some(ada), 1);
    }),
    ("grant and revoke", |_, admin, _, at| {
        let body = json!({"name": format!("group {at}")});
        let made: Value =
            serde_json::from_slice(&admin.post("/api/admin/groups", &body)).expect("JSON");
        let id = made["id"].as_str().expect("an id");
        let table = table_name(0, at as usize % 100);
        let grant = json!({"group_id": id, "resource_type": "table", "resource_id": table});
        admin.post("/api/admin/grants", &grant);
        admin.delete(&format!("/api/admin/groups/{id}"));
    }),
    ("token", |ada, _, _, at| {
        let made = ada.post("/auth/tokens", &json!({"name": format!("token {at}")}));
        let made: Value = serde_json::from_slice(&made).expect("it is JSON");
        ada.delete(&format!("/auth/tokens/{}", made["id"].as_str().expect("an id")));
    }),
];

/// So many seconds of it.
pub fn soak(seconds: u64) {
    let home = place("server-soak");
    agnes_benches::write_extracts(&home, 10, 100);
    crate::large(&home, 100_000_000);
    let server = serve(&home, "");
    let (ada, admin) = (Client::ada(&server), Client::new(&server, ADMIN.0, ADMIN.1));
    // One user has four statements at a time.
    let bob = ada.beside(&server, 0);
    let (stop, done) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; WORK.len()]);
    let mut samples = Vec::new();
    std::thread::scope(|scope| {
        for ((_, work), done) in WORK.iter().zip(&done) {
            for user in [&ada, &bob] {
                let (ada, admin, stop, url) = (user.again(), admin.again(), &stop, &server.url);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        work(&ada, &admin, url, done.fetch_add(1, Ordering::Relaxed));
                        std::thread::sleep(Duration::from_millis(5));
                    }
                });
            }
        }
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(seconds) {
            std::thread::sleep(Duration::from_secs(2));
            samples.push(sample(&server));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let part = samples.len() / 5;
    for (what, samples) in [
        ("second", &samples[part..2 * part]),
        ("third", &samples[2 * part..3 * part]),
        ("last", &samples[samples.len() - part..]),
    ] {
        let Sample { memory, descriptors, threads } = middle(samples);
        line(
            &format!("the {what} fifth of {seconds} s of everything at once"),
            format!("{} MB, {descriptors} descriptors, {threads} threads", memory / 1_000_000),
            "flat",
        );
    }
    let each = WORK
        .iter()
        .zip(&done)
        .map(|((what, _), done)| format!("{} of {what}", done.load(Ordering::Relaxed)));
    line("requests meanwhile", each.collect::<Vec<_>>().join(", "), "-");
    std::thread::sleep(Duration::from_secs(35));
    let Sample { memory, descriptors, threads } = sample(&server);
    let rest = format!("{} MB, {descriptors} descriptors, {threads} threads", memory / 1_000_000);
    line("35 s after that", rest, "-");
}
