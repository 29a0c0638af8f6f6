//! A configuration without its secrets.

use serde_json::Value;

/// What stands in the place of a secret.
const HIDDEN: &str = "…";

/// Whether what stands under this key is a secret. Keys that end in `_env` or `_envs` name
/// variables.
fn is_secret(key: &str) -> bool {
    const WORDS: [&str; 9] = [
        "secret",
        "password",
        "passwd",
        "passphrase",
        "token",
        "credential",
        "private",
        "api_key",
        "apikey",
    ];
    let key = key.to_ascii_lowercase().replace('-', "_");
    let names_a_variable = key.ends_with("_env") || key.ends_with("_envs");
    !names_a_variable && (WORDS.iter().any(|word| key.contains(word)) || key.ends_with("_key"))
}

/// The tree with every secret hidden.
pub(super) fn masked(value: &Value) -> Value {
    walk(value, false)
}

fn walk(value: &Value, secret: bool) -> Value {
    match value {
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| {
                (key.clone(), walk(value, secret || is_secret(key)))
            };
            Value::Object(map.iter().map(entry).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| walk(item, secret)).collect()),
        // A variable's name tells nothing.
        Value::String(text) if secret && !is_variable(text) && !text.is_empty() => HIDDEN.into(),
        Value::String(text) => Value::String(without_passwords(text)),
        Value::Number(_) if secret => HIDDEN.into(),
        other => other.clone(),
    }
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
        let end = after.find(['/', '?', '#', ' ']).unwrap_or(after.len());
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
    let mut words = Vec::new();
    for word in out.split_inclusive([' ', '&', ';', '?']) {
        let masked =
            word.split_once('=').filter(|(key, _)| is_secret(key.trim())).map(|(key, value)| {
                let end = value.chars().last().filter(|c| " &;?".contains(*c));
                format!("{key}={HIDDEN}{}", end.map(String::from).unwrap_or_default())
            });
        words.push(masked.unwrap_or_else(|| word.to_string()));
    }
    words.concat()
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
            "two": "https://a:hunter2@x/ and https://b@y", "plain": "https://x.example/a@b",
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
        assert_eq!(masked["plain"], "https://x.example/a@b");
    }
}
