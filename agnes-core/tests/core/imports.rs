//! Taking over the system database of another installation.

use agnes_core::access::{
    Access, Email, ImportOptions, ImportReport, LinkPurpose, NewTable, Principal, Reason, Resource,
    TablePolicy, Visibility,
};
use agnes_core::{Agnes, Components, Kind, Secret, Settings};
use duckdb::Connection;

use crate::access::{email, resource};
use crate::support::Place;

const OPERATOR: &Principal = &Principal::Operator;

/// A system database as a version of the reference wrote it.
fn old(place: &Place, statements: &str) -> std::path::PathBuf {
    let file = place.path("old/system.duckdb");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let _ = std::fs::remove_file(&file);
    let connection = Connection::open_in_memory().unwrap();
    connection
        .execute_batch(&format!(
            "ATTACH '{}' AS old (STORAGE_VERSION 'v1.0.0'); USE old;
             CREATE TABLE schema_version (version INTEGER NOT NULL, applied_at TIMESTAMP DEFAULT now());
             {statements}; CHECKPOINT old; USE memory; DETACH old",
            file.display()
        ))
        .unwrap();
    file
}

/// Version 3: roles, public tables, permissions of single users.
const V3: &str = "
    INSERT INTO schema_version VALUES (3, now());
    CREATE TABLE users (id VARCHAR PRIMARY KEY, email VARCHAR, name VARCHAR, role VARCHAR, password_hash VARCHAR, created_at TIMESTAMP);
    INSERT INTO users VALUES
      ('u1', 'Root@Example.com', 'Root', 'admin', NULL, TIMESTAMP '2024-01-01'),
      ('u2', 'ada@example.com', NULL, 'analyst', '$argon2id$v=19$m=65536,t=3,p=4$gn5T9d5LWY4Mx8o8dNMl0A$sZVRbyRigsKHIM7lkcpoVn2cdQUWK5ib4D+xEZrbgEo', TIMESTAMP '2024-01-02'),
      ('u3', 'Eve@example.com', NULL, 'viewer', NULL, NULL),
      ('u4', 'eve@example.com', NULL, 'admin', NULL, NULL),
      ('u5', 'no address', NULL, 'viewer', NULL, NULL),
      ('u6', 'kim@example.com', NULL, 'km_admin', 'plain', NULL);
    CREATE TABLE table_registry (id VARCHAR PRIMARY KEY, name VARCHAR, source_type VARCHAR, bucket VARCHAR, sync_strategy VARCHAR DEFAULT 'full_refresh', query_mode VARCHAR DEFAULT 'local', primary_key VARCHAR, is_public BOOLEAN DEFAULT true, registered_at TIMESTAMP DEFAULT now());
    INSERT INTO table_registry (id, name, source_type, bucket, primary_key) VALUES
      ('orders_90d', 'Orders', 'keboola', 'in.c-crm', 'id, day'), ('lines', 'lines', 'keboola', 'in.c-crm', '[\"id\"]'),
      ('bad name', 'bad name', 'keboola', NULL, NULL), ('odd', 'odd', 'keboola', NULL, NULL);
    UPDATE table_registry SET sync_strategy = 'sideways' WHERE id = 'odd';
    CREATE TABLE dataset_permissions (user_id VARCHAR, dataset VARCHAR, access VARCHAR);
    INSERT INTO dataset_permissions VALUES ('u2', 'in.c-crm.*', 'read'), ('u3', 'lines', 'read');
    CREATE TABLE access_requests (id VARCHAR, user_id VARCHAR, user_email VARCHAR, table_id VARCHAR, reason VARCHAR, status VARCHAR, created_at TIMESTAMP);
    INSERT INTO access_requests VALUES ('r1', 'u2', 'ada@example.com', 'lines', 'to know', 'pending', TIMESTAMP '2024-02-01');
    CREATE TABLE sync_state (table_id VARCHAR PRIMARY KEY, last_sync TIMESTAMP, rows BIGINT, file_size_bytes BIGINT, columns INTEGER, hash VARCHAR, status VARCHAR, error VARCHAR);
    INSERT INTO sync_state VALUES ('Orders', TIMESTAMP '2024-03-01', 12, 345, 6, 'abc', 'ok', NULL), ('gone', NULL, 0, 0, 0, '', 'ok', NULL)";

/// Version 14: groups, grants, tokens, metrics.
const V14: &str = "
    INSERT INTO schema_version VALUES (14, now());
    CREATE TABLE users (id VARCHAR PRIMARY KEY, email VARCHAR, name VARCHAR, role VARCHAR, password_hash VARCHAR, active BOOLEAN, created_at TIMESTAMP, updated_at TIMESTAMP);
    INSERT INTO users VALUES ('u1', 'root@example.com', 'Root', 'viewer', NULL, true, NULL, NULL), ('u2', 'ada@example.com', 'Ada', 'admin', NULL, true, NULL, NULL), ('u3', 'gone@example.com', NULL, NULL, NULL, false, NULL, NULL);
    CREATE TABLE user_groups (id VARCHAR PRIMARY KEY, name VARCHAR, description VARCHAR, is_system BOOLEAN, created_at TIMESTAMP, created_by VARCHAR);
    INSERT INTO user_groups VALUES ('g1', 'Admin', NULL, true, NULL, NULL), ('g2', 'Everyone', NULL, true, NULL, NULL), ('g3', 'sales', 'sellers', false, NULL, 'root@example.com'), ('g4', 'ops@example.com', NULL, false, NULL, 'system:google-sync'), ('g5', 'Twin', NULL, false, NULL, NULL), ('g6', 'twin', NULL, false, NULL, NULL);
    CREATE TABLE user_group_members (user_id VARCHAR, group_id VARCHAR, source VARCHAR, added_at TIMESTAMP, added_by VARCHAR);
    INSERT INTO user_group_members VALUES ('u1', 'g1', 'system_seed', TIMESTAMP '2025-01-01', NULL), ('u2', 'g3', 'admin', NULL, 'root@example.com'), ('u2', 'g4', 'google_sync', NULL, NULL), ('u2', 'g5', 'admin', NULL, NULL), ('u9', 'g3', 'admin', NULL, NULL), ('u3', 'g3', 'magic', NULL, NULL);
    CREATE TABLE resource_grants (id VARCHAR PRIMARY KEY, group_id VARCHAR, resource_type VARCHAR, resource_id VARCHAR, assigned_at TIMESTAMP, assigned_by VARCHAR);
    INSERT INTO resource_grants VALUES ('x1', 'g3', 'table', 'orders_90d', TIMESTAMP '2025-01-01', 'root@example.com'), ('x2', 'g3', 'table', 'gone', NULL, NULL), ('x3', 'g3', 'marketplace_plugin', 'main/tool', NULL, NULL);
    CREATE TABLE table_registry (id VARCHAR PRIMARY KEY, name VARCHAR, source_type VARCHAR, is_public BOOLEAN DEFAULT true);
    INSERT INTO table_registry VALUES ('orders_90d', 'Orders', 'keboola', true), ('lines', 'lines', 'keboola', true);
    CREATE TABLE personal_access_tokens (id VARCHAR PRIMARY KEY, user_id VARCHAR, name VARCHAR, token_hash VARCHAR, prefix VARCHAR, scopes VARCHAR, created_at TIMESTAMP, expires_at TIMESTAMP, last_used_at TIMESTAMP, last_used_ip VARCHAR, revoked_at TIMESTAMP);
    CREATE TABLE metric_definitions (id VARCHAR PRIMARY KEY, name VARCHAR, display_name VARCHAR, category VARCHAR, sql VARCHAR, tables VARCHAR[], synonyms VARCHAR[]);
    INSERT INTO metric_definitions VALUES ('sales/mrr', 'mrr', 'MRR', 'sales', 'SELECT 1', ['orders', 'o''dd'], NULL), ('sales/bad', 'bad', NULL, 'sales', 'SELECT 1', NULL, NULL)";

fn import(agnes: &Agnes, file: &std::path::Path) -> ImportReport {
    let access = agnes.access().unwrap();
    access.admin(OPERATOR).unwrap().import(file, ImportOptions::default()).unwrap()
}

fn left(report: &ImportReport) -> Vec<String> {
    report.left_out.iter().map(|l| format!("{} {}", l.kind, l.name)).collect()
}

fn may(access: &Access, address: &str, what: &str) -> Reason {
    let user = access.user_by_email(&email(address)).unwrap();
    access.decide(&Principal::user(user.id), &resource(what)).reason().clone()
}

#[test]
fn roles_and_permissions_of_an_early_version() {
    let place = Place::new();
    let file = old(&place, V3);
    let settings = Settings { table_policy: TablePolicy::GrantsAndLegacy, ..Settings::default() };
    let agnes = Agnes::open_with(place.data(), settings, Components::default()).unwrap();
    let report = import(&agnes, &file);
    assert_eq!(report.version, Some(3));
    assert_eq!(
        left(&report),
        [
            "user Eve@example.com",
            "user eve@example.com",
            "user no address",
            "password kim@example.com",
            "role viewer of u3",
            "role admin of u4",
            "role viewer of u5",
            "role km_admin of kim@example.com",
            "table bad name",
            "table odd",
            "permission lines to u3",
            "sync state gone",
            "mark is_public",
        ]
    );
    assert_eq!(report.imported["user"], 3);
    let access = agnes.access().unwrap();
    assert_eq!(may(&access, "root@example.com", "table:lines"), Reason::Admin);
    // Public is what old versions set everywhere, so that it isn't taken over unasked.
    assert_eq!(may(&access, "kim@example.com", "table:lines"), Reason::NotGranted);
    let by_bucket = Reason::Permission { dataset: "in.c-crm.*".into() };
    assert_eq!(may(&access, "ada@example.com", "table:orders_90d"), by_bucket);
    assert!(access.sign_in(&email("ada@example.com"), &Secret::new("hello")).is_ok());
    let admin = access.admin(OPERATOR).unwrap();
    assert_eq!(admin.pending_requests().unwrap().len(), 1);
    let orders = access.resolve("Orders").unwrap();
    assert_eq!((orders.id.as_str(), orders.source.as_str()), ("orders_90d", "keboola"));
    assert_eq!(orders.declaration.primary_key.len(), 2);
    let states = agnes.store().unwrap().sync_states().unwrap();
    assert_eq!((states[0].rows, states[0].hash.as_str()), (12, "abc"));

    let place = Place::new();
    let file = old(&place, V3);
    let settings = Settings { table_policy: TablePolicy::GrantsAndLegacy, ..Settings::default() };
    let agnes = Agnes::open_with(place.data(), settings, Components::default()).unwrap();
    let access = agnes.access().unwrap();
    let options = ImportOptions { keep_public: true };
    access.admin(OPERATOR).unwrap().import(&file, options).unwrap();
    assert_eq!(may(&access, "kim@example.com", "table:lines"), Reason::Public);
}

#[test]
fn groups_and_grants_of_a_later_version() {
    let place = Place::new();
    let file = old(&place, V14);
    let agnes = place.agnes();
    let report = import(&agnes, &file);
    assert_eq!(
        left(&report),
        [
            "group Twin",
            "group twin",
            "member ada@example.com in g5",
            "member u9 in sales",
            "member gone@example.com in sales",
            "grant table:gone to sales",
            "metric sales/bad",
            "mark is_public",
        ]
    );
    let access = agnes.access().unwrap();
    let admin = access.admin(OPERATOR).unwrap();
    // Groups say who is an admin; the role of before says nothing any more.
    assert_eq!(may(&access, "root@example.com", "table:lines"), Reason::Admin);
    assert!(matches!(may(&access, "ada@example.com", "table:orders_90d"), Reason::Granted { .. }));
    assert_eq!(may(&access, "ada@example.com", "table:lines"), Reason::NotGranted);
    assert_eq!(may(&access, "gone@example.com", "table:orders_90d"), Reason::Deactivated);
    assert!(may(&access, "ada@example.com", "marketplace_plugin:main/tool").allows());
    let ada = admin.user_by_email(&email("ada@example.com")).unwrap();
    assert!(ada.is_sso_user);
    // Whom Google manages has no password here, by no way.
    for purpose in [LinkPurpose::Setup, LinkPurpose::Reset] {
        let link = access.issue_link(&ada.user.id, purpose);
        assert_eq!(link.unwrap_err().kind(), Kind::Conflict, "{purpose:?}");
    }
    assert!(access.issue_link(&ada.user.id, LinkPurpose::SignIn).is_ok());
    // A group that Google manages stays so.
    let ops = ada.groups.iter().find(|g| g.group.name.as_str() == "ops@example.com").unwrap();
    assert_eq!(admin.remove_group(&ops.group.id).unwrap_err().kind(), Kind::Conflict);
    let before = (admin.users(), admin.groups(), admin.grants(), admin.tables());

    // A second time brings nothing, and everything is as it was after the program ended.
    let again = import(&agnes, &file);
    assert_eq!(again.imported.keys().copied().collect::<Vec<_>>(), ["metric"]);
    drop((access, agnes));
    let agnes = place.agnes();
    let access = agnes.access().unwrap();
    let admin = access.admin(OPERATOR).unwrap();
    let after = (admin.users(), admin.groups(), admin.grants(), admin.tables());
    assert_eq!(format!("{before:#?}"), format!("{after:#?}"));
    let visibility = access.visibility(&Principal::user(ada.user.id));
    assert!(matches!(visibility, Visibility::Only(tables) if tables.len() == 1));
    let _: (Option<Email>, Option<Resource>) = (None, None);
}

/// A grant means the table of its file, not what bears the same id here.
#[test]
fn no_grant_reaches_another_sources_table() {
    let place = Place::new();
    let file = old(
        &place,
        &format!(
            "{V14}; CREATE TABLE dataset_permissions (user_id VARCHAR, dataset VARCHAR, access VARCHAR);
             INSERT INTO dataset_permissions VALUES ('u2', 'orders_90d', 'read');
             CREATE TABLE access_requests (id VARCHAR, user_id VARCHAR, user_email VARCHAR, table_id VARCHAR);
             INSERT INTO access_requests VALUES ('r1', 'u2', 'ada@example.com', 'orders_90d'), ('r2', 'u2', 'ada@example.com', 'lines')"
        ),
    );
    let settings = Settings { table_policy: TablePolicy::GrantsAndLegacy, ..Settings::default() };
    let agnes = Agnes::open_with(place.data(), settings, Components::default()).unwrap();
    let access = agnes.access().unwrap();
    let admin = access.admin(OPERATOR).unwrap();
    admin
        .register(NewTable {
            id: None,
            name: agnes_core::ViewName::parse("orders_90d").unwrap(),
            source: agnes_core::SourceName::parse("shop").unwrap(),
            declaration: Default::default(),
        })
        .unwrap();
    let report = import(&agnes, &file);
    for left_out in [
        "table orders_90d",
        "grant table:orders_90d to sales",
        "permission orders_90d to ada@example.com",
        "request orders_90d",
    ] {
        assert!(left(&report).contains(&left_out.to_string()), "{left_out}: {report:?}");
    }
    assert_eq!(may(&access, "ada@example.com", "table:orders_90d"), Reason::NotGranted);
    // What was answered here is not asked again.
    let pending = admin.pending_requests().unwrap();
    assert_eq!(pending.len(), 1);
    admin.deny(&pending[0].id).unwrap();
    import(&agnes, &file);
    assert!(admin.pending_requests().unwrap().is_empty());
}

/// Its names are compared letter by letter, and what it says of people isn't guessed at.
#[test]
fn what_differs_in_case_alone_is_somebody_else() {
    let place = Place::new();
    let file = old(
        &place,
        &format!(
            "{V14};
             INSERT INTO users VALUES ('u7', 'BOB@example.com', NULL, NULL, NULL, true, NULL, NULL), ('u8', 'eve@example.com', NULL, NULL, NULL, false, NULL, NULL);
             INSERT INTO user_groups VALUES ('g7', 'admin', NULL, false, NULL, NULL), ('g8', 'OPS', NULL, false, NULL, NULL);
             INSERT INTO user_group_members VALUES ('u2', 'g7', 'admin', NULL, NULL), ('u7', 'g1', 'admin', NULL, NULL), ('u8', 'g1', 'admin', NULL, NULL), ('u2', 'g8', 'admin', NULL, NULL);
             INSERT INTO resource_grants VALUES ('x4', 'g3', 'table', 'LINES', NULL, NULL), ('x5', 'g3', 'TABLE', 'lines', NULL, NULL), ('x6', 'g3', 'banana', 'x', NULL, NULL);
             CREATE TABLE audit_log (id VARCHAR); INSERT INTO audit_log VALUES ('a'), ('b')"
        ),
    );
    let agnes = place.agnes();
    let access = agnes.access().unwrap();
    let admin = access.admin(OPERATOR).unwrap();
    for (address, active) in [("bob@example.com", true), ("eve@example.com", true)] {
        assert_eq!(crate::access::user(&admin, address).active, active);
    }
    crate::access::group(&admin, "ops");
    let report = import(&agnes, &file);
    for left_out in [
        "user BOB@example.com",
        "user eve@example.com",
        "group admin",
        "group OPS",
        "member ada@example.com in g7",
        "member u7 in Admin",
        "member u8 in Admin",
        "grant table:LINES to sales",
        "grant TABLE:lines to sales",
        "grant banana:x to sales",
        "rows of audit_log",
    ] {
        assert!(left(&report).contains(&left_out.to_string()), "{left_out}: {:#?}", left(&report));
    }
    for address in ["ada@example.com", "bob@example.com", "eve@example.com"] {
        assert_eq!(may(&access, address, "table:lines"), Reason::NotGranted, "{address}");
    }
}

/// Whoever made the file may have put a query in place of a table.
#[test]
fn a_view_in_the_file_is_not_run() {
    let place = Place::new();
    let secret = place.write("secret.csv", "id,email\n1,secret@example.com\n");
    let view = format!("CREATE VIEW users AS FROM read_csv('{}')", secret.display());
    let agnes = place.agnes();
    let access = agnes.access().unwrap();
    let admin = access.admin(OPERATOR).unwrap();
    let error = admin.import(&old(&place, &view), ImportOptions::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
    let view = view
        .replace("VIEW users", "VIEW user_groups")
        .replace("FROM", "SELECT *, email AS name FROM");
    let file = old(&place, &format!("CREATE TABLE users (id VARCHAR, email VARCHAR); {view}"));
    assert_eq!(left(&import(&agnes, &file)), Vec::<String>::new());
    // Nor is its own database taken for another's.
    let own = place.path("own/system.duckdb");
    std::fs::create_dir_all(own.parent().unwrap()).unwrap();
    drop(admin);
    drop((access, agnes));
    std::fs::copy(place.data().join("state/system.duckdb"), &own).unwrap();
    let agnes = place.agnes();
    let access = agnes.access().unwrap();
    let error = access.admin(OPERATOR).unwrap().import(&own, ImportOptions::default());
    assert!(error.unwrap_err().message().contains("Agnes itself"));
    let here = place.data().join("state/system.duckdb");
    let error = access.admin(OPERATOR).unwrap().import(&here, ImportOptions::default());
    assert!(error.unwrap_err().message().contains("open here"));
}

/// A time that can't be read may be the one at which something ends.
#[test]
fn a_row_that_is_wrong_is_left_out_alone() {
    let place = Place::new();
    let file = old(
        &place,
        "CREATE TABLE users (id VARCHAR, email VARCHAR, created_at VARCHAR);
         INSERT INTO users VALUES ('u1', 'ada@example.com', 'yesterday'), ('u2', 'bob@example.com', '2026-01-01');
         CREATE TABLE table_registry (id VARCHAR, name VARCHAR, source_type VARCHAR, sync_schedule VARCHAR);
         INSERT INTO table_registry VALUES ('lines', 'lines', 'keboola', 'cron bogus'), ('orders_90d', 'Orders 90d', 'keboola', 'every 1h')",
    );
    let agnes = place.agnes();
    let report = import(&agnes, &file);
    assert_eq!(left(&report), ["user ada@example.com", "schedule lines", "table orders_90d"]);
    let access = agnes.access().unwrap();
    assert!(access.user_by_email(&email("bob@example.com")).is_some());
    assert_eq!(access.resolve("lines").unwrap().declaration.sync_schedule, None);
    // The cure that it names.
    let cure = &report.left_out.last().unwrap().reason;
    assert!(cure.contains("--id orders_90d --source keboola"), "{cure}");
    access
        .admin(OPERATOR)
        .unwrap()
        .register(NewTable {
            id: Some("orders_90d".parse().unwrap()),
            name: agnes_core::ViewName::parse("recent_orders").unwrap(),
            source: agnes_core::SourceName::parse("keboola").unwrap(),
            declaration: Default::default(),
        })
        .unwrap();
    let again = import(&agnes, &file);
    assert!(again.left_out.iter().any(|l| l.reason.contains("registered here already")));
}

/// Old versions write an empty text where they know nothing.
#[test]
fn an_empty_text_is_none() {
    let place = Place::new();
    let file = old(
        &place,
        "CREATE TABLE users (id VARCHAR, email VARCHAR);
         CREATE TABLE table_registry (id VARCHAR, name VARCHAR, source_type VARCHAR, bucket VARCHAR, source_query VARCHAR, query_mode VARCHAR, sync_strategy VARCHAR, primary_key VARCHAR, where_filters VARCHAR);
         INSERT INTO table_registry VALUES ('lines', 'lines', 'keboola', '', '', '', '', '', ' ')",
    );
    let agnes = place.agnes();
    let report = import(&agnes, &file);
    assert_eq!(left(&report), Vec::<String>::new(), "{report:?}");
    assert_eq!(agnes.access().unwrap().resolve("lines").unwrap().declaration.bucket, None);
}

/// A token that the other installation gave out goes on working with its key.
#[test]
fn tokens_go_on_working_with_their_key() {
    let key = "the key of the other installation, long enough";
    let secrets = || {
        let mut secrets = std::collections::BTreeMap::new();
        secrets.insert("JWT_SECRET_KEY".to_string(), Secret::new(key));
        Components { secrets: std::sync::Arc::new(secrets), ..Components::default() }
    };
    // Signed there, by another program, for the user u2: the same claims, hashed as it hashes.
    let place = Place::new();
    let file = old(&place, V14);
    let agnes = Agnes::open_with(place.data(), Settings::default(), secrets()).unwrap();
    import(&agnes, &file);
    let access = agnes.access().unwrap();
    let admin = access.admin(OPERATOR).unwrap();
    let ada = admin.user_by_email(&email("ada@example.com")).unwrap().user;
    assert_eq!(ada.id.as_str(), "u2");
    let new = agnes_core::access::NewToken::named("ci");
    let (token, secret) = admin.create_token(&ada.id, new).unwrap();
    drop((access, agnes));
    let row = Connection::open_in_memory().unwrap();
    let state = place.data().join("state/system.duckdb");
    row.execute_batch(&format!("ATTACH '{}' AS s (READ_ONLY)", state.display())).unwrap();
    let hash: String = row
        .query_row("SELECT token_hash FROM s.personal_access_tokens", [], |row| row.get(0))
        .unwrap();
    drop(row);

    let elsewhere = Place::new();
    let file = old(
        &elsewhere,
        &format!(
            "{V14}; INSERT INTO personal_access_tokens VALUES ('{}', 'u2', 'ci', '{}', '', 'general', now()::TIMESTAMP, NULL, NULL, NULL, NULL), ('t2', 'u9', 'lost', 'x', '', 'general', NULL, NULL, NULL, NULL, NULL)",
            token.id,
            hash.to_uppercase()
        ),
    );
    let agnes = Agnes::open_with(elsewhere.data(), Settings::default(), secrets()).unwrap();
    let report = import(&agnes, &file);
    assert!(left(&report).contains(&"token lost".to_string()), "{report:?}");
    let principal = agnes.access().unwrap().authenticate(secret.expose(), None).unwrap();
    assert_eq!(principal.user_id().unwrap().as_str(), "u2");
}

#[test]
fn what_is_no_system_database_is_said() {
    let place = Place::new();
    let agnes = place.agnes();
    let access = agnes.access().unwrap();
    let admin = access.admin(OPERATOR).unwrap();
    let kind =
        |path: &std::path::Path| admin.import(path, ImportOptions::default()).unwrap_err().kind();
    assert_eq!(kind(&place.path("nothing.duckdb")), Kind::NotFound);
    assert_eq!(kind(&place.write("garbage.duckdb", "garbage garbage")), Kind::Invalid);
    assert_eq!(kind(&old(&place, "CREATE TABLE other (a INTEGER)")), Kind::Invalid);
    assert_eq!(admin.users().len(), 0);
}
