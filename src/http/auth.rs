//! Who may use the API: bearer tokens signed with Ed25519.
//!
//! Owns the verdict on a token and a bounded memory of good ones, so that the signature of a sender's token is checked
//! once. A token says that its bearer may do everything; only its times are looked at. The texts are part of the wire
//! contract.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;
use base64::DecodeError;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};

use super::app::{App, Clock};
use super::{body, reply};

/// Tokens remembered at most.
const REMEMBERED: usize = 1024;

/// Why a request is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(super) enum AuthError {
    /// No bearer token.
    #[error("Use JWT Authentication")]
    NoToken,
    /// Not three parts.
    #[error("token contains an invalid number of segments")]
    Segments,
    /// A part is not base64.
    #[error("illegal base64 data at input byte {0}")]
    Base64(usize),
    /// A part is not the JSON it should be.
    #[error("token is malformed")]
    Malformed,
    /// Signed in another way, or not at all.
    #[error("only Ed25519/EdDSA supported")]
    Algorithm,
    /// Signed with another key, or changed since.
    #[error("ed25519: verification error")]
    Signature,
    /// Its `exp` has passed.
    #[error("Token is expired")]
    Expired,
    /// Its `iat` has not come.
    #[error("Token used before issued")]
    UsedBeforeIssued,
    /// Its `nbf` has not come.
    #[error("Token is not valid yet")]
    NotYetValid,
}

/// Verifies tokens.
pub(super) struct Auth {
    key: DecodingKey,
    validation: Validation,
    clock: Clock,
    good: Mutex<HashMap<Box<str>, Times>>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").finish_non_exhaustive()
    }
}

impl Auth {
    /// Takes the raw public key.
    pub(super) fn new(key: [u8; 32], clock: Clock) -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        // The claims are ours to judge: with our clock, without leeway, and with the predecessor's texts.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        Self { key: DecodingKey::from_ed_der(&key), validation, clock, good: Mutex::default() }
    }

    /// Judges the value of an `Authorization` header.
    pub(super) fn check(&self, header: Option<&str>) -> Result<(), AuthError> {
        let token = header.and_then(|header| header.strip_prefix("Bearer "));
        let token = token.filter(|token| !token.is_empty()).ok_or(AuthError::NoToken)?;
        let now = (self.clock)();
        // A panic elsewhere leaves the map as good as it was.
        let known = self.good.lock().unwrap_or_else(PoisonError::into_inner).get(token).copied();
        if let Some(times) = known {
            return times.check(now);
        }
        let times = self.verify(token)?;
        times.check(now)?;
        self.remember(token, times, now);
        Ok(())
    }

    fn verify(&self, token: &str) -> Result<Times, AuthError> {
        if token.split('.').count() != 3 {
            return Err(AuthError::Segments);
        }
        let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, &self.key, &self.validation);
        match decoded {
            Ok(token) => Ok(Times::of(&token.claims)),
            Err(error) => Err(match error.kind() {
                ErrorKind::Base64(DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _)) => {
                    AuthError::Base64(*at)
                }
                // A header that names no algorithm known at all.
                ErrorKind::Json(_) if jsonwebtoken::decode_header(token).is_err() => AuthError::Algorithm,
                ErrorKind::InvalidAlgorithm => AuthError::Algorithm,
                ErrorKind::InvalidSignature => AuthError::Signature,
                _ => AuthError::Malformed,
            }),
        }
    }

    fn remember(&self, token: &str, times: Times, now: i64) {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if good.len() >= REMEMBERED {
            good.retain(|_, times| times.check(now).is_ok());
        }
        if good.len() >= REMEMBERED {
            good.clear();
        }
        good.insert(token.into(), times);
    }
}

/// The time claims of a token, in unix seconds. Not a number: never satisfied.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Times {
    expires: Option<f64>,
    not_before: Option<f64>,
    issued: Option<f64>,
}

impl Times {
    fn of(claims: &Map<String, Value>) -> Self {
        // A zero counts as absent.
        let time = |name| Some(claims.get(name)?.as_f64().unwrap_or(f64::NAN)).filter(|time| *time != 0.0);
        Self { expires: time("exp"), not_before: time("nbf"), issued: time("iat") }
    }

    fn check(self, now: i64) -> Result<(), AuthError> {
        #[expect(clippy::cast_precision_loss, reason = "unix seconds are exact in a float for millions of years")]
        let now = now as f64;
        let ahead = |time: f64| time.is_nan() || now < time;
        let passed = |time: f64| time.is_nan() || now >= time;
        // When several fail, the predecessor names the last one it looked at.
        if self.not_before.is_some_and(ahead) {
            Err(AuthError::NotYetValid)
        } else if self.issued.is_some_and(ahead) {
            Err(AuthError::UsedBeforeIssued)
        } else if self.expires.is_some_and(passed) {
            Err(AuthError::Expired)
        } else {
            Ok(())
        }
    }
}

/// Lets a request through to its handler if its token is good, or if no key is configured.
pub(super) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Some(auth) = &app.auth else { return next.run(request).await };
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    match auth.check(header) {
        Ok(()) => next.run(request).await,
        Err(error) => {
            body::discard(request.into_body()).await;
            reply::unauthorized(&error.to_string())
        }
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

    fn auth(now: i64) -> (Auth, Arc<AtomicI64>) {
        let key = BASE64_STANDARD.decode("w6f0qR/mbE37puIa5ViiHuImfusRf2Ey3AqMRNu0E/Y=").unwrap();
        let now = Arc::new(AtomicI64::new(now));
        let clock = Arc::clone(&now);
        (Auth::new(key.try_into().unwrap(), Arc::new(move || clock.load(Ordering::Relaxed))), now)
    }

    #[test]
    fn remembered_token_expires_all_the_same() {
        let (auth, now) = auth(EXPIRES - 1);
        assert_eq!(auth.check(Some(TOKEN)), Ok(()));
        assert_eq!(auth.good.lock().unwrap().len(), 1);
        assert_eq!(auth.check(Some(TOKEN)), Ok(()));
        now.store(EXPIRES, Ordering::Relaxed);
        assert_eq!(auth.check(Some(TOKEN)), Err(AuthError::Expired));
    }

    #[test]
    fn refused_tokens_are_not_remembered() {
        let (auth, _) = auth(EXPIRES);
        assert_eq!(auth.check(Some(TOKEN)), Err(AuthError::Expired));
        assert_eq!(auth.check(Some(&TOKEN.replace("BWqx", "BWqy"))), Err(AuthError::Signature));
        assert!(auth.good.lock().unwrap().is_empty());
    }

    #[test]
    fn memory_of_tokens_is_bounded_and_expired_ones_go_first() {
        let (auth, _) = auth(0);
        let times = |expires| Times { expires: Some(expires), not_before: None, issued: None };
        for number in 0..REMEMBERED {
            auth.remember(&number.to_string(), times(if number == 0 { 100.0 } else { 10.0 }), 0);
        }
        auth.remember("new", times(100.0), 50);
        assert_eq!(auth.good.lock().unwrap().len(), 2);
        for number in 0..3 * REMEMBERED {
            auth.remember(&number.to_string(), times(100.0), 50);
            assert!(auth.good.lock().unwrap().len() <= REMEMBERED);
        }
    }

    #[test]
    fn time_that_is_no_number_is_never_satisfied() {
        let claims = |text: &str| Times::of(&serde_json::from_str(text).unwrap()).check(100);
        assert_eq!(claims(r#"{"exp":"soon"}"#), Err(AuthError::Expired));
        assert_eq!(claims(r#"{"exp":0,"nbf":100,"iat":99.5}"#), Ok(()));
        assert_eq!(claims(r#"{"exp":100}"#), Err(AuthError::Expired));
        assert_eq!(claims(r#"{"exp":1,"iat":101,"nbf":101}"#), Err(AuthError::NotYetValid));
    }
}
