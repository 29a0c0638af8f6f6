//! Manifest and downloads.

use agnes_server::{SendFile, ServerSettings};
use axum::http::{Method, StatusCode};
use md5::{Digest as _, Md5};

use crate::house::House;

const ORDERS: &str = "/api/data/orders/download";

fn md5(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn what_the_manifest_names_is_what_comes() {
    let house = House::new();
    let ada = house.token("ada");
    let manifest = house.get("/api/sync/manifest").token(&ada).send().await;
    let tables = manifest.json()["tables"].clone();
    assert_eq!(tables.as_object().unwrap().keys().collect::<Vec<_>>(), ["orders"]);
    let file = house.get(ORDERS).token(&ada).send().await;
    assert_eq!(file.status, StatusCode::OK);
    assert_eq!(tables["orders"]["hash"], md5(&file.body));
    assert_eq!(file.header("etag"), format!("\"{}\"", md5(&file.body)));
    assert_eq!(file.header("content-disposition"), "attachment; filename=\"orders.parquet\"");
    assert_eq!(file.header("cache-control"), "private, no-cache");
    assert!(file.body.starts_with(b"PAR1") && file.body.ends_with(b"PAR1"));
    // It is never packed again, whatever a client takes.
    let packed = house.get(ORDERS).token(&ada).header("accept-encoding", "gzip, deflate");
    let packed = packed.send().await;
    assert_eq!((packed.header("content-encoding"), &packed.body), ("", &file.body));
    let head = house.ask(Method::HEAD, ORDERS).token(&ada).send().await;
    assert_eq!(head.header("content-length"), file.body.len().to_string());
    assert_eq!((head.header("accept-ranges"), head.body.len()), ("bytes", 0));
    // Nothing has changed: nothing is sent.
    let known = house.get("/api/sync/manifest").token(&ada);
    let known = known.header("if-none-match", manifest.header("etag")).send().await;
    assert_eq!((known.status, known.body.len()), (StatusCode::NOT_MODIFIED, 0));
}

#[tokio::test]
async fn what_is_hidden_is_as_what_is_not_there() {
    let house = House::new();
    let (root, ada) = (house.session("root"), house.token("ada"));
    for route in ["check-access", "download"] {
        let ask = |table: &str| house.get(&format!("/api/data/{table}/{route}")).token(&ada);
        let (hidden, absent) = (ask("salaries").send().await, ask("nothing1").send().await);
        assert_eq!((hidden.status, absent.status), (StatusCode::FORBIDDEN, StatusCode::FORBIDDEN));
        assert_eq!(hidden.detail().replace("salaries", "nothing1"), absent.detail());
        for malformed in ["..%2Fsystem", "a%00b", "a%20b", "%2e%2e", "x%0a"] {
            let answer = ask(malformed).send().await;
            assert_eq!(
                (answer.status, answer.detail()),
                (StatusCode::NOT_FOUND, "Table not found".into())
            );
        }
    }
    // An admin's check looks for no file.
    let admin = house.get("/api/data/nothing1/check-access").token(&root).send().await;
    assert_eq!((admin.status, admin.body.len()), (StatusCode::NO_CONTENT, 0));
    let admin = house.get("/api/data/nothing1/download").token(&root).send().await;
    assert_eq!((admin.status, admin.detail().contains("nothing1")), (StatusCode::NOT_FOUND, true));
}

#[tokio::test]
async fn a_proxy_is_told_which_file_it_may_send() {
    let house = House::new();
    let ada = house.token("ada");
    let allowed = house.get("/api/data/orders/check-access").token(&ada).send().await;
    assert_eq!((allowed.status, allowed.body.len()), (StatusCode::NO_CONTENT, 0));
    let file = house.path("data").join(allowed.header("x-agnes-file"));
    let sent = house.get(ORDERS).token(&ada).send().await;
    assert_eq!(std::fs::read(file).unwrap(), sent.body);
    assert_eq!(allowed.header("etag"), sent.header("etag"));
}

#[tokio::test]
async fn a_proxy_sends_what_it_is_told_to() {
    for (send_file, header) in
        [(SendFile::Accel, "x-accel-redirect"), (SendFile::Sendfile, "x-sendfile")]
    {
        let house = House::with(ServerSettings { send_file, ..ServerSettings::default() });
        let ada = house.token("ada");
        let sent = house.get(ORDERS).token(&ada).header("range", "bytes=0-3").send().await;
        assert_eq!((sent.status, sent.body.len()), (StatusCode::OK, 0));
        let tag = sent.header("etag").to_string();
        let file = match sent.header(header).strip_prefix("/_agnes_files/") {
            Some(below) => house.path("data").join(below),
            None => sent.header(header).into(),
        };
        let bytes = std::fs::read(file).unwrap();
        // What the proxy would tell again, without knowing the tag, the server tells whole.
        for (condition, status, length) in [("if-range", 206, 4), ("if-match", 200, bytes.len())] {
            let ask = house.get(ORDERS).token(&ada).header(condition, &tag);
            let ask = if status == 206 { ask.header("range", "bytes=0-3") } else { ask };
            let own = ask.send().await;
            assert_eq!((own.status.as_u16(), own.body.len()), (status, length), "{condition}");
            assert_eq!(own.header(header), "");
        }
        let known = house.get(ORDERS).token(&ada).header("if-none-match", &tag).send().await;
        assert_eq!((known.status, known.header(header)), (StatusCode::NOT_MODIFIED, ""));
        let hidden = house.get(ORDERS).token(&house.token("eve")).send().await;
        assert_eq!((hidden.status, hidden.header(header)), (StatusCode::FORBIDDEN, ""));
    }
}

#[tokio::test]
async fn ranges_and_conditions_are_those_of_the_book() {
    let house = House::new();
    let ada = house.token("ada");
    let whole = house.get(ORDERS).token(&ada).send().await;
    let (size, tag) = (whole.body.len(), whole.header("etag").to_string());
    let weak = format!("W/{tag}");
    let last = format!("bytes={}-", size - 4);
    let part = |range: &str| format!("bytes {range}/{size}");
    for (headers, status, range, body) in [
        (vec![("range", "bytes=0-3")], 206, part("0-3"), &whole.body[..4]),
        (vec![("range", "bytes=0-0")], 206, part("0-0"), &whole.body[..1]),
        (
            vec![("range", last.as_str())],
            206,
            part(&format!("{}-{}", size - 4, size - 1)),
            &whole.body[size - 4..],
        ),
        (
            vec![("range", "bytes=-4")],
            206,
            part(&format!("{}-{}", size - 4, size - 1)),
            &whole.body[size - 4..],
        ),
        (
            vec![("range", "bytes=0-999999999")],
            206,
            part(&format!("0-{}", size - 1)),
            &whole.body[..],
        ),
        (vec![("range", "bytes=999999999-")], 416, format!("bytes */{size}"), &[]),
        // Several ranges, and units that nobody knows: the whole.
        (vec![("range", "bytes=0-1,4-5")], 200, String::new(), &whole.body[..]),
        (vec![("range", "lines=0-1")], 200, String::new(), &whole.body[..]),
        (vec![("if-none-match", tag.as_str())], 304, String::new(), &[]),
        (vec![("if-none-match", weak.as_str())], 304, String::new(), &[]),
        (vec![("if-none-match", "*")], 304, String::new(), &[]),
        (vec![("if-none-match", "\"a\", \"b\"")], 200, String::new(), &whole.body[..]),
        (vec![("if-match", tag.as_str())], 200, String::new(), &whole.body[..]),
        (vec![("if-match", "\"another\"")], 412, String::new(), &[]),
        // What was changed since is sent whole.
        (
            vec![("range", "bytes=0-3"), ("if-range", tag.as_str())],
            206,
            part("0-3"),
            &whole.body[..4],
        ),
        (
            vec![("range", "bytes=0-3"), ("if-range", "\"another\"")],
            200,
            String::new(),
            &whole.body[..],
        ),
        (vec![("range", "bytes=0-3"), ("if-none-match", tag.as_str())], 304, String::new(), &[]),
    ] {
        let mut ask = house.get(ORDERS).token(&ada);
        for (name, value) in &headers {
            ask = ask.header(name, value);
        }
        let answer = ask.send().await;
        assert_eq!(answer.status.as_u16(), status, "{headers:?}");
        assert_eq!(answer.header("content-range"), range, "{headers:?}");
        if status < 400 {
            assert_eq!(answer.body, body, "{headers:?}");
            assert_eq!(answer.header("etag"), tag, "{headers:?}");
        }
    }
}

#[tokio::test]
async fn a_table_that_is_replaced_is_another_one_at_once() {
    let house = House::new();
    let ada = house.token("ada");
    let before = house.get(ORDERS).token(&ada).send().await;
    house.publish("orders", "id,total\n7,7\n");
    let after = house.get(ORDERS).token(&ada).header("if-none-match", before.header("etag"));
    let after = after.send().await;
    assert_eq!(after.status, StatusCode::OK);
    assert_ne!(after.header("etag"), before.header("etag"));
    assert_eq!(after.header("etag"), format!("\"{}\"", md5(&after.body)));
}

#[tokio::test]
async fn what_older_installations_have_beside_their_tables_is_told_apart() {
    let house = House::new();
    let ada = house.token("ada");
    let assets = || async {
        house.get("/api/sync/manifest").token(&ada).send().await.json()["assets"].clone()
    };
    assert_eq!(assets().await, serde_json::json!({}));
    let data = house.path("data");
    std::fs::create_dir_all(data.join("docs/deep")).unwrap();
    std::fs::create_dir_all(data.join("src_data/metadata")).unwrap();
    std::fs::write(data.join("docs/deep/x.md"), "text").unwrap();
    std::fs::write(data.join("src_data/metadata/profiles.json"), "{}").unwrap();
    let told = assets().await;
    assert_eq!(told["profiles"]["hash"], md5(b"{}"));
    assert!(told["docs"]["hash"].as_str().unwrap().parse::<u64>().unwrap() > 1_700_000_000);
}

#[tokio::test]
async fn a_range_is_of_get_alone() {
    let house = House::new();
    let ada = house.token("ada");
    let head = house.ask(Method::HEAD, ORDERS).token(&ada).header("range", "bytes=0-0");
    let head = head.send().await;
    let whole = house.get(ORDERS).token(&ada).send().await;
    assert_eq!(head.status, StatusCode::OK);
    assert_eq!(head.header("content-length"), whole.body.len().to_string());
}
