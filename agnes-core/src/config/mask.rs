//! A configuration without its secrets.

use serde_json::Value;

/// What stands in the place of a secret.
const HIDDEN: &str = "…";

/// Whether what stands under this key is a secret. Keys that end in `_env` or `_envs` name
/// variables.
pub(super) fn is_secret(key: &str) -> bool {
    const WORDS: [&str; 16] = [
        "secret",
        "password",
        "passwd",
        "passphrase",
        "pwd",
        "token",
        "credential",
        "private",
        "api_key",
        "apikey",
        "accountkey",
        "accesskey",
        "authorization",
        "cookie",
        "bearer",
        "signature",
    ];
    const WHOLE: [&str; 6] = ["pass", "key", "jwt", "sas", "salt", "pin"];
    let key = key.to_ascii_lowercase().replace('-', "_");
    let names_a_variable = key.ends_with("_env") || key.ends_with("_envs");
    let is_one = WORDS.iter().any(|word| key.contains(word))
        || WHOLE.contains(&key.as_str())
        || key.ends_with("_key")
        || key.ends_with("_pass");
    !names_a_variable && is_one
}

/// The tree with every secret hidden.
pub(super) fn masked(value: &Value) -> Value {
    masked_as(value, HIDDEN)
}

/// The same with a mark of one's own for secrets that stand by themselves.
pub(super) fn masked_as(value: &Value, mark: &str) -> Value {
    walk(value, false, mark)
}

fn walk(value: &Value, secret: bool, mark: &str) -> Value {
    match value {
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| {
                (key.clone(), walk(value, secret || is_secret(key), mark))
            };
            Value::Object(map.iter().map(entry).collect())
        }
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| walk(item, secret, mark)).collect())
        }
        // A variable's name tells nothing.
        Value::String(text) if secret && !is_variable(text) && !text.is_empty() => mark.into(),
        Value::String(text) => Value::String(without_passwords(text)),
        Value::Number(_) if secret => mark.into(),
        other => other.clone(),
    }
}

/// Every secret of a tree, the longest first. Shorter ones are parts of usual words.
pub(crate) fn secrets(value: &Value) -> Vec<String> {
    const SHORTEST: usize = 4;
    fn collect(value: &Value, secret: bool, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                map.iter().for_each(|(key, value)| collect(value, secret || is_secret(key), found));
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, secret, found)),
            Value::String(text) if secret && text.len() >= SHORTEST => found.push(text.clone()),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(value, false, &mut found);
    found.sort_by_key(|text| std::cmp::Reverse(text.len()));
    found
}

/// What somebody else's program says, without these secrets and without passwords in addresses.
pub(crate) fn without_secrets(text: &str, secrets: &[String]) -> String {
    let told = secrets.iter().fold(text.to_string(), |text, secret| text.replace(secret, HIDDEN));
    without_passwords(&told)
}

fn is_variable(text: &str) -> bool {
    let inside = text.strip_prefix("${").and_then(|text| text.strip_suffix('}'));
    inside.is_some_and(|name| !name.contains(['$', '{', '}']))
}

/// Text without what stands between `://` and `@`, and after `password=` and its like.
fn without_passwords(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        out.push_str(before);
        out.push_str("://");
        // A password may hold what ends a host.
        let end = after.find(char::is_whitespace).unwrap_or(after.len());
        let (authority, after) = after.split_at_checked(end).unwrap_or((after, ""));
        match authority.rsplit_once('@') {
            Some((user, host)) if !is_variable(user) => {
                out.push_str(HIDDEN);
                out.push('@');
                out.push_str(host);
            }
            _ => out.push_str(authority),
        }
        rest = after;
    }
    out.push_str(rest);
    without_values(&out)
}

/// Text without what stands after `password=` and its like, in quotes or up to the next part.
fn without_values(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once('=') {
        out.push_str(before);
        out.push('=');
        rest = after;
        let key = before.rsplit([' ', '&', ';', '?', ',']).next().unwrap_or_default();
        if is_secret(key.trim()) {
            let quote = after.chars().next().filter(|c| ['\'', '"', '{'].contains(c));
            let close = quote.map(|quote| if quote == '{' { '}' } else { quote });
            let end = match close {
                Some(close) => {
                    after.get(1..).and_then(|inside| inside.find(close)).map(|at| at + 2)
                }
                None => after.find([' ', '&', ';', ',']),
            };
            out.push_str(HIDDEN);
            rest = end.and_then(|end| after.get(end..)).unwrap_or_default();
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        let value = json!({
            "auth": {"webapp_secret_key": "hunter2", "allowed_domain": "example.com"},
            "token": {"nested": ["hunter2", 5, true], "empty": ""},
            "token_env": "KBC_TOKEN", "token_envs": ["KBC_TOKEN"],
            "api_token": "${KBC_TOKEN}", "mixed_token": "x${KBC_TOKEN}",
            "Client-Secret": "hunter2", "db_password": 1234, "primary_key": "hunter2",
            "url": "postgresql://me:hunter2@db.example/shop?sslmode=require&password=hunter2",
            "dsn": "host=db user=me password=hunter2 port=5",
            "two": "https://a:hunter2@x/ and https://b@y", "odd": "postgres://me:hun/ter2hunter2@db/x",
            "odbc": "Server=x;Pwd={hunter2;hunter2};Port=1", "quoted": "password='hunter2 hunter2' host=x",
            "headers": {"Authorization": "Bearer hunter2", "Cookie": "a=hunter2"}, "pass": "hunter2",
        });
        let shown = masked(&value).to_string();
        assert!(!shown.contains("hunter2"), "{shown}");
        let masked = masked(&value);
        assert_eq!(masked["auth"]["allowed_domain"], "example.com");
        assert_eq!(masked["token"], json!({"nested": ["…", "…", true], "empty": ""}));
        assert_eq!(
            (&masked["token_env"], &masked["token_envs"]),
            (&json!("KBC_TOKEN"), &json!(["KBC_TOKEN"]))
        );
        assert_eq!(
            (&masked["api_token"], &masked["mixed_token"]),
            (&json!("${KBC_TOKEN}"), &json!("…"))
        );
        assert_eq!(masked["url"], "postgresql://…@db.example/shop?sslmode=require&password=…");
        assert_eq!(masked["dsn"], "host=db user=me password=… port=5");
        assert_eq!(masked["two"], "https://…@x/ and https://…@y");
        assert_eq!(masked["odbc"], "Server=x;Pwd=…;Port=1");
        assert_eq!(masked["quoted"], "password=… host=x");
    }

    #[test]
    fn what_a_program_says_holds_no_secret() {
        let config =
            json!({"token": "hunter2", "api": {"key": ["hunter2-longer", "x"]}, "url": "u"});
        let said = "401 for hunter2-longer and hunter2 at https://me:other@db/x, url u";
        let told = without_secrets(said, &secrets(&config));
        assert_eq!(told, "401 for … and … at https://…@db/x, url u");
    }
}
