//! Who may use the API: bearer tokens signed with Ed25519.
//!
//! Owns the verdict on a request's token, and what its bearer may do. Each token is verified once: see [`cache`]. What
//! a token may limit its bearer to stands in [`rights`].

mod cache;
mod rights;
mod token;

use std::sync::Arc;

use super::app::Clock;
use cache::Cache;
use token::{Token, Verifier};

pub(super) use rights::{Denied, Verb};
pub(super) use token::AuthError;

/// Bytes of a token at most.
const TOKEN_MAX: usize = 8 << 10;

/// Who may use the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Raw Ed25519 public keys: a token is good if one of them has signed it. Without any everyone may do everything.
    pub keys: Vec<[u8; 32]>,
    /// Whether a token without the claim `scope` may do nothing instead of everything.
    pub require_scopes: bool,
    /// Whether a token without the claim `exp` is refused.
    pub require_expiry: bool,
}

/// Judges tokens.
pub(super) struct Auth {
    verifier: Verifier,
    require_expiry: bool,
    clock: Clock,
    cache: Cache,
}

impl Auth {
    /// `None` lets everyone in.
    pub(super) fn new(access: &Access, clock: Clock) -> Option<Self> {
        (!access.keys.is_empty()).then(|| Self {
            verifier: Verifier::new(&access.keys, access.require_scopes),
            require_expiry: access.require_expiry,
            clock,
            cache: Cache::default(),
        })
    }

    /// Judges the value of an `Authorization` header: the token, if it is good.
    pub(super) fn check(&self, header: Option<&str>) -> Result<Bearer, AuthError> {
        let token = header.and_then(|header| header.strip_prefix("Bearer "));
        let token = token.filter(|token| !token.is_empty()).ok_or(AuthError::NoToken)?;
        if token.len() > TOKEN_MAX {
            return Err(AuthError::TooLong);
        }
        let now = (self.clock)();
        let is_over = |token: &Token| token.times.check(now, self.require_expiry).is_err();
        let token = self.cache.judge(token, || self.verifier.verify(token), is_over)?;
        token.times.check(now, self.require_expiry)?;
        Ok(Bearer(Some(token)))
    }
}

/// What its bearer's token permits: a part of each request that was let in.
#[derive(Clone, Debug)]
pub(super) struct Bearer(Option<Arc<Token>>);

impl Bearer {
    /// Who is not asked for a token: may do everything.
    pub(super) fn anyone() -> Self {
        Self(None)
    }

    /// Whether it may do this at all.
    pub(super) fn permit(&self, verb: Verb) -> Result<(), Denied> {
        self.0.as_ref().map_or(Ok(()), |token| token.rights.permit(verb))
    }

    /// Whether it may do this with a cluster; `None` stands for all of them.
    pub(super) fn permit_cluster(&self, cluster: Option<&str>) -> Result<(), Denied> {
        self.0.as_ref().map_or(Ok(()), |token| token.rights.permit_cluster(cluster))
    }

    /// Its clusters, if it has not all of them.
    pub(super) fn clusters(&self) -> Option<&[String]> {
        self.0.as_ref().and_then(|token| token.rights.clusters())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    /// Expires in 2100.
    const TOKEN: &str = "Bearer eyJhbGciOiAiRWREU0EiLCAidHlwIjogIkpXVCJ9.eyJzdWIiOiAiZGVtbyIsICJleHAiOiA0MTAyNDQ0ODAwfQ\
        .BWqxgWttAqBBYzJOcHAf6hH5fZOtlbw0JSpmhbdGiNRpd7-tw8DIph4p_S5fThmkHCsL7nk_6fbvOMm419FPAw";
    const EXPIRES: i64 = 4_102_444_800;

    fn key() -> [u8; 32] {
        BASE64_STANDARD.decode("w6f0qR/mbE37puIa5ViiHuImfusRf2Ey3AqMRNu0E/Y=").unwrap().try_into().unwrap()
    }

    fn auth(keys: &[[u8; 32]], now: i64) -> (Auth, Arc<AtomicI64>) {
        let now = Arc::new(AtomicI64::new(now));
        let clock = Arc::clone(&now);
        let access = Access { keys: keys.to_vec(), ..Access::default() };
        (Auth::new(&access, Arc::new(move || clock.load(Ordering::Relaxed))).unwrap(), now)
    }

    fn verdict(auth: &Auth, header: &str) -> Result<(), AuthError> {
        auth.check(Some(header)).map(drop)
    }

    #[test]
    fn remembered_token_expires_all_the_same() {
        let (auth, now) = auth(&[key()], EXPIRES - 1);
        assert_eq!(verdict(&auth, TOKEN), Ok(()));
        assert_eq!(verdict(&auth, TOKEN), Ok(()));
        now.store(EXPIRES, Ordering::Relaxed);
        assert_eq!(verdict(&auth, TOKEN), Err(AuthError::Expired));
    }

    #[test]
    fn any_of_several_keys_may_have_signed_a_token() {
        let (auth, _) = auth(&[[1; 32], key(), [2; 32]], 0);
        assert_eq!(verdict(&auth, TOKEN), Ok(()));
        assert_eq!(verdict(&auth, &TOKEN.replace("BWqx", "BWqy")), Err(AuthError::Signature));
    }

    #[test]
    fn a_token_of_absurd_length_is_not_looked_at() {
        let (auth, _) = auth(&[key()], 0);
        assert_eq!(verdict(&auth, &format!("Bearer {}", "a".repeat(TOKEN_MAX + 1))), Err(AuthError::TooLong));
    }

    #[test]
    fn without_a_key_nobody_is_asked() {
        assert!(Auth::new(&Access::default(), Arc::new(|| 0)).is_none());
    }
}
