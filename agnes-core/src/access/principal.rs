//! Who asks.

use super::{TokenId, UserId};

/// Who asks.
///
/// Made by whoever authenticated the caller. It says who she is, not what she may: every
/// decision looks at the facts of that moment, so that a principal made long ago can do no more
/// than one made now.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Nobody that Agnes knows. May see nothing.
    Nobody,
    /// Whoever runs the program that holds the data folder, as with the `agnes` command: she
    /// could read the files anyway. May do everything. Never made from a request.
    Operator,
    /// A user.
    User {
        /// Which one.
        id: UserId,
        /// How she showed it.
        via: Via,
    },
}

/// How a user showed who she is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Via {
    /// By signing in.
    Session,
    /// With a personal access token, which may end before she does.
    Token(TokenId),
    /// With the scheduler's shared secret.
    Scheduler,
}

impl Principal {
    /// A user who has signed in.
    pub fn user(id: UserId) -> Self {
        Principal::User { id, via: Via::Session }
    }

    /// The user, if it is one.
    pub fn user_id(&self) -> Option<&UserId> {
        match self {
            Principal::User { id, .. } => Some(id),
            Principal::Nobody | Principal::Operator => None,
        }
    }
}
