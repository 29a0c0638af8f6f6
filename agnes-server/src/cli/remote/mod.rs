//! Commands on a server elsewhere, over its API: `agnes --server URL …`. With `--json` they print
//! what the server answers.

mod server;

use agnes_core::arrow::ipc::reader::StreamReader;
use agnes_core::metric::Metric;
use agnes_core::profile::Profile;
use agnes_core::{Error, Kind, Result};
use serde_json::{Value, json};

pub(super) use server::Server;
use server::{invalid, items, number, text};

use super::Command;
use super::format::{Format, Writer};
use super::metadata::Command as MetadataCommand;
use super::metrics::Command as MetricsCommand;
use super::output::{Done, Output, bytes, grouped};
use super::people::{GrantCommand, GroupCommand, UserCommand};
use super::registry::Command as RegistryCommand;
use super::token::Command as TokenCommand;

/// Runs one query and writes its rows.
fn query(server: &Server, sql: &str, format: Format, limit: u64, output: &Output) -> Result<Done> {
    if limit == 0 {
        return Err(invalid("a server gives so many rows and no more: name a --limit"));
    }
    // One more says whether there are more; a server that gives no more says so.
    let ask = |limit: u64| {
        let body = json!({"sql": sql, "limit": limit});
        let stream = "application/vnd.apache.arrow.stream";
        server.send("POST", &["api", "query"], &[], stream, Some(&body))
    };
    let (answer, is_exact) = match ask(limit.saturating_add(1)) {
        Err(error) if error.message().contains("\"limit\"") => (ask(limit)?, false),
        other => (other?, true),
    };
    let broken = |e: agnes_core::arrow::error::ArrowError| {
        Error::new(Kind::Unavailable, format!("the answer broke off: {e}"))
    };
    let rows = StreamReader::try_new(answer.into_reader(), None).map_err(broken)?;
    let mut writer = Writer::new(format, &rows.schema(), output)?;
    let mut left = limit;
    let mut is_more = false;
    for batch in rows {
        let batch = batch.map_err(broken)?;
        let fits = usize::try_from(left).unwrap_or(usize::MAX).min(batch.num_rows());
        is_more |= fits < batch.num_rows();
        left -= fits as u64;
        writer.write(batch.slice(0, fits))?;
        if output.is_closed() {
            break;
        }
    }
    writer.finish()?;
    match (is_more, is_exact) {
        (true, _) => output.note(format_args!("(truncated at {} rows)", grouped(limit))),
        (false, false) if left == 0 => {
            output.note(format_args!("(the server gives {} rows at most)", grouped(limit)));
        }
        _ => {}
    }
    Ok(Done::Whole)
}

/// Shows a list, with these fields of each.
fn list<const N: usize>(
    json: super::Json,
    output: &Output,
    answer: &Value,
    columns: [(&str, &str); N],
) -> Result<Done> {
    if json.json {
        output.json(answer)?;
        return Ok(Done::Whole);
    }
    let rows = items(answer).iter().map(|item| columns.map(|(_, path)| text(item, path)));
    output.table(columns.map(|(name, _)| name), &[], rows)?;
    Ok(Done::Whole)
}

/// What a command does on a server.
pub(super) fn run(command: Command, server: &Server, output: &Output) -> Result<Done> {
    match command {
        Command::Query(command) => {
            if command.as_user.is_some() {
                return Err(invalid("a server answers as the user of the token, without --as"));
            }
            let sql = if command.sql == "-" { output.input()? } else { command.sql };
            let format = command.rows.format(output)?;
            query(server, &sql, format, command.rows.limit, output)
        }
        Command::Manifest(command) => {
            if command.as_user.is_some() {
                return Err(invalid("a server answers as the user of the token, without --as"));
            }
            let manifest = server.get(&["api", "sync", "manifest"])?;
            if command.json.json {
                output.json(&manifest)?;
                return Ok(Done::Whole);
            }
            let tables = manifest.get("tables").and_then(Value::as_object);
            let rows = tables.into_iter().flatten().map(|(name, entry)| {
                [
                    name.clone(),
                    grouped(number(entry, "/rows")),
                    bytes(number(entry, "/size_bytes")),
                    text(entry, "/updated"),
                    text(entry, "/hash"),
                ]
            });
            output.table(["table", "rows", "size", "updated", "md5"], &[1, 2], rows)?;
            Ok(Done::Whole)
        }
        Command::Profile(command) => {
            let answer = server.get(&["api", "catalog", "profile", &command.table])?;
            if command.json.json {
                output.json(&answer)?;
                return Ok(Done::Whole);
            }
            let profile: Profile = serde_json::from_value(answer).map_err(|_| {
                Error::new(Kind::Unavailable, "the server's profile is of another version; --json")
            })?;
            super::profile::show(&profile, output)?;
            Ok(Done::Whole)
        }
        Command::User(command) => user(server, command.command, command.json, output),
        Command::Group(command) => group(server, command.command, command.json, output),
        Command::Grant(command) => grant(server, command.command, command.json, output),
        Command::Token(command) => token(server, command.command, command.json, output),
        Command::Registry(command) => registry(server, command.command, command.json, output),
        Command::Metrics(command) => metrics(server, command.command, output),
        Command::Metadata(command) => metadata(server, command.command, command.json, output),
        Command::Sync(command) => {
            if command.all || command.dry_run || !command.sources.is_empty() {
                return Err(invalid("a server brings over what is due: leave out the rest"));
            }
            let answer = server.ask("POST", &["api", "sync", "trigger"], None)?;
            command.json.one(output, &answer, || text(&answer, "/message"))
        }
        Command::Status(command) => {
            let answer = server.get(&["api", "health", "detailed"])?;
            command.json.one(output, &answer, || {
                format!(
                    "{}: {}, version {}, {} tables, {} rows",
                    server.url,
                    text(&answer, "/status"),
                    text(&answer, "/version"),
                    grouped(number(&answer, "/services/data/tables")),
                    grouped(number(&answer, "/services/data/total_rows")),
                )
            })
        }
        _ => Err(invalid(
            "this command works on a data folder: run it where that is, without --server",
        )),
    }
}

fn user(server: &Server, command: UserCommand, json: super::Json, output: &Output) -> Result<Done> {
    let users = ["api", "users"];
    let id = |email: &str| server.user(email).map(|user| text(&user, "/id"));
    let (email, told, answer) = match command {
        UserCommand::List => {
            let answer = server.get(&users)?;
            if json.json {
                output.json(&answer)?;
                return Ok(Done::Whole);
            }
            let rows = items(&answer).iter().map(|user| {
                let groups = user.get("groups").map_or(&[][..], items);
                let groups: Vec<String> = groups.iter().map(|group| text(group, "/name")).collect();
                let state = if text(user, "/active") == "true" { "active" } else { "deactivated" };
                [text(user, "/email"), text(user, "/name"), state.to_string(), groups.join(", ")]
            });
            output.table(["email", "name", "state", "groups"], &[], rows)?;
            return Ok(Done::Whole);
        }
        UserCommand::Add { email, name, admin } => {
            let role = admin.then_some("admin");
            let body = json!({"email": email, "name": name, "role": role});
            let told = if admin { "added as an admin" } else { "added" };
            (email, told, server.ask("POST", &users, Some(&body))?)
        }
        UserCommand::Activate { email } => {
            let path = ["api", "users", &id(email.as_str())?, "activate"];
            (email, "active", server.ask("POST", &path, None)?)
        }
        UserCommand::Deactivate { email } => {
            let path = ["api", "users", &id(email.as_str())?, "deactivate"];
            (email, "deactivated", server.ask("POST", &path, None)?)
        }
        UserCommand::Remove { email } => {
            let there = server.user(email.as_str())?;
            server.ask("DELETE", &["api", "users", &text(&there, "/id")], None)?;
            (email, "removed", there)
        }
    };
    json.one(output, &answer, || format!("{email}: {told}"))
}

fn group(
    server: &Server,
    command: GroupCommand,
    json: super::Json,
    output: &Output,
) -> Result<Done> {
    let groups = ["api", "admin", "groups"];
    let id = |name: &str| server.group(name).map(|group| text(&group, "/id"));
    match command {
        GroupCommand::List => {
            let columns = [
                ("group", "/name"),
                ("members", "/member_count"),
                ("grants", "/grant_count"),
                ("description", "/description"),
            ];
            list(json, output, &server.get(&groups)?, columns)
        }
        GroupCommand::Members { name } => {
            let path = ["api", "admin", "groups", &id(name.as_str())?, "members"];
            let columns = [
                ("email", "/email"),
                ("source", "/source"),
                ("since", "/added_at"),
                ("by", "/added_by"),
            ];
            list(json, output, &server.get(&path)?, columns)
        }
        GroupCommand::Create { name, description } => {
            let body = json!({"name": name, "description": description});
            let answer = server.ask("POST", &groups, Some(&body))?;
            json.one(output, &answer, || format!("{name}: created"))
        }
        GroupCommand::AddMember { name, email } => {
            let path = ["api", "admin", "groups", &id(name.as_str())?, "members"];
            let answer = server.ask("POST", &path, Some(&json!({"email": email})))?;
            json.one(output, &answer, || format!("{name}: {email} is in it"))
        }
        GroupCommand::RemoveMember { name, email } => {
            let (group, user) = (id(name.as_str())?, text(&server.user(email.as_str())?, "/id"));
            server.ask("DELETE", &["api", "admin", "groups", &group, "members", &user], None)?;
            let told = json!({"group_id": group, "user_id": user});
            json.one(output, &told, || format!("{name}: {email} is in it no more"))
        }
        GroupCommand::Delete { name } => {
            let there = server.group(name.as_str())?;
            server.ask("DELETE", &["api", "admin", "groups", &text(&there, "/id")], None)?;
            json.one(output, &there, || format!("{name}: deleted"))
        }
    }
}

fn grant(
    server: &Server,
    command: GrantCommand,
    json: super::Json,
    output: &Output,
) -> Result<Done> {
    let grants = ["api", "admin", "grants"];
    let resource = |grant: &Value| {
        format!("{}:{}", text(grant, "/resource_type"), text(grant, "/resource_id"))
    };
    match command {
        GrantCommand::List => {
            let answer = server.get(&grants)?;
            if json.json {
                output.json(&answer)?;
                return Ok(Done::Whole);
            }
            let rows = items(&answer).iter().map(|grant| {
                [
                    text(grant, "/group_name"),
                    resource(grant),
                    text(grant, "/assigned_at"),
                    text(grant, "/id"),
                ]
            });
            output.table(["group", "may see", "since", "id"], &[], rows)?;
            Ok(Done::Whole)
        }
        GrantCommand::Create { group, resource } => {
            let there = server.group(group.as_str())?;
            let body = json!({
                "group_id": text(&there, "/id"), "resource_type": resource.kind(), "resource_id": resource.id(),
            });
            let answer = server.ask("POST", &grants, Some(&body))?;
            json.one(output, &answer, || format!("{group} may see {resource}"))
        }
        GrantCommand::Delete { grant } => {
            let all = server.get(&grants)?;
            let is_meant = |there: &&Value| match grant.as_slice() {
                [id] => text(there, "/id") == *id,
                [group, what, ..] => {
                    text(there, "/group_name").eq_ignore_ascii_case(group)
                        && resource(there) == *what
                }
                [] => false,
            };
            let found = items(&all).iter().find(is_meant).ok_or_else(|| {
                let shown = grant.join(" ");
                Error::new(Kind::NotFound, format!("there is no grant `{shown}`"))
            })?;
            server.ask("DELETE", &["api", "admin", "grants", &text(found, "/id")], None)?;
            json.one(output, found, || {
                format!("{} may see {} no more", text(found, "/group_name"), resource(found))
            })
        }
    }
}

fn token(
    server: &Server,
    command: TokenCommand,
    json: super::Json,
    output: &Output,
) -> Result<Done> {
    let tokens = ["auth", "admin", "tokens"];
    match command {
        TokenCommand::List { email } => {
            let mut answer = server.get(&tokens)?;
            if let (Some(email), Value::Array(all)) = (&email, &mut answer) {
                let is_hers =
                    |token: &Value| text(token, "/user_email").eq_ignore_ascii_case(email.as_str());
                all.retain(is_hers);
            }
            let columns = [
                ("id", "/prefix"),
                ("name", "/name"),
                ("user", "/user_email"),
                ("expires", "/expires_at"),
                ("last used", "/last_used_at"),
                ("revoked", "/revoked_at"),
            ];
            list(json, output, &answer, columns)
        }
        TokenCommand::Revoke { token } => {
            let all = server.get(&tokens)?;
            let is_meant = |there: &&Value| {
                let by = |path: &str| text(there, path).eq_ignore_ascii_case(&token);
                by("/id")
                    || (text(there, "/revoked_at").is_empty() && (by("/prefix") || by("/name")))
            };
            let meant: Vec<&Value> = items(&all).iter().filter(is_meant).collect();
            let shown = token.escape_debug();
            let found = match meant.as_slice() {
                [one] => *one,
                [] => {
                    let none = format!("there is no token `{shown}` that holds");
                    return Err(Error::new(Kind::NotFound, none));
                }
                _ => {
                    let several = format!("`{shown}` means several tokens; name one by its id");
                    return Err(Error::new(Kind::Conflict, several));
                }
            };
            server.ask("DELETE", &["auth", "admin", "tokens", &text(found, "/id")], None)?;
            json.one(output, found, || format!("{}: revoked", text(found, "/name")))
        }
        TokenCommand::Create { .. } => Err(Error::new(
            Kind::Denied,
            "a token makes no tokens: make one where the data folder is, or with a session by \
             POST /auth/tokens",
        )),
    }
}

fn registry(
    server: &Server,
    command: RegistryCommand,
    json: super::Json,
    output: &Output,
) -> Result<Done> {
    let admin = |path: &'static str| ["api", "admin", path];
    let find = |table: &str| -> Result<Value> {
        let by_id = server.named(&admin("registry"), "/id", table, "table");
        by_id.or_else(|_| server.named(&admin("registry"), "/name", table, "table"))
    };
    match command {
        RegistryCommand::List => {
            let columns = [
                ("id", "/id"),
                ("table", "/name"),
                ("source", "/source"),
                ("bucket", "/bucket"),
                ("description", "/description"),
            ];
            list(json, output, &server.get(&admin("registry"))?, columns)
        }
        RegistryCommand::Register { name, id, declared } => {
            let mut body = declared.fields()?;
            body.insert("name".to_string(), json!(name));
            let body = Value::Object(body);
            let answer = match &id {
                None => server.ask("POST", &admin("register-table"), Some(&body))?,
                Some(id) => {
                    server.ask("POST", &["api", "admin", "tables", id.as_str()], Some(&body))?
                }
            };
            json.one(output, &answer, || {
                format!("{name}: registered as `{}`", text(&answer, "/id"))
            })
        }
        RegistryCommand::Update { table, name, declared } => {
            let id = text(&find(&table)?, "/id");
            let mut body = declared.fields()?;
            body.extend(name.map(|name| ("name".to_string(), json!(name))));
            if body.is_empty() {
                return Err(invalid(
                    "nothing changes: say what is to be different, as in --description",
                ));
            }
            let path = ["api", "admin", "registry", &id];
            let answer = server.ask("PUT", &path, Some(&Value::Object(body)))?;
            json.one(output, &answer, || format!("{id}: changed"))
        }
        RegistryCommand::Unregister { table } => {
            let there = find(&table)?;
            server.ask("DELETE", &["api", "admin", "registry", &text(&there, "/id")], None)?;
            json.one(output, &there, || format!("{}: unregistered", text(&there, "/name")))
        }
        RegistryCommand::Adopt { .. } => Err(invalid(
            "this command works on a data folder: run it where that is, without --server",
        )),
    }
}

fn metrics(server: &Server, command: MetricsCommand, output: &Output) -> Result<Done> {
    match command {
        MetricsCommand::List { category, json, .. } => {
            let query: Vec<(&str, &str)> =
                category.iter().map(|c| ("category", c.as_str())).collect();
            let answer = server.ask_with("GET", &["api", "metrics"], &query, None)?;
            let columns = [
                ("metric", "/id"),
                ("name", "/display_name"),
                ("unit", "/unit"),
                ("description", "/description"),
            ];
            list(json, output, &answer, columns)
        }
        MetricsCommand::Show { id, json, .. } => {
            let (category, name) = id.split_once('/').ok_or_else(|| {
                invalid(format!("a metric's id is CATEGORY/NAME, not `{}`", id.escape_debug()))
            })?;
            let answer = server.get(&["api", "metrics", category, name])?;
            json.one(output, &answer, || text(&answer, "/sql"))
        }
        MetricsCommand::Import { path, json } if path.is_file() => {
            let text = std::fs::read_to_string(&path).map_err(|e| {
                Error::new(Kind::Unavailable, format!("`{}` can't be read: {e}", path.display()))
            })?;
            let metrics = Metric::parse_yaml(&text, None)?;
            for metric in &metrics {
                let body = serde_json::to_value(metric)
                    .map_err(|e| Error::new(Kind::Internal, "a metric is no JSON").because(e))?;
                server.ask("POST", &["api", "admin", "metrics"], Some(&body))?;
            }
            let told = json!({"imported": metrics.len()});
            json.one(output, &told, || super::output::count(metrics.len(), "metric") + " imported")
        }
        _ => Err(invalid(
            "a server lists, shows and imports (a file) metrics; the rest works on a data folder",
        )),
    }
}

fn metadata(
    server: &Server,
    command: MetadataCommand,
    json: super::Json,
    output: &Output,
) -> Result<Done> {
    match command {
        MetadataCommand::Status => {
            let columns = [
                ("table", "/table_id"),
                ("freshness", "/freshness"),
                ("rows", "/rows"),
                ("bytes", "/size_bytes"),
                ("type", "/entity_type"),
                ("error", "/error_msg"),
            ];
            list(json, output, &server.get(&["api", "v2", "metadata-cache", "status"])?, columns)
        }
        MetadataCommand::Refresh { table: Some(table) } => {
            let path = ["api", "v2", "metadata-cache", "refresh"];
            let answer = server.ask_with("POST", &path, &[("table", &table)], None)?;
            json.one(output, &answer, || format!("{table}: {}", text(&answer, "/status")))?;
            Ok(Done::whole_if(text(&answer, "/status") == "ok"))
        }
        MetadataCommand::Refresh { table: None } => {
            let path = ["api", "admin", "run-bq-metadata-refresh"];
            let answer = server.ask("POST", &path, None)?;
            let (done, all) = (number(&answer, "/succeeded"), number(&answer, "/total"));
            json.one(output, &answer, || {
                format!("refreshed {} of {} remote tables", grouped(done), grouped(all))
            })?;
            Ok(Done::whole_if(done == all))
        }
    }
}
