//! SQL over HTTP.

use agnes_core::arrow::ipc::reader::StreamReader;
use agnes_server::ServerSettings;
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::house::{Answer, House};

async fn ask(house: &House, token: &str, body: Value) -> Answer {
    house.post("/api/query").token(token).json(&body).send().await
}

#[tokio::test]
async fn rows_come_as_json() {
    let house = House::new();
    let ada = house.token("ada");
    let answer =
        ask(&house, &ada, json!({"sql": "SELECT id, total FROM orders ORDER BY id"})).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.detail());
    assert_eq!(
        answer.json(),
        json!({
            "columns": ["id", "total"], "rows": [[1, 9.5], [2, 20.0], [3, 0.5]],
            "row_count": 3, "truncated": false,
        })
    );
    assert_eq!(answer.header("cache-control"), "private, no-cache");
    let two = ask(&house, &ada, json!({"sql": "FROM orders", "limit": 2})).await.json();
    assert_eq!((&two["row_count"], &two["truncated"]), (&json!(2), &json!(true)));
    let three = ask(&house, &ada, json!({"sql": "FROM orders", "limit": 3})).await.json();
    assert_eq!((&three["row_count"], &three["truncated"]), (&json!(3), &json!(false)));
    // What JSON has no form for is text.
    let odd = "SELECT DATE '2026-01-31' AS d, 1.50::DECIMAL(9, 2) AS p, 'nan'::DOUBLE AS n, \
               NULL AS nothing, [1, 2] AS l, {'x': 1} AS s, true AS b, sum(id) AS h FROM orders";
    let odd = ask(&house, &ada, json!({"sql": odd})).await.json();
    assert_eq!(
        odd["rows"][0],
        json!(["2026-01-31", "1.50", "NaN", null, [1, 2], {"x": 1}, true, 6])
    );
    let none = ask(&house, &ada, json!({"sql": "FROM orders WHERE false"})).await.json();
    assert_eq!((&none["columns"], &none["rows"]), (&json!(["id", "total"]), &json!([])));
}

#[tokio::test]
async fn few_bytes_are_no_gigabytes_of_json() {
    let house = House::new();
    let ada = house.token("ada");
    // Each value comes with the name.
    let name = "n".repeat(30_000);
    let each = format!("SELECT {{'{name}': i}} FROM range(10000) t(i)");
    let answer = ask(&house, &ada, json!({"sql": each, "limit": 10_000})).await;
    assert!(answer.body.len() < 130 << 20);
    let answer = answer.json();
    assert_eq!(answer["truncated"], json!(true));
    let count = answer["rows"].as_array().unwrap().len();
    assert!((4_000..5_000).contains(&count), "{count}");
    assert_eq!(answer["row_count"], json!(count));
    // One large value is no more than it is.
    let large = format!("SELECT string_agg('{name}', '') AS t FROM range(1000)");
    let answer = ask(&house, &ada, json!({"sql": large})).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.detail());
    assert_eq!(answer.json()["rows"][0][0].as_str().map(str::len), Some(30_000_000));
    // Nor is a long list.
    let list =
        json!({"sql": "SELECT list(i * 1000000000000) AS l, list(i / 7) FROM range(2000000) t(i)"});
    let answer = ask(&house, &ada, list).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.detail());
    assert_eq!(answer.json()["rows"][0][0].as_array().map(Vec::len), Some(2_000_000));
    let one = format!("SELECT list({{'{name}': i}}) FROM range(10000) t(i)");
    let answer = ask(&house, &ada, json!({"sql": one})).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(
        answer.detail().contains("a row may have more than 128 MiB as JSON"),
        "{}",
        answer.detail()
    );
}

#[tokio::test]
async fn rows_come_as_arrow_when_asked() {
    let house = House::new();
    let ada = house.token("ada");
    let answer = house
        .post("/api/query")
        .token(&ada)
        .header("accept", "application/vnd.apache.arrow.stream, */*;q=0.1")
        .json(&json!({"sql": "SELECT i FROM range(10000) t(i)", "limit": 5000}))
        .send()
        .await;
    assert_eq!(answer.header("content-type"), "application/vnd.apache.arrow.stream");
    let reader = StreamReader::try_new(answer.body.as_ref(), None).unwrap();
    assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 5000);
    // Of a small result it is known at once, of a large one at its end.
    assert_eq!(answer.header("x-agnes-truncated"), "true");
    for (rows, limit, header, trailer) in [
        (10, 10, "false", ""),
        (1_000_000, 1_000_000, "", "false"),
        (1_000_000, 900_000, "", "true"),
    ] {
        let sql = format!("SELECT i, hash(i) AS h FROM range({rows}) t(i)");
        let settings = ServerSettings { max_rows: 1_000_000, ..ServerSettings::default() };
        let house = House::with(settings);
        let body = json!({"sql": sql, "limit": limit});
        let ask = house.post("/api/query").token(&house.token("ada")).json(&body);
        let ask = ask.header("accept", "application/vnd.apache.arrow.stream");
        let (answer, trailers) = ask.send_with_trailers().await;
        assert_eq!(answer.header("x-agnes-truncated"), header, "{rows} {limit}");
        let told = trailers.get("x-agnes-truncated").map_or("", |told| told.to_str().unwrap());
        assert_eq!(told, trailer, "{rows} {limit}");
        let reader = StreamReader::try_new(answer.body.as_ref(), None).unwrap();
        assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), limit);
    }
}

#[tokio::test]
async fn what_goes_wrong_with_the_first_rows_is_an_error_and_no_broken_stream() {
    let house = House::new();
    let sql = "SELECT CAST(CASE WHEN i = 3000 THEN 'x' ELSE '1' END AS INT) FROM range(5000) t(i)";
    let ask = house.post("/api/query").token(&house.token("ada"));
    let ask = ask.header("accept", "application/vnd.apache.arrow.stream");
    let answer = ask.json(&json!({"sql": sql, "limit": 10_000})).send().await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.detail().contains("'x'"), "{}", answer.detail());
}

#[tokio::test]
async fn what_is_refused_and_how() {
    let house = House::new();
    let (ada, root) = (house.token("ada"), house.session("root"));
    for (sql, status) in [
        ("SELECT * FROM salaries", 403),
        ("SELECT * FROM nothing1", 403),
        ("SELECT 1; SELECT 2", 400),
        ("DROP TABLE orders", 400),
        ("SELEC 1", 400),
        ("", 400),
        ("SELECT nothing1 FROM orders", 400),
        ("SELECT * FROM read_csv('/etc/passwd')", 400),
        ("SELECT * FROM '/etc/passwd'", 403),
        ("COPY orders TO '/tmp/x'", 400),
        ("SELECT getenv('HOME')", 400),
        ("SELECT 1/", 400),
    ] {
        let answer = ask(&house, &ada, json!({"sql": sql})).await;
        assert_eq!(answer.status.as_u16(), status, "{sql}: {}", answer.detail());
        let home = house.path("").display().to_string();
        assert!(
            !answer.detail().contains(home.trim_end_matches('/')),
            "{sql}: {}",
            answer.detail()
        );
    }
    let hidden = ask(&house, &ada, json!({"sql": "FROM salaries"})).await.detail();
    let absent = ask(&house, &ada, json!({"sql": "FROM nothing1"})).await.detail();
    assert_eq!(hidden.replace("salaries", "nothing1"), absent);
    let admin = ask(&house, &root, json!({"sql": "SELECT salary FROM salaries"})).await;
    assert_eq!(admin.json()["rows"], json!([[31337]]));
    assert_eq!(ask(&house, &root, json!({"sql": "FROM nothing1"})).await.status.as_u16(), 400);
    for limit in [json!(0), json!(-1), json!(10_001), json!("many"), json!(1.5)] {
        let answer = ask(&house, &ada, json!({"sql": "FROM orders", "limit": limit})).await;
        assert_eq!(answer.status.as_u16(), 422, "{limit}");
        assert_eq!(answer.json()["detail"][0]["loc"], json!(["body", "limit"]), "{limit}");
    }
}

/// Time stands still while somebody works, and passes at once while everybody waits for it.
#[tokio::test(start_paused = true)]
async fn a_reader_who_takes_nothing_gives_back_her_place() {
    let settings =
        ServerSettings { rate_limits: false, max_rows: 2_000_000, ..ServerSettings::default() };
    let house = House::with(settings);
    let ada = house.token("ada");
    let sql = "SELECT * FROM orders, range(2000000)";
    // All the places that a user has. The bodies are there, and nobody asks for more of them.
    let mut held = Vec::new();
    for _ in 0..4 {
        let body = json!({"sql": sql, "limit": 2_000_000});
        let ask = house.post("/api/query").token(&ada).json(&body);
        let answer = ask.header("accept", "application/vnd.apache.arrow.stream").begin().await;
        held.push(answer);
    }
    let small = json!({"sql": "SELECT count(*) FROM orders"});
    let none = ask(&house, &ada, small.clone()).await;
    assert_eq!(none.status, StatusCode::TOO_MANY_REQUESTS, "all places are held");
    tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    assert_eq!(ask(&house, &ada, small).await.status, StatusCode::OK);
    drop(held);
}
