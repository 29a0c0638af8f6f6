//! Who may see what: users, groups, grants, decisions, the registry.

use std::sync::Arc;

use agnes_core::access::{
    Access, Admin, Block, Email, Group, GroupName, MemberSource, NewTable, Principal, Reason,
    Resource, ResourceKind, ResourceType, Role, TablePolicy, User, UserId, Via, Visibility,
};
use agnes_core::registry::Declaration;
use agnes_core::{Agnes, Components, Kind, NoProgress, Settings, SourceName, TableId, ViewName};

use super::support::{Place, ingest, query_error, rebuild, source, table};

const OPERATOR: &Principal = &Principal::Operator;

pub fn email(text: &str) -> Email {
    Email::parse(text).unwrap()
}

pub fn group(admin: &Admin<'_>, name: &str) -> Group {
    admin.add_group(GroupName::parse(name).unwrap(), None).unwrap()
}

pub fn user(admin: &Admin<'_>, address: &str) -> User {
    admin.add_user(email(address), None).unwrap()
}

pub fn resource(text: &str) -> Resource {
    Resource::parse(text).unwrap()
}

fn new_table(name: &str) -> NewTable {
    NewTable {
        id: None,
        name: ViewName::parse(name).unwrap(),
        source: SourceName::parse("shop").unwrap(),
        declaration: Declaration::default(),
    }
}

fn with_policy(place: &Place, table_policy: TablePolicy) -> Agnes {
    let settings = Settings { table_policy, ..Settings::default() };
    Agnes::open_with(place.data(), settings, Components::default()).unwrap()
}

fn may(access: &Access, user: &UserId, what: &str) -> Reason {
    access.decide(&Principal::user(user.clone()), &resource(what)).reason().clone()
}

fn names(visibility: &Visibility) -> String {
    match visibility {
        Visibility::All => "all".to_string(),
        Visibility::Only(tables) => {
            let names: Vec<&str> = tables.iter().map(|table| table.id.as_str()).collect();
            names.join(" ")
        }
    }
}

#[test]
fn an_admin_is_told_why_and_who() {
    let place = Place::new();
    place.foreign(
        "shop",
        &format!("{}{}", table("orders", "SELECT 1 AS id"), table("loose", "SELECT 1 AS id")),
    );
    let agnes = place.agnes();
    rebuild(&agnes);
    let access = agnes.access().unwrap();
    let admin = access.admin(OPERATOR).unwrap();
    admin.register(new_table("orders")).unwrap();
    admin.register(new_table("late")).unwrap();
    let (ada, sales) = (user(&admin, "ada@example.com"), group(&admin, "sales"));
    admin.add_member(&sales.id, &ada.id).unwrap();
    for table in ["table:orders", "table:late"] {
        admin.grant(&sales.id, resource(table)).unwrap();
    }
    let told = agnes.explain(&ada.email, "ORDERS").unwrap();
    assert!(told.allowed && told.about.published && told.about.registered);
    assert_eq!((told.about.but, told.user_id.clone()), (None, ada.id.clone()));
    let told = agnes.explain(&ada.email, "late").unwrap();
    assert!(told.allowed && !told.about.published);
    assert!(told.about.but.unwrap().contains("`shop` publishes no table `late` now"));
    let told = agnes.explain(&ada.email, "loose").unwrap();
    assert!(!told.allowed && told.about.published && !told.about.registered);
    let able = agnes.who_can("orders").unwrap().able;
    assert_eq!(able.iter().map(|who| who.email.as_str()).collect::<Vec<_>>(), ["ada@example.com"]);
    for unknown in [
        agnes.explain(&email("eve@example.com"), "orders").unwrap_err(),
        agnes.explain(&ada.email, "nowhere").unwrap_err(),
        agnes.who_can("`; --").unwrap_err(),
        access.principal_of(&email("eve@example.com")).unwrap_err(),
        admin.grant_of(&sales.name, &resource("table:salaries")).unwrap_err(),
    ] {
        assert_eq!(unknown.kind(), Kind::NotFound, "{unknown}");
    }
    // What isn't there is decided like what isn't hers.
    let who = access.principal_of(&ada.email).unwrap();
    assert!(access.decide_named(&who, "Orders").unwrap().is_allowed());
    let reasons =
        ["loose", "nowhere"].map(|table| access.decide_named(&who, table).unwrap().reasons());
    assert_eq!(reasons[0], reasons[1]);
    assert_eq!(access.decide_named(&who, "").unwrap_err().kind(), Kind::Invalid);
}

/// Every rule, as a row: who, what, under which policy, and why or why not.
#[test]
fn the_matrix_of_decisions() {
    for policy in [TablePolicy::Grants, TablePolicy::GrantsAndLegacy] {
        let place = Place::new();
        let agnes = with_policy(&place, policy);
        let access = agnes.access().unwrap();
        let admin = access.admin(OPERATOR).unwrap();
        let declared = |id: &str, bucket: Option<&str>, is_public: bool| {
            let declaration = Declaration {
                bucket: bucket.map(str::to_string),
                is_public,
                ..Declaration::default()
            };
            let id = Some(TableId::parse(id).unwrap());
            let name = ViewName::parse(format!("name_of_{}", id.as_ref().unwrap())).unwrap();
            admin.register(NewTable { id, declaration, name, ..new_table("x") }).unwrap()
        };
        declared("granted", None, false);
        declared("twice", None, false);
        declared("public", None, true);
        declared("permitted", None, false);
        declared("none", None, false);
        declared("bucketed", Some("in.c-crm"), false);
        declared("other_bucket", Some("in.c-erp"), false);
        declared("nobodys", None, false);

        let root = user(&admin, "root@example.com");
        admin.add_member(&admin.group_by_name(&GroupName::admin()).unwrap().id, &root.id).unwrap();
        let ada = user(&admin, "ada@example.com");
        let gone = user(&admin, "gone@example.com");
        let loner = user(&admin, "loner@example.com");
        let (a, b) = (group(&admin, "a"), group(&admin, "b"));
        for member in [&ada, &gone] {
            admin.add_member(&a.id, &member.id).unwrap();
        }
        admin.add_member(&b.id, &ada.id).unwrap();
        let by_a = admin.grant(&a.id, resource("table:granted")).unwrap().id;
        let first = admin.grant(&a.id, resource("table:twice")).unwrap().id;
        admin.grant(&b.id, resource("table:twice")).unwrap();
        admin.permit(&ada.id, "permitted", "read").unwrap();
        admin.permit(&ada.id, "none", "none").unwrap();
        admin.permit(&ada.id, "in.c-crm.*", "read").unwrap();
        admin.permit(&ada.id, "unknown", "read").unwrap();
        admin.set_active(&gone.id, false).unwrap();

        let legacy = policy == TablePolicy::GrantsAndLegacy;
        let if_legacy = |reason: Reason| if legacy { reason } else { Reason::NotGranted };
        let granted = |group: &Group, grant| Reason::Granted { group: group.name.clone(), grant };
        let permission = |d: &str| Reason::Permission { dataset: d.to_string() };
        let stranger = UserId::parse("nobody-knows").unwrap();
        for (who, what, reason) in [
            (&root.id, "granted", Reason::Admin),
            (&root.id, "nobodys", Reason::Admin),
            (&root.id, "unknown", Reason::Admin),
            (&ada.id, "granted", granted(&a, by_a.clone())),
            (&ada.id, "GRANTED", granted(&a, by_a)),
            (&ada.id, "twice", granted(&a, first)),
            (&ada.id, "name_of_granted", Reason::NotGranted),
            (&ada.id, "nobodys", Reason::NotGranted),
            (&ada.id, "unknown", if_legacy(permission("unknown"))),
            (&ada.id, "other", Reason::NotGranted),
            (&ada.id, "public", if_legacy(Reason::Public)),
            (&loner.id, "public", if_legacy(Reason::Public)),
            (&ada.id, "permitted", if_legacy(permission("permitted"))),
            (&loner.id, "permitted", Reason::NotGranted),
            (&ada.id, "none", Reason::NotGranted),
            (&ada.id, "bucketed", if_legacy(permission("in.c-crm.*"))),
            (&ada.id, "other_bucket", Reason::NotGranted),
            (&loner.id, "granted", Reason::NotGranted),
            (&gone.id, "granted", Reason::Deactivated),
            (&gone.id, "public", Reason::Deactivated),
            (&stranger, "public", Reason::UnknownUser),
        ] {
            let what = format!("table:{what}");
            assert_eq!(may(&access, who, &what), reason, "{policy:?} {who} {what}");
            let decision = access.decide(&Principal::user(who.clone()), &resource(&what));
            assert_eq!(decision.is_allowed(), reason.allows(), "{who} {what}");
            assert_eq!(decision.permit().is_ok(), reason.allows(), "{who} {what}");
            assert_eq!(decision.reasons().first(), Some(&reason), "{who} {what}");
        }
        let decide =
            |who: &Principal| access.decide(who, &resource("table:public")).reason().clone();
        assert_eq!(decide(OPERATOR), Reason::Operator);
        assert_eq!(decide(&Principal::Nobody), Reason::Nobody);

        let visible = |who: &UserId| names(&access.visibility(&Principal::user(who.clone())));
        assert_eq!(visible(&root.id), "all");
        assert_eq!(names(&access.visibility(OPERATOR)), "all");
        assert_eq!(names(&access.visibility(&Principal::Nobody)), "");
        assert_eq!(visible(&gone.id), "");
        assert_eq!(visible(&stranger), "");
        assert_eq!(visible(&loner.id), if legacy { "public" } else { "" });
        let all = if legacy { "granted twice public permitted bucketed" } else { "granted twice" };
        assert_eq!(visible(&ada.id), all);

        let who = |what: &str| -> Vec<String> {
            let able = admin.who_can(&resource(what));
            able.iter().map(|m| format!("{} {}", m.email, m.reasons.len())).collect()
        };
        assert_eq!(who("table:twice"), ["ada@example.com 2", "root@example.com 1"]);
        assert_eq!(who("table:nobodys"), ["root@example.com 1"]);
    }
}

/// What isn't there and what isn't hers is the same answer.
/// What clients of before there were groups ask for.
#[test]
fn roles_are_groups_by_another_name() {
    let place = Place::new();
    let agnes = place.agnes();
    let access = agnes.access().unwrap();
    let admin = access.admin(OPERATOR).unwrap();
    let root = admin.break_glass(email("root@example.com")).unwrap();
    let (ada, gone) = (user(&admin, "ada@example.com"), user(&admin, "gone@example.com"));
    admin.set_active(&gone.id, false).unwrap();
    // An ordinary group of that name gives nothing.
    let km = group(&admin, "km_admin");
    admin.add_member(&km.id, &ada.id).unwrap();
    for (who, passes) in [
        (Principal::user(root.id.clone()), [true, true, true, true]),
        (Principal::user(ada.id.clone()), [true, true, false, false]),
        (Principal::user(gone.id), [false; 4]),
        (Principal::Nobody, [false; 4]),
        (Principal::Operator, [true; 4]),
    ] {
        let roles = ["viewer", "analyst", "km_admin", "admin"];
        let found = roles.map(|role| access.has_role(&who, Role::parse(role).unwrap()));
        assert_eq!(found, passes, "{who:?}");
    }
    assert!(Role::parse("Admin").is_err());
    assert_eq!(admin.user(&root.id).unwrap().role, "admin");
    assert_eq!(admin.user(&ada.id).unwrap().role, "user");
}

#[test]
fn hidden_means_absent() {
    let place = Place::new();
    let agnes = place.agnes();
    let access = agnes.access().unwrap();
    let admin = access.admin(OPERATOR).unwrap();
    admin.register(new_table("salaries")).unwrap();
    let ada = Principal::user(user(&admin, "ada@example.com").id);
    let answer = |what: &str| {
        let decision = access.decide(&ada, &resource(&format!("table:{what}")));
        let error = decision.permit().unwrap_err();
        assert_eq!(error.kind(), Kind::Denied);
        error.message().replace(what, "…")
    };
    assert_eq!(answer("salaries"), answer("payroll"));
}

#[test]
fn addresses_and_group_names_compare_without_case() {
    let place = Place::new();
    let agnes = place.agnes();
    let access = agnes.access().unwrap();
    let admin = access.admin(OPERATOR).unwrap();
    let ada = user(&admin, "Ada@Example.com");
    for again in ["ada@example.com", "ADA@EXAMPLE.COM"] {
        assert_eq!(admin.add_user(email(again), None).unwrap_err().kind(), Kind::Conflict);
        assert_eq!(access.user_by_email(&email(again)).unwrap().id, ada.id);
    }
    for name in ["admin", "ADMIN", "everyone"] {
        let error = admin.add_group(GroupName::parse(name).unwrap(), None).unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict, "{name}");
    }
}

/// Nobody takes one for another whom she can't tell apart by looking.
#[test]
fn characters_that_nobody_sees_are_in_no_name() {
    for text in ["ada@exam\u{200b}ple.com", "ad\u{ad}a@example.com", "ada@example.com\u{202e}"] {
        assert!(Email::parse(text).is_err(), "{text:?}");
    }
    assert!(GroupName::parse("Admin\u{200b}").is_err());
    let place = Place::new();
    let agnes = place.agnes();
    let access = agnes.access().unwrap();
    let admin = access.admin(OPERATOR).unwrap();
    let error = admin.add_user(email("a@b.c"), Some("x\ny".into())).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
}

/// Hashes of passwords and tokens are nobody else's to read.
#[test]
fn the_system_database_is_its_owners() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let agnes = place.agnes();
    let access = agnes.access().unwrap();
    user(&access.admin(OPERATOR).unwrap(), "ada@example.com");
    let mode =
        |path: &str| place.data().join(path).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("state"), 0o700);
    assert_eq!(mode("state/system.duckdb"), 0o600);
    assert_eq!(mode("state/system.duckdb.wal"), 0o600);
}

#[test]
fn the_last_admin_stays_and_nobody_removes_herself() {
    let place = Place::new();
    let agnes = place.agnes();
    let access = agnes.access().unwrap();
    let operator = access.admin(OPERATOR).unwrap();
    let admins = operator.group_by_name(&GroupName::admin()).unwrap().id;
    let (ada, bob) = (user(&operator, "ada@example.com"), user(&operator, "bob@example.com"));
    operator.add_member(&admins, &ada.id).unwrap();
    for refused in [
        operator.set_active(&ada.id, false).map(drop),
        operator.remove_user(&ada.id),
        operator.remove_member(&admins, &ada.id),
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict, "{error}");
        assert_eq!(error.context(agnes_core::Key::Reason), Some("last_admin"));
    }
    operator.add_member(&admins, &bob.id).unwrap();
    let as_ada = Principal::user(ada.id.clone());
    let admin = access.admin(&as_ada).unwrap();
    for refused in [admin.set_active(&ada.id, false).map(drop), admin.remove_user(&ada.id)] {
        assert_eq!(refused.unwrap_err().kind(), Kind::Conflict);
    }
    admin.set_active(&bob.id, false).unwrap();
    // A deactivated admin doesn't count.
    let as_bob = Principal::user(bob.id.clone());
    assert_eq!(access.admin(&as_bob).unwrap_err().kind(), Kind::Denied);
    assert_eq!(operator.remove_user(&ada.id).unwrap_err().kind(), Kind::Conflict);
    operator.remove_user(&bob.id).unwrap();
    assert_eq!(operator.user(&bob.id).unwrap_err().kind(), Kind::NotFound);
}

/// Leave to administer ends with being an admin, though it was given before.
#[test]
fn an_admin_who_is_none_any_more_changes_nothing() {
    let place = Place::new();
    let agnes = place.agnes();
    let access = agnes.access().unwrap();
    let operator = access.admin(OPERATOR).unwrap();
    let admins = operator.group_by_name(&GroupName::admin()).unwrap().id;
    let (ada, bob) = (user(&operator, "ada@example.com"), user(&operator, "bob@example.com"));
    operator.add_member(&admins, &ada.id).unwrap();
    operator.add_member(&admins, &bob.id).unwrap();
    let as_bob = Principal::user(bob.id.clone());
    let admin = access.admin(&as_bob).unwrap();
    operator.remove_member(&admins, &bob.id).unwrap();
    let name = GroupName::parse("mine").unwrap();
    assert_eq!(admin.add_group(name.clone(), None).unwrap_err().kind(), Kind::Denied);
    assert_eq!(admin.break_glass(email("bob@example.com")).unwrap_err().kind(), Kind::Denied);
    assert!(operator.group_by_name(&name).is_err());
}

#[test]
fn groups_that_are_always_there() {
    let place = Place::new();
    let agnes = place.agnes();
    let access = agnes.access().unwrap();
    let admin = access.admin(OPERATOR).unwrap();
    for name in [GroupName::admin(), GroupName::everyone()] {
        let group = admin.group_by_name(&name).unwrap();
        assert!(group.is_system);
        assert_eq!(admin.remove_group(&group.id).unwrap_err().kind(), Kind::Conflict);
        let other = Some(GroupName::parse("other").unwrap());
        assert_eq!(admin.update_group(&group.id, other, None).unwrap_err().kind(), Kind::Conflict);
        let said = admin.update_group(&group.id, None, Some(Some("said".into()))).unwrap();
        assert_eq!(said.description.as_deref(), Some("said"));
    }
    // Nobody is in Everyone without being put there.
    let ada = user(&admin, "ada@example.com");
    assert_eq!(admin.user(&ada.id).unwrap().groups.len(), 0);
    let everyone = admin.group_by_name(&GroupName::everyone()).unwrap();
    admin.register(new_table("orders")).unwrap();
    admin.grant(&everyone.id, resource("table:orders")).unwrap();
    assert_eq!(may(&access, &ada.id, "table:orders"), Reason::NotGranted);
}

#[test]
fn a_membership_keeps_its_first_source() {
    let place = Place::new();
    let agnes = place.agnes();
    let access = agnes.access().unwrap();
    let admin = access.admin(OPERATOR).unwrap();
    let ada = admin.break_glass(email("ada@example.com")).unwrap();
    let admins = admin.group_by_name(&GroupName::admin()).unwrap().id;
    let member = admin.add_member(&admins, &ada.id).unwrap();
    assert_eq!(member.source, MemberSource::CliBreakGlass);
    // Another admin can't take out whom she didn't put there; the operator can.
    let bob = user(&admin, "bob@example.com");
    admin.add_member(&admins, &bob.id).unwrap();
    let as_bob = Principal::user(bob.id);
    let error = access.admin(&as_bob).unwrap().remove_member(&admins, &ada.id).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    admin.remove_member(&admins, &ada.id).unwrap();
    // A second glass for somebody who is deactivated.
    admin.set_active(&ada.id, false).unwrap();
    let ada = admin.break_glass(email("ADA@example.com")).unwrap();
    assert!(ada.active);
    assert_eq!(admin.user(&ada.id).unwrap().groups.len(), 1);
    let told = admin.audit(10).unwrap();
    assert!(told.iter().any(|event| event.action == "user.break_glass"), "{told:?}");
}

#[test]
fn grants_name_what_there_is() {
    let place = Place::new();
    let agnes = place.agnes();
    let access = agnes.access().unwrap();
    let admin = access.admin(OPERATOR).unwrap();
    let sales = group(&admin, "sales");
    admin.register(new_table("Orders")).unwrap();
    let refuse = |what: &str| admin.grant(&sales.id, resource(what)).unwrap_err().kind();
    assert_eq!(refuse("table:payroll"), Kind::NotFound);
    assert_eq!(refuse("memory_domain:finance"), Kind::Invalid);
    let grant = admin.grant(&sales.id, resource("table:ORDERS")).unwrap();
    assert_eq!(grant.resource.to_string(), "table:orders");
    assert_eq!(refuse("table:orders"), Kind::Conflict);
    admin.revoke(&grant.id).unwrap();
    assert_eq!(admin.revoke(&grant.id).unwrap_err().kind(), Kind::NotFound);
    assert_eq!(admin.grants().len(), 0);
}

/// An embedding program grants its own things, with no change of the database.
#[test]
fn a_type_of_resource_of_ones_own() {
    struct Domains;
    impl ResourceKind for Domains {
        fn key(&self) -> ResourceType {
            ResourceType::parse("memory_domain").unwrap()
        }
        fn display_name(&self) -> &str {
            "Memory domain"
        }
        fn description(&self) -> &str {
            "A part of what the company knows"
        }
        fn id_format(&self) -> &str {
            "<domain>"
        }
        fn blocks(&self) -> agnes_core::Result<Vec<Block>> {
            Ok(Vec::new())
        }
        fn check(&self, id: &str) -> agnes_core::Result<()> {
            match id {
                "finance" | "data" => Ok(()),
                _ => Err(agnes_core::Error::new(Kind::NotFound, "there is no such domain")),
            }
        }
    }
    let place = Place::new();
    let components =
        Components { resource_kinds: vec![Arc::new(Domains)], ..Components::default() };
    let agnes = Agnes::open_with(place.data(), Settings::default(), components).unwrap();
    let access = agnes.access().unwrap();
    let admin = access.admin(OPERATOR).unwrap();
    let (sales, ada) = (group(&admin, "sales"), user(&admin, "ada@example.com"));
    admin.add_member(&sales.id, &ada.id).unwrap();
    let error = admin.grant(&sales.id, resource("memory_domain:x")).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let grant = admin.grant(&sales.id, resource("memory_domain:finance")).unwrap();
    assert!(may(&access, &ada.id, "memory_domain:finance").allows());
    assert!(!may(&access, &ada.id, "memory_domain:Finance").allows());
    let hers = access.effective_access(&Principal::user(ada.id.clone()));
    assert_eq!(hers.items.len(), 1);
    admin.revoke(&grant.id).unwrap();
    assert!(!may(&access, &ada.id, "memory_domain:finance").allows());
}

/// Everything is as it was after the program ended.
#[test]
fn facts_survive_the_program() {
    let place = Place::new();
    let before = {
        let agnes = place.agnes();
        let access = agnes.access().unwrap();
        let admin = access.admin(OPERATOR).unwrap();
        let (sales, ops) = (group(&admin, "sales"), group(&admin, "ops"));
        let (ada, bob) = (user(&admin, "ada@example.com"), user(&admin, "bob@example.com"));
        let declaration = Declaration {
            bucket: Some("in.c-crm".into()),
            description: Some("it's \"all\"".into()),
            primary_key: vec![agnes_core::ColumnName::parse("id, really").unwrap()],
            where_filters: vec![serde_json::json!({"column": "a", "values": [1]})],
            incremental_window_days: Some(7),
            is_public: true,
            ..Declaration::default()
        };
        admin.register(NewTable { declaration, ..new_table("orders") }).unwrap();
        admin.register(new_table("lines")).unwrap();
        for member in [&ada, &bob] {
            admin.add_member(&sales.id, &member.id).unwrap();
        }
        admin.add_member(&ops.id, &bob.id).unwrap();
        admin.grant(&sales.id, resource("table:orders")).unwrap();
        admin.grant(&ops.id, resource("table:lines")).unwrap();
        admin.permit(&ada.id, "lines", "read").unwrap();
        // What is unregistered takes along what was permitted of it.
        let temporary = admin.register(new_table("temporary")).unwrap();
        admin.permit(&ada.id, "TEMPORARY", "read").unwrap();
        agnes.unregister(OPERATOR, &temporary.id, &NoProgress).unwrap();
        admin.set_active(&bob.id, false).unwrap();
        admin.rename_user(&ada.id, Some("Ada".into())).unwrap();
        // What is removed takes along what hangs on it.
        let gone = user(&admin, "gone@example.com");
        admin.add_member(&ops.id, &gone.id).unwrap();
        admin.remove_user(&gone.id).unwrap();
        let temporary = group(&admin, "temporary");
        admin.add_member(&temporary.id, &ada.id).unwrap();
        admin.grant(&temporary.id, resource("table:lines")).unwrap();
        admin.remove_group(&temporary.id).unwrap();
        (admin.users(), admin.groups(), admin.grants(), admin.permissions(), admin.tables())
    };
    let agnes = place.agnes();
    let access = agnes.access().unwrap();
    let admin = access.admin(OPERATOR).unwrap();
    let after =
        (admin.users(), admin.groups(), admin.grants(), admin.permissions(), admin.tables());
    assert_eq!(format!("{before:#?}"), format!("{after:#?}"));
}

#[test]
fn ids_and_names_of_tables_are_one_list() {
    let place = Place::new();
    let agnes = place.agnes();
    let access = agnes.access().unwrap();
    let admin = access.admin(OPERATOR).unwrap();
    let with_id = |id: &str, name: &str| {
        admin.register(NewTable { id: Some(TableId::parse(id).unwrap()), ..new_table(name) })
    };
    with_id("orders_90d", "Orders").unwrap();
    for (id, name) in [("orders_90d", "x"), ("x", "ORDERS"), ("orders", "x"), ("x", "orders_90D")] {
        assert_eq!(with_id(id, name).unwrap_err().kind(), Kind::Conflict, "{id} {name}");
    }
    let lines = with_id("lines", "lines").unwrap();
    let renamed = |name: &str| {
        let name = ViewName::parse(name).unwrap();
        admin.update_table(&lines.id, |table| {
            table.name = name;
            Ok(())
        })
    };
    assert_eq!(renamed("orders_90d").unwrap_err().kind(), Kind::Conflict);
    assert_eq!(renamed("Lines").unwrap().name.as_str(), "Lines");
    // An id is looked for before a name.
    assert_eq!(access.resolve("ORDERS_90D").unwrap().name.as_str(), "Orders");
    assert_eq!(access.resolve("orders").unwrap().id.as_str(), "orders_90d");
    assert!(access.resolve("../orders").is_none());
    // In one call as well: all or none.
    let error = admin.register_all(vec![new_table("a"), new_table("A")]).unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(access.resolve("a").is_none());
}

fn shop(place: &Place) -> Agnes {
    let agnes = place.agnes();
    let orders = place.write("in/orders.csv", "id,total\n1,9.5\n");
    let lines = place.write("in/lines.csv", "id\n1\n");
    ingest(&agnes, "shop", &[&orders, &lines]);
    rebuild(&agnes);
    agnes
}

#[test]
fn an_ingest_registers_its_tables() {
    let place = Place::new();
    let agnes = shop(&place);
    let access = agnes.access().unwrap();
    let orders = access.resolve("orders").unwrap();
    assert_eq!(orders.source, source("shop"));
    assert_eq!(orders.registered_by.as_deref(), Some("operator"));
    // Another source's table of that name is nothing that this one's grants reach.
    let other = place.write("other/orders.csv", "id\n7\n");
    let files = agnes_core::connectors::files::FilesConnector::new(
        vec![other],
        agnes_core::connectors::files::FilesOptions::default(),
    );
    let report = agnes.ingest(&source("evil"), &files, &NoProgress).unwrap();
    assert_eq!(report.registered.len(), 0);
    assert_eq!(report.unregistered.first().unwrap().kind(), Kind::Conflict);
    assert_eq!(access.resolve("orders").unwrap().source, source("shop"));
}

#[test]
fn adopting_registers_what_is_published() {
    let place = Place::new();
    place.foreign("crm", &(table("people", "SELECT 1 AS a") + &table("firms", "SELECT 1 AS a")));
    place.foreign("keboola", &table("deals", "SELECT 1 AS a"));
    let agnes = place.agnes();
    rebuild(&agnes);
    let adopted = agnes.adopt(OPERATOR, Some(&source("crm"))).unwrap();
    let ids: Vec<&str> = adopted.registered.iter().map(|t| t.id.as_str()).collect();
    assert_eq!(ids, ["firms", "people"]);
    assert_eq!(agnes.adopt(OPERATOR, None).unwrap().registered.len(), 1);
    let deals = agnes.access().unwrap().resolve("deals").unwrap();
    assert_eq!(deals.declaration.source_type.as_deref(), Some("keboola"));
    assert_eq!(deals.declaration.description.as_deref(), Some("about deals"));
    assert_eq!(agnes.adopt(OPERATOR, None).unwrap().registered.len(), 0);
    let nothing = agnes.adopt(OPERATOR, Some(&source("nothing")));
    assert_eq!(nothing.unwrap_err().kind(), Kind::NotFound);
}

/// The contract allows it, and only its source knows the query.
#[test]
fn a_materialized_table_is_adopted_with_the_others() {
    let place = Place::new();
    let materialized = table("deals", "SELECT 1 AS a").replace("'local'", "'materialized'");
    place.foreign("crm", &(table("people", "SELECT 1 AS a") + &materialized));
    let agnes = place.agnes();
    rebuild(&agnes);
    assert_eq!(agnes.adopt(OPERATOR, None).unwrap().registered.len(), 2);
}

/// A grant follows the data, not the name.
#[test]
fn a_name_that_changes_hands_takes_no_grants_along() {
    let place = Place::new();
    place.foreign("old", &table("people", "SELECT 1 AS a"));
    let agnes = place.agnes();
    rebuild(&agnes);
    agnes.adopt(OPERATOR, None).unwrap();
    let access = agnes.access().unwrap();
    let admin = access.admin(OPERATOR).unwrap();
    let sales = group(&admin, "sales");
    admin.grant(&sales.id, resource("table:people")).unwrap();
    std::fs::remove_dir_all(place.extract("old")).unwrap();
    place.foreign("new", &table("people", "SELECT 2 AS a"));
    rebuild(&agnes);
    rebuild(&agnes);
    assert_eq!(agnes.generation().unwrap().unwrap().views.len(), 1);
    // Nobody is asked about a bulk adoption whether she meant this one.
    let adoption = agnes.adopt(OPERATOR, None).unwrap();
    assert_eq!((adoption.taken_over.len(), adoption.left.len()), (0, 1));
    assert_eq!(access.resolve("people").unwrap().source, source("old"));
    let adoption = agnes.adopt(OPERATOR, Some(&source("new"))).unwrap();
    let taken = adoption.taken_over.first().unwrap();
    assert_eq!((&taken.from, &taken.table.source), (&source("old"), &source("new")));
    assert_eq!(taken.groups, [sales.name]);
}

#[test]
fn what_is_unregistered_is_gone_until_it_is_registered_again() {
    let place = Place::new();
    place.foreign("crm", &(table("people", "SELECT 1 AS a") + &table("firms", "SELECT 1 AS a")));
    let agnes = place.agnes_later();
    rebuild(&agnes);
    agnes.adopt(OPERATOR, None).unwrap();
    let access = agnes.access().unwrap();
    let admin = access.admin(OPERATOR).unwrap();
    let (sales, ada) = (group(&admin, "sales"), user(&admin, "ada@example.com"));
    admin.add_member(&sales.id, &ada.id).unwrap();
    admin.grant(&sales.id, resource("table:people")).unwrap();
    let id = TableId::parse("people").unwrap();
    let (table, report) = agnes.unregister(OPERATOR, &id, &NoProgress).unwrap();
    assert_eq!(report.unwrap().dropped, [ViewName::parse("people").unwrap()]);
    assert!(!may(&access, &ada.id, "table:people").allows());
    assert_eq!(admin.grants().len(), 0);
    assert_eq!(agnes.store().unwrap().sync_states().unwrap().len(), 1);
    let views = || agnes.generation().unwrap().unwrap().views.len();
    rebuild(&agnes);
    rebuild(&agnes);
    assert_eq!(views(), 1);
    assert_eq!(query_error(&agnes.session().unwrap(), "FROM people").kind(), Kind::NotFound);
    let again = agnes.unregister(OPERATOR, &id, &NoProgress);
    assert_eq!(again.unwrap_err().kind(), Kind::NotFound);

    admin.register(NewTable { source: table.source, ..new_table("people") }).unwrap();
    rebuild(&agnes);
    assert_eq!(views(), 2);
    // Old grants are gone for good.
    assert!(!may(&access, &ada.id, "table:people").allows());
}

/// An ingest that runs every night undoes nobody's decision.
#[test]
fn an_ingest_brings_nothing_back_that_was_unregistered() {
    let place = Place::new();
    let agnes = shop(&place);
    rebuild(&agnes);
    let id = TableId::parse("orders").unwrap();
    agnes.unregister(OPERATOR, &id, &NoProgress).unwrap();
    let files = agnes_core::connectors::files::FilesConnector::new(
        vec![place.write("in/orders.csv", "id\n1\n2\n")],
        agnes_core::connectors::files::FilesOptions::default(),
    );
    let report = agnes.ingest(&source("shop"), &files, &NoProgress).unwrap();
    assert_eq!(report.registered.len(), 0);
    let why = report.unregistered.first().unwrap();
    assert!(why.message().contains("registry register orders --source shop"), "{why}");
    rebuild(&agnes);
    assert!(agnes.access().unwrap().resolve("orders").is_none());
    let name = ViewName::parse("orders").unwrap();
    assert!(!agnes.generation().unwrap().unwrap().views.contains_key(&name));
}

/// What one user was granted is nobody else's, whatever address she has.
#[test]
fn a_group_of_ones_own_is_ones_own() {
    let place = Place::new();
    let agnes = place.agnes();
    let access = agnes.access().unwrap();
    let admin = access.admin(OPERATOR).unwrap();
    for table in ["orders", "lines", "notes"] {
        admin.register(new_table(table)).unwrap();
    }
    let asks = |who: &User, table: &str| {
        let id = TableId::parse(table).unwrap();
        access.request(&Principal::user(who.id.clone()), id, None).unwrap()
    };
    let first = user(&admin, "ada@example.com");
    admin.approve(&asks(&first, "orders").id, None).unwrap();
    admin.remove_user(&first.id).unwrap();
    let told = admin.audit(10).unwrap();
    for action in ["user.delete", "user_group.deleted"] {
        assert!(told.iter().any(|event| event.action == action), "{action}");
    }
    let second = user(&admin, "ada@example.com");
    let request = asks(&second, "lines");
    admin.approve(&request.id, None).unwrap();
    assert!(may(&access, &second.id, "table:lines").allows());
    assert!(!may(&access, &second.id, "table:orders").allows());
    // Others who were put into it would see what she asks for.
    let own = admin.user(&second.id).unwrap().groups.pop().unwrap();
    let bob = user(&admin, "bob@example.com");
    admin.add_member(&own.group.id, &bob.id).unwrap();
    let request = asks(&second, "notes");
    assert_eq!(admin.approve(&request.id, None).unwrap_err().kind(), Kind::Conflict);
    // Nobody fills the list of what waits for an answer.
    for at in 0..100 {
        let id = TableId::parse(format!("t{at}")).unwrap();
        if access.request(&Principal::user(bob.id.clone()), id, None).is_err() {
            panic!("{at}");
        }
    }
    let more = access.request(&Principal::user(bob.id), TableId::parse("more").unwrap(), None);
    assert_eq!(more.unwrap_err().kind(), Kind::Limit);
}

#[test]
fn what_is_done_is_told() {
    let place = Place::new();
    let agnes = place.agnes();
    let access = agnes.access().unwrap();
    let operator = access.admin(OPERATOR).unwrap();
    let root = operator.break_glass(email("root@example.com")).unwrap();
    let as_root = Principal::user(root.id.clone());
    let admin = access.admin(&as_root).unwrap();
    let (sales, ada) = (group(&admin, "sales"), user(&admin, "ada@example.com"));
    admin.add_member(&sales.id, &ada.id).unwrap();
    admin.register(new_table("orders")).unwrap();
    let grant = admin.grant(&sales.id, resource("table:orders")).unwrap();
    admin.revoke(&grant.id).unwrap();
    admin.remove_member(&sales.id, &ada.id).unwrap();
    admin.remove_group(&sales.id).unwrap();
    admin.remove_user(&ada.id).unwrap();
    let told = admin.audit(100).unwrap();
    let actions: Vec<&str> = told.iter().rev().map(|event| event.action.as_str()).collect();
    assert_eq!(
        actions,
        [
            "user.break_glass",
            "user_group.created",
            "user.create",
            "user_group.member_added",
            "register_table",
            "resource_grant.created",
            "resource_grant.deleted",
            "user_group.member_removed",
            "user_group.deleted",
            "user.delete",
        ]
    );
    let by_root = told.iter().filter(|event| event.user.as_deref() == Some(root.id.as_str()));
    assert_eq!(by_root.count(), 9);
    assert!(told.iter().any(|e| e.resource.as_deref() == Some(&format!("grant:{}", grant.id))));
}

/// A token that ended ends what was asked with it, though its owner may go on.
#[test]
fn an_unknown_token_is_worth_nothing() {
    let place = Place::new();
    let agnes = place.agnes();
    let access = agnes.access().unwrap();
    let admin = access.admin(OPERATOR).unwrap();
    let ada = admin.break_glass(email("ada@example.com")).unwrap();
    let token = agnes_core::access::TokenId::parse("made-up").unwrap();
    let principal = Principal::User { id: ada.id, via: Via::Token(token) };
    let decision = access.decide(&principal, &resource("table:x"));
    assert_eq!(*decision.reason(), Reason::TokenEnded);
    assert_eq!(access.admin(&principal).unwrap_err().kind(), Kind::Denied);
    assert_eq!(names(&access.visibility(&principal)), "");
}

#[test]
fn asking_for_a_table_and_getting_it() {
    for policy in [TablePolicy::Grants, TablePolicy::GrantsAndLegacy] {
        let place = Place::new();
        let agnes = with_policy(&place, policy);
        let access = agnes.access().unwrap();
        let admin = access.admin(OPERATOR).unwrap();
        admin.register(new_table("orders")).unwrap();
        let ada = user(&admin, "ada@example.com");
        let as_ada = Principal::user(ada.id.clone());
        let id = |text: &str| TableId::parse(text).unwrap();
        let request = access.request(&as_ada, id("Orders"), Some("to know".into())).unwrap();
        let again = access.request(&as_ada, id("orders"), None).unwrap_err();
        assert_eq!(again.kind(), Kind::Conflict);
        // Whether there is such a table she doesn't learn.
        let nothing = access.request(&as_ada, id("payroll"), None).unwrap();
        assert_eq!(admin.pending_requests().unwrap().len(), 2);
        assert_eq!(access.my_requests(&as_ada).unwrap().len(), 2);
        let bob = user(&admin, "bob@example.com");
        assert_eq!(access.my_requests(&Principal::user(bob.id.clone())).unwrap().len(), 0);
        assert!(access.request(&Principal::Nobody, id("orders"), None).is_err());

        let sales = group(&admin, "sales");
        let outside = admin.approve(&request.id, Some(&sales.id)).unwrap_err();
        assert_eq!(outside.kind(), Kind::Conflict, "{outside}");
        assert!(!may(&access, &ada.id, "table:orders").allows());
        let approved = admin.approve(&request.id, None).unwrap();
        assert_eq!(approved.reviewed_by.as_deref(), Some("operator"));
        assert!(may(&access, &ada.id, "table:orders").allows());
        assert!(!may(&access, &bob.id, "table:orders").allows());
        assert_eq!(admin.approve(&request.id, None).unwrap_err().kind(), Kind::NotFound);
        assert_eq!(admin.deny(&request.id).unwrap_err().kind(), Kind::NotFound);
        assert_eq!(admin.approve(&nothing.id, None).unwrap_err().kind(), Kind::NotFound);
        admin.deny(&nothing.id).unwrap();
        assert_eq!(admin.pending_requests().unwrap().len(), 0);
        // Denied is no bar to asking again.
        let again = access.request(&as_ada, id("payroll"), None).unwrap();
        admin.register(new_table("payroll")).unwrap();
        admin.approve(&again.id, None).unwrap();
        assert!(may(&access, &ada.id, "table:payroll").allows());
        let groups = admin.user(&ada.id).unwrap().groups.len();
        assert_eq!(groups, if policy == TablePolicy::Grants { 1 } else { 0 });
    }
}
