//! Signed claims: JSON Web Tokens (RFC 7519) with HMAC-SHA-256, and nothing else.
//!
//! The algorithm is ours to say, not the token's: a header that names another one is refused.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::Secret;

/// The most bytes of a token that is looked at.
const TOKEN_MAX: usize = 8 * 1024;

/// The key that signs.
pub(super) struct Key(Hmac<Sha256>);

impl Key {
    pub(super) fn new(secret: &[u8]) -> Option<Key> {
        Hmac::new_from_slice(secret).ok().map(Key)
    }

    /// The token that carries these claims.
    pub(super) fn sign(&self, claims: &Map<String, Value>) -> Secret {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": "HS256", "typ": "JWT"}).to_string());
        let claims = URL_SAFE_NO_PAD.encode(Value::Object(claims.clone()).to_string());
        let signed = format!("{header}.{claims}");
        let mut mac = self.0.clone();
        mac.update(signed.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        Secret::new(format!("{signed}.{signature}"))
    }

    /// The claims of a token that this key signed.
    pub(super) fn verify(&self, token: &str) -> Option<Map<String, Value>> {
        if token.len() > TOKEN_MAX {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let mut mac = self.0.clone();
        mac.update(signed.as_bytes());
        // In constant time.
        mac.verify_slice(&signature).ok()?;
        let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        if header.get("alg")?.as_str()? != "HS256" || header.get("crit").is_some() {
            return None;
        }
        match serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()? {
            Value::Object(claims) => Some(claims),
            _ => None,
        }
    }
}

/// SHA-256 of a text, lower-case hex.
pub(crate) fn sha256(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7515, appendix A.1: its header has the members in another order.
    #[test]
    fn a_token_that_somebody_else_signed_with_the_key() {
        let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let key = Key::new(&URL_SAFE_NO_PAD.decode(key).unwrap()).unwrap();
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let claims = key.verify(token).unwrap();
        assert_eq!(claims["iss"], "joe");
        assert!(key.verify(&token.replace("dBjf", "dBjg")).is_none());
    }

    #[test]
    fn what_was_not_signed_so_is_refused() {
        let key = Key::new(b"0123456789abcdef0123456789abcdef").unwrap();
        let claims: Map<String, Value> = [("sub".to_string(), json!("ada"))].into_iter().collect();
        let good = key.sign(&claims);
        let good = good.expose();
        assert_eq!(key.verify(good).unwrap(), claims);
        let parts: Vec<&str> = good.split('.').collect();
        let header = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let signed_as = |header: String| {
            let signed = format!("{header}.{}", parts[1]);
            let mut mac = key.0.clone();
            mac.update(signed.as_bytes());
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
        };
        for token in [
            String::new(),
            "..".into(),
            parts[1].into(),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{}.{}.{}", header(r#"{"alg":"none"}"#), parts[1], ""),
            signed_as(header(r#"{"alg":"none"}"#)),
            signed_as(header(r#"{"alg":"HS512"}"#)),
            signed_as(header(r#"{"alg":"HS256","crit":["x"]}"#)),
            format!("{good}x"),
            format!("{good}\n"),
            format!(" {good}"),
            "x".repeat(TOKEN_MAX + 1),
        ] {
            assert!(key.verify(&token).is_none(), "{token}");
        }
        assert!(Key::new(b"another key").unwrap().verify(good).is_none());
    }
}
