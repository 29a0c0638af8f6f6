//! The names of people and groups, which compare without case.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::{Error, Kind, Result};

/// The most bytes of an address: what SMTP carries (RFC 5321, 4.5.3.1.3, without its brackets).
pub const EMAIL_MAX: usize = 254;
/// The most bytes of a group's name: `user:` and an address fit in.
pub const GROUP_NAME_MAX: usize = 260;

/// What is wrong with `text` as an address, or nothing.
fn email_fault(text: &str) -> Option<&'static str> {
    match text.split_once('@') {
        None => Some("has no `@`"),
        Some((before, after)) if before.is_empty() || after.is_empty() => {
            Some("has nothing on one side of its `@`")
        }
        Some((_, after)) if after.contains('@') => Some("has more than one `@`"),
        _ if text.chars().any(|c| c.is_control() || c.is_whitespace()) => {
            Some("has a space or a control character")
        }
        _ if text.chars().any(crate::name::is_unseen) => Some("has a character that nobody sees"),
        _ => (text.len() > EMAIL_MAX).then_some("is longer than 254 bytes"),
    }
}

/// What is wrong with `text` as the name of a group, or nothing.
fn group_fault(text: &str) -> Option<&'static str> {
    if text.trim().is_empty() {
        return Some("is empty");
    }
    if text.chars().any(char::is_control) {
        return Some("has a control character");
    }
    if text.chars().any(crate::name::is_unseen) {
        return Some("has a character that nobody sees");
    }
    (text.len() > GROUP_NAME_MAX).then_some("is longer than 260 bytes")
}

macro_rules! folded {
    ($( $(#[$doc:meta])* $name:ident, $what:literal, $fault:ident; )+) => { $(
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name {
            text: Arc<str>,
            folded: Arc<str>,
        }

        impl $name {
            /// Checks `text` and takes it. Spaces around it are left out.
            ///
            /// # Errors
            /// `Invalid`, saying what is wrong with it.
            pub fn parse(text: impl AsRef<str>) -> Result<Self> {
                let text = text.as_ref().trim_matches(' ');
                match $fault(text) {
                    None => {
                        let folded = text.to_lowercase();
                        let text: Arc<str> = text.into();
                        let folded = if *folded == *text { text.clone() } else { folded.into() };
                        Ok($name { text, folded })
                    }
                    Some(fault) => Err(Error::new(
                        Kind::Invalid,
                        format!(
                            concat!("`{}` can't be ", $what, ": it {}"),
                            crate::name::shown(text),
                            fault
                        ),
                    )),
                }
            }

            /// The text as it was spelled.
            pub fn as_str(&self) -> &str {
                &self.text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.text)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), &*self.text)
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.folded == other.folded
            }
        }

        impl Eq for $name {}

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.folded.cmp(&other.folded)
            }
        }

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.folded.hash(state);
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
                s.serialize_str(&self.text)
            }
        }
    )+ };
}

folded! {
    /// An e-mail address, by which a person is known.
    ///
    /// **Invariants**: something before and after one `@`, no spaces or control characters, at
    /// most 254 bytes; keeps its spelling and compares without case, in any script.
    ///
    /// ```
    /// use agnes_core::access::Email;
    /// assert_eq!(Email::parse("Ada@Example.com")?, Email::parse("ada@example.COM")?);
    /// # Ok::<(), agnes_core::Error>(())
    /// ```
    /// ```
    /// # use agnes_core::access::Email;
    /// assert!(Email::parse("ada").is_err());
    /// assert!(Email::parse("ada@example.com\n").is_err());
    /// ```
    /// ```compile_fail
    /// # use agnes_core::access::Email;
    /// let email: Email = "ada@example.com".to_string();
    /// ```
    Email, "an e-mail address", email_fault;

    /// The name of a group.
    ///
    /// **Invariants**: not blank, no control characters, at most 260 bytes; keeps its spelling
    /// and compares without case, in any script, so that nobody makes an `admin` beside `Admin`.
    ///
    /// ```
    /// use agnes_core::access::GroupName;
    /// assert_eq!(GroupName::parse("Sales EMEA")?, GroupName::parse("sales emea")?);
    /// assert!(GroupName::parse(" ").is_err());
    /// # Ok::<(), agnes_core::Error>(())
    /// ```
    /// ```compile_fail
    /// # use agnes_core::access::{Email, GroupName};
    /// let group: GroupName = Email::parse("a@b.c").unwrap();
    /// ```
    GroupName, "the name of a group", group_fault;
}

impl GroupName {
    /// The group whose members may do everything.
    pub fn admin() -> Self {
        GroupName { text: "Admin".into(), folded: "admin".into() }
    }

    /// The other group that is always there. Nobody is in it without being put there.
    pub fn everyone() -> Self {
        GroupName { text: "Everyone".into(), folded: "everyone".into() }
    }

    /// The group that stands for one user.
    pub(crate) fn of_user(email: &Email) -> Result<Self> {
        GroupName::parse(format!("user:{email}"))
    }
}

/// A word that somebody gives: a scope, a dataset, what a token is called.
pub(super) fn worded(text: &str, what: &str) -> Result<String> {
    let text = text.trim();
    if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
        return Err(Error::new(
            Kind::Invalid,
            format!("the {what} has 1 to 256 bytes and no control characters"),
        ));
    }
    Ok(text.to_string())
}
