//! One token: its signature, its times, and what its bearer may do.
//!
//! Owns the verdict on a token that was never seen before. The texts of the errors are part of the wire contract.

use std::fmt;

use base64::DecodeError;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};

use super::rights::Rights;

/// Why a request is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(in crate::http) enum AuthError {
    /// No bearer token.
    #[error("Use JWT Authentication")]
    NoToken,
    /// Longer than any token should be.
    #[error("token is longer than {} bytes", super::TOKEN_MAX)]
    TooLong,
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
    /// It has no `exp`, and one is required.
    #[error("token has no expiry, and one is required")]
    NoExpiry,
}

impl AuthError {
    /// The name to count by.
    pub(in crate::http) fn reason(&self) -> &'static str {
        match self {
            Self::NoToken => "no-token",
            Self::TooLong | Self::Segments | Self::Base64(_) | Self::Malformed => "token-malformed",
            Self::Algorithm => "token-algorithm",
            Self::Signature => "token-signature",
            Self::Expired => "token-expired",
            Self::UsedBeforeIssued | Self::NotYetValid => "token-not-yet-valid",
            Self::NoExpiry => "token-without-expiry",
        }
    }
}

/// What a good token says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) times: Times,
    pub(super) rights: Rights,
}

/// Verifies signatures with any of some keys.
pub(super) struct Verifier {
    keys: Vec<DecodingKey>,
    validation: Validation,
    require_scopes: bool,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

impl Verifier {
    /// Takes raw public keys.
    pub(super) fn new(keys: &[[u8; 32]], require_scopes: bool) -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        // The claims are ours to judge: with our clock, without leeway, and with the predecessor's texts.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        Self { keys: keys.iter().map(|key| DecodingKey::from_ed_der(key)).collect(), validation, require_scopes }
    }

    /// What the token says, if one of the keys has signed it. Its times are not judged.
    pub(super) fn verify(&self, token: &str) -> Result<Token, AuthError> {
        if token.split('.').count() != 3 {
            return Err(AuthError::Segments);
        }
        let mut verdict = Err(AuthError::Signature);
        for key in &self.keys {
            verdict = self.verify_with(key, token);
            if !matches!(verdict, Err(AuthError::Signature)) {
                break;
            }
        }
        verdict
    }

    fn verify_with(&self, key: &DecodingKey, token: &str) -> Result<Token, AuthError> {
        match jsonwebtoken::decode::<Map<String, Value>>(token, key, &self.validation) {
            Ok(token) => {
                Ok(Token { times: Times::of(&token.claims), rights: Rights::of(&token.claims, self.require_scopes) })
            }
            Err(error) => Err(match error.kind() {
                ErrorKind::Base64(DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _)) => {
                    AuthError::Base64(*at)
                }
                // A header that names no algorithm known at all.
                ErrorKind::Json(_) if jsonwebtoken::decode_header(token).is_err() => AuthError::Algorithm,
                ErrorKind::InvalidAlgorithm => AuthError::Algorithm,
                // What is no point of the curve has signed nothing.
                ErrorKind::InvalidSignature | ErrorKind::InvalidEddsaKey => AuthError::Signature,
                _ => AuthError::Malformed,
            }),
        }
    }
}

/// The time claims of a token, in unix seconds. Not a number: never satisfied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Times {
    pub(super) expires: Option<f64>,
    pub(super) not_before: Option<f64>,
    pub(super) issued: Option<f64>,
}

impl Times {
    fn of(claims: &Map<String, Value>) -> Self {
        // A zero counts as absent.
        let time = |name| Some(claims.get(name)?.as_f64().unwrap_or(f64::NAN)).filter(|time| *time != 0.0);
        Self { expires: time("exp"), not_before: time("nbf"), issued: time("iat") }
    }

    pub(super) fn check(self, now: i64, require_expiry: bool) -> Result<(), AuthError> {
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
        } else if self.expires.is_none() && require_expiry {
            Err(AuthError::NoExpiry)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_is_no_number_is_never_satisfied() {
        let claims = |text: &str| Times::of(&serde_json::from_str(text).unwrap()).check(100, false);
        assert_eq!(claims(r#"{"exp":"soon"}"#), Err(AuthError::Expired));
        assert_eq!(claims(r#"{"exp":0,"nbf":100,"iat":99.5}"#), Ok(()));
        assert_eq!(claims(r#"{"exp":100}"#), Err(AuthError::Expired));
        assert_eq!(claims(r#"{"exp":1,"iat":101,"nbf":101}"#), Err(AuthError::NotYetValid));
    }

    #[test]
    fn an_expiry_may_be_required() {
        let claims = |text: &str| Times::of(&serde_json::from_str(text).unwrap()).check(100, true);
        assert_eq!(claims(r#"{"exp":101}"#), Ok(()));
        assert_eq!(claims(r#"{"exp":0}"#), Err(AuthError::NoExpiry));
        assert_eq!(claims("{}"), Err(AuthError::NoExpiry));
    }
}
