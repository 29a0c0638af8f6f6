//! Changes to what decisions rest on: what a write plans, the store writes and
//! [`Facts`](super::facts::Facts) take in.

use super::facts::{Grant, Group, Membership, Permission, User};
use super::request::AccessRequest;
use super::token::PersonalToken;
use super::{GrantId, GroupId, TokenId, UserId};
use crate::Timestamp;
use crate::registry::RegisteredTable;
use crate::store::{MetricRow, SyncState};

/// One change. What hangs on a thing that is removed goes with it.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    PutUser(User),
    /// The hash as a PHC string; none takes the password away. Sessions of another version end.
    SetPassword {
        user: UserId,
        hash: Option<String>,
        session_version: u32,
    },
    /// Sessions of another version end, and so do links that were sent.
    EndSessions {
        user: UserId,
        session_version: u32,
    },
    RemoveUser(UserId),
    PutGroup(Group),
    RemoveGroup(GroupId),
    PutMember(Membership),
    RemoveMember {
        user: UserId,
        group: GroupId,
    },
    PutGrant(Grant),
    RemoveGrant(GrantId),
    PutPermission(Permission),
    RemovePermission {
        user: UserId,
        dataset: String,
    },
    PutRequest(Box<AccessRequest>),
    PutSyncState(Box<SyncState>),
    PutMetric(Box<MetricRow>),
    RemoveMetric(String),
    PutTable(Box<RegisteredTable>),
    /// What is known of the table goes too, and its source publishes it no more until it is
    /// declared again.
    RemoveTable {
        table: Box<RegisteredTable>,
        at: Timestamp,
    },
    PutToken {
        token: Box<PersonalToken>,
        /// SHA-256 of the whole token, lower-case hex.
        hash: String,
    },
    RevokeToken {
        id: TokenId,
        /// Whose it is.
        user: UserId,
        at: Timestamp,
    },
}

impl Change {
    /// Whether somebody may be allowed less afterwards.
    pub(crate) fn takes_away(&self) -> bool {
        match self {
            Change::RemoveUser(_)
            | Change::RemoveGroup(_)
            | Change::RemoveMember { .. }
            | Change::RemoveGrant(_)
            | Change::RemovePermission { .. }
            | Change::RemoveTable { .. }
            | Change::RevokeToken { .. }
            // It may say `none` now, another source, not public, not active.
            | Change::PutPermission(_)
            | Change::PutTable(_)
            | Change::PutUser(_)
            | Change::PutGroup(_) => true,
            Change::SetPassword { .. }
            | Change::EndSessions { .. }
            | Change::PutMember(_)
            | Change::PutGrant(_)
            | Change::PutRequest(_)
            | Change::PutSyncState(_)
            | Change::PutMetric(_)
            | Change::RemoveMetric(_)
            | Change::PutToken { .. } => false,
        }
    }
}
