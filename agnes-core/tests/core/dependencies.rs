//! What the library pulls in, and what it must not.

use std::process::Command;

#[test]
fn the_library_is_synchronous_and_serves_no_http() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", "agnes-core", "--edges", "normal", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(tree.contains("duckdb v"), "{}", String::from_utf8_lossy(&output.stderr));
    for crate_name in ["tokio", "axum", "hyper", "reqwest", "async-std"] {
        let line = tree.lines().find(|line| line.split(' ').next() == Some(crate_name));
        assert_eq!(line, None, "agnes-core must not depend on it");
    }
}
