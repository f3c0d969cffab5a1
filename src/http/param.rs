//! Parameters of a query string.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The first parameter of this name, percent-decoded. `+` stands for itself; a name without `=` has an empty value.
pub(super) fn param<'a>(query: Option<&'a str>, name: &str) -> Option<Cow<'a, str>> {
    query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then(|| percent_decode_str(value).decode_utf8_lossy())
    })
}

#[cfg(test)]
mod tests {
    use super::param;

    #[test]
    fn first_parameter_wins_and_only_percent_is_decoded() {
        let query = Some("x=1&cluster=a%2Fb+c&cluster=d&flag");
        assert_eq!(param(query, "cluster").as_deref(), Some("a/b+c"));
        assert_eq!(param(query, "flag").as_deref(), Some(""));
        assert_eq!(param(query, "to"), None);
        assert_eq!(param(None, "to"), None);
    }
}
