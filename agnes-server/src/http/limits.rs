//! How often an address may try to sign in.

use std::net::IpAddr;
use std::num::NonZeroU32;

use agnes_core::access::UserId;
use axum::http::{HeaderValue, StatusCode, header};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::error::Failure;

/// What is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// A password for a token.
    Token,
    /// The first admin.
    Bootstrap,
    /// A password for a session.
    Password,
    /// A link that was followed, a password that it sets.
    Link,
    /// A link that somebody wants.
    Ask,
}

impl Attempt {
    const ALL: [Attempt; 5] =
        [Attempt::Token, Attempt::Bootstrap, Attempt::Password, Attempt::Link, Attempt::Ask];

    /// How many a minute.
    fn most(self) -> NonZeroU32 {
        let most = match self {
            Attempt::Token | Attempt::Password | Attempt::Link => 10,
            Attempt::Ask => 5,
            Attempt::Bootstrap => 3,
        };
        NonZeroU32::new(most).unwrap_or(NonZeroU32::MIN)
    }
}

/// The attempts of the last minute, by address.
pub(crate) struct RateLimits {
    counted: Option<[DefaultKeyedRateLimiter<IpAddr>; 5]>,
    /// Letters, by whom they go to: nobody fills another's mailbox, from wherever she asks.
    letters: Option<DefaultKeyedRateLimiter<String>>,
}

/// What one customer of a provider is given of IPv6 counts as one address.
pub(crate) fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(network.into())
        }
        address => address,
    }
}

impl RateLimits {
    pub(crate) fn new(on: bool) -> RateLimits {
        let limiter = |attempt: Attempt| RateLimiter::keyed(Quota::per_minute(attempt.most()));
        let three = NonZeroU32::MIN.saturating_add(2);
        let letters = Quota::per_hour(three.saturating_mul(three)).allow_burst(three);
        RateLimits {
            counted: on.then(|| Attempt::ALL.map(limiter)),
            letters: on.then(|| RateLimiter::keyed(letters)),
        }
    }

    /// Whether a user may be mailed another link that somebody has asked for: three at once, and one
    /// more every 400 seconds.
    pub(crate) fn may_mail(&self, user: &UserId) -> bool {
        let letters = self.letters.as_ref();
        letters.is_none_or(|letters| letters.check_key(&user.to_string()).is_ok())
    }

    /// Counts an attempt.
    ///
    /// # Errors
    /// 429 when there were too many.
    pub(crate) fn count(&self, attempt: Attempt, from: IpAddr) -> Result<(), Failure> {
        let at = Attempt::ALL.iter().position(|one| *one == attempt).unwrap_or(0);
        let Some(limiter) = self.counted.as_ref().and_then(|all| all.get(at)) else {
            return Ok(());
        };
        // Addresses that have been quiet for long take no room.
        if limiter.len() > 10_000 {
            limiter.retain_recent();
        }
        limiter.check_key(&counted_as(from)).map_err(|_| {
            Failure::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too many attempts from this address; try again in a minute",
            )
            .with(header::RETRY_AFTER, HeaderValue::from_static("60"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_and_each_kind_has_its_own_count() {
        let limits = RateLimits::new(true);
        let [here, there]: [IpAddr; 2] =
            ["203.0.113.5", "2001:db8::1"].map(|text| text.parse().unwrap());
        for _ in 0..3 {
            assert!(limits.count(Attempt::Bootstrap, here).is_ok());
        }
        assert!(limits.count(Attempt::Bootstrap, here).is_err());
        assert!(limits.count(Attempt::Bootstrap, "::ffff:203.0.113.5".parse().unwrap()).is_err());
        assert!(limits.count(Attempt::Token, here).is_ok());
        for _ in 0..3 {
            assert!(limits.count(Attempt::Bootstrap, there).is_ok());
        }
        assert!(limits.count(Attempt::Bootstrap, "2001:db8::2".parse().unwrap()).is_err());
        let off = RateLimits::new(false);
        assert!((0..100).all(|_| off.count(Attempt::Bootstrap, here).is_ok()));
    }
}
