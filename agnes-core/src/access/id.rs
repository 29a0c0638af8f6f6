//! Ids: text that means nothing but itself.

use std::fmt;
use std::sync::Arc;

use crate::{Error, Kind, Result};

/// The most bytes that an id may have.
pub const ID_MAX: usize = 128;

macro_rules! ids {
    ($( $(#[$doc:meta])* $name:ident, $what:literal; )+) => { $(
        $(#[$doc])*
        ///
        /// **Invariants**: 1 to 128 bytes, no control characters; compares exactly. One that
        /// Agnes makes is a random UUID.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes text as an id. Whether there is such a thing is another question.
            ///
            /// # Errors
            /// `Invalid` for text that can't be an id.
            pub fn parse(text: impl AsRef<str>) -> Result<Self> {
                let text = text.as_ref();
                if text.is_empty() || text.len() > ID_MAX || text.chars().any(char::is_control) {
                    return Err(Error::new(
                        Kind::Invalid,
                        format!(
                            concat!("`{}` can't be the id of a ", $what, ": it has 1 to 128 \
                                     bytes and no control characters"),
                            crate::name::shown(text)
                        ),
                    ));
                }
                Ok($name(text.into()))
            }

            /// One that nothing has yet.
            #[allow(dead_code)]
            pub(crate) fn fresh() -> Self {
                $name(uuid::Uuid::new_v4().to_string().into())
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), &*self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                Self::parse(text)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }
    )+ };
}

ids! {
    /// The id of a user.
    ///
    /// ```
    /// use agnes_core::access::UserId;
    /// assert!(UserId::parse("6f6e4c2e").is_ok());
    /// assert!(UserId::parse("a\nb").is_err());
    /// ```
    /// ```compile_fail
    /// # use agnes_core::access::{GroupId, UserId};
    /// let user: UserId = GroupId::parse("g").unwrap();
    /// ```
    UserId, "user";
    /// The id of a group.
    GroupId, "group";
    /// The id of a grant.
    GrantId, "grant";
    /// The id of a personal access token, which is the `jti` of its JWT.
    TokenId, "token";
    /// The id of an access request.
    RequestId, "request";
}
