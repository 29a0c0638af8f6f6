//! Personal access tokens.

use super::{TokenId, UserId};
use crate::Timestamp;

/// A personal access token, as it is remembered. The token itself isn't.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PersonalToken {
    /// Its id, the `jti` of its JWT.
    pub id: TokenId,
    /// Whose it is.
    pub user: UserId,
    /// What she calls it.
    pub name: String,
    /// The first 8 hex digits of its id.
    pub prefix: String,
    /// What it is for: `general`, or `bootstrap-analyst`.
    pub scope: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; never when absent.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, within the last few seconds' accuracy.
    pub last_used_at: Option<Timestamp>,
    /// From which address.
    pub last_used_ip: Option<String>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
}
