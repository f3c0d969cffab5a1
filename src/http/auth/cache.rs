//! A bounded memory of tokens: verifying a signature costs more than a whole request.
//!
//! Good and bad tokens are kept apart, so that a flood of bad ones costs the good ones nothing. A token is known by a
//! hash of 128 bits under keys that nobody knows but this process; the token itself is not kept.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::token::{AuthError, Token};

/// Tokens remembered of each kind, at most.
pub(super) const REMEMBERED: usize = 4096;

/// What was found out about a token.
pub(super) type Verdict = Result<Arc<Token>, AuthError>;

type Key = (u64, u64);

/// Tokens that were looked at.
#[derive(Debug, Default)]
pub(super) struct Cache {
    keys: (RandomState, RandomState),
    good: Mutex<HashMap<Key, Arc<Token>>>,
    bad: Mutex<HashMap<Key, AuthError>>,
}

impl Cache {
    /// The verdict on a token; `verify` gives it if it is not remembered. `is_over` tells the good ones that can be
    /// forgotten first.
    pub(super) fn judge(
        &self,
        token: &str,
        verify: impl FnOnce() -> Result<Token, AuthError>,
        is_over: impl Fn(&Token) -> bool,
    ) -> Verdict {
        let key = (self.keys.0.hash_one(token), self.keys.1.hash_one(token));
        if let Some(known) = lock(&self.good).get(&key) {
            return Ok(Arc::clone(known));
        }
        if let Some(known) = lock(&self.bad).get(&key) {
            return Err(known.clone());
        }
        match verify() {
            Ok(token) => {
                let token = Arc::new(token);
                let mut good = lock(&self.good);
                if good.len() >= REMEMBERED {
                    good.retain(|_, token| !is_over(token));
                }
                if good.len() >= REMEMBERED {
                    good.clear();
                }
                good.insert(key, Arc::clone(&token));
                Ok(token)
            }
            Err(error) => {
                let mut bad = lock(&self.bad);
                if bad.len() >= REMEMBERED {
                    bad.clear();
                }
                bad.insert(key, error.clone());
                Err(error)
            }
        }
    }
}

/// A panic elsewhere leaves a map as good as it was.
fn lock<T>(map: &Mutex<T>) -> MutexGuard<'_, T> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::rights::Rights;
    use super::super::token::Times;
    use super::*;

    fn token(expires: f64) -> Token {
        let times = Times { expires: Some(expires), not_before: None, issued: None };
        Token { times, rights: Rights::all() }
    }

    #[test]
    fn a_token_is_verified_once_whether_good_or_bad() {
        let cache = Cache::default();
        let never = || -> Result<Token, AuthError> { panic!("verified again") };
        assert!(cache.judge("a", || Ok(token(1.0)), |_| false).is_ok());
        assert!(cache.judge("a", never, |_| false).is_ok());
        assert_eq!(cache.judge("b", || Err(AuthError::Signature), |_| false), Err(AuthError::Signature));
        assert_eq!(cache.judge("b", never, |_| false), Err(AuthError::Signature));
    }

    #[test]
    fn a_flood_of_bad_tokens_is_bounded_and_costs_no_good_one() {
        let cache = Cache::default();
        assert!(cache.judge("good", || Ok(token(1.0)), |_| false).is_ok());
        for number in 0..3 * REMEMBERED {
            assert!(cache.judge(&number.to_string(), || Err(AuthError::Signature), |_| false).is_err());
            assert!(lock(&cache.bad).len() <= REMEMBERED);
        }
        assert!(cache.judge("good", || Err(AuthError::Signature), |_| false).is_ok());
    }

    #[test]
    fn memory_of_good_tokens_is_bounded_and_those_that_are_over_go_first() {
        let cache = Cache::default();
        let is_over = |token: &Token| token.times.expires == Some(1.0);
        for number in 0..REMEMBERED {
            let expires = if number == 0 { 100.0 } else { 1.0 };
            assert!(cache.judge(&number.to_string(), || Ok(token(expires)), is_over).is_ok());
        }
        assert!(cache.judge("next", || Ok(token(100.0)), is_over).is_ok());
        assert_eq!(lock(&cache.good).len(), 2);
        for number in 0..REMEMBERED {
            assert!(cache.judge(&number.to_string(), || Ok(token(100.0)), is_over).is_ok());
            assert!(lock(&cache.good).len() <= REMEMBERED);
        }
    }
}
