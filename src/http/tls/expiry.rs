//! When a certificate expires: the one thing that is read of its X.509.
//!
//! A walk over DER (X.690) to `tbsCertificate.validity.notAfter` (RFC 5280, 4.1). Promises to read any bytes: what is
//! no certificate has no time.

use kymo_engine::paths::day_of;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The version, which is not there in version 1.
const VERSION: u8 = 0xa0;

/// The last second in which a certificate (DER) is valid, in unix seconds.
pub(super) fn not_after(der: &[u8]) -> Option<i64> {
    let (certificate, _) = expect(der, SEQUENCE)?;
    let (mut fields, _) = expect(certificate, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        fields = expect(fields, VERSION)?.1;
    }
    // Serial number, algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        fields = expect(fields, tag)?.1;
    }
    let (validity, _) = expect(fields, SEQUENCE)?;
    let (_, _, rest) = element(validity)?;
    let (tag, text, _) = element(rest)?;
    let text = std::str::from_utf8(text).ok()?;
    match tag {
        // Two digits of the year: 1950 to 2049.
        UTC_TIME => time(&format!("{}{text}", if text.as_bytes().first()? < &b'5' { "20" } else { "19" })),
        GENERALIZED_TIME => time(text),
        _ => None,
    }
}

/// The content of the first element, which must have this tag, and what follows it.
fn expect(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(der)?;
    (found == tag).then_some((content, rest))
}

/// Tag and content of the first element, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], mut rest) = der.split_first_chunk::<2>()?;
    let mut len = usize::from(first);
    if first & 0x80 != 0 {
        // The bytes of the length; four are more than any certificate needs, none would be an indefinite length.
        let (bytes, after) =
            rest.split_at_checked(usize::from(first & 0x7f)).filter(|(bytes, _)| (1..=4).contains(&bytes.len()))?;
        len = bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
        rest = after;
    }
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

/// `20261123030405Z` in unix seconds.
fn time(text: &str) -> Option<i64> {
    let digits =
        text.strip_suffix('Z').filter(|text| text.len() == 14 && text.bytes().all(|byte| byte.is_ascii_digit()))?;
    let day = day_of(&format!("{}-{}-{}", &digits[..4], &digits[4..6], &digits[6..8]))?;
    let [hours, minutes, seconds] = [8, 10, 12].map(|at| digits[at..at + 2].parse::<i64>().ok());
    Some(((day * 24 + hours?) * 60 + minutes?) * 60 + seconds?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    fn certificate(year: i32) -> Vec<u8> {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 2, 3);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn both_forms_of_a_time_are_read() {
        // `date -u -d 2027-02-03 +%s`, and so on; from 2050 on the year has four digits.
        for (year, wanted) in
            [(2027, 1_801_612_800), (2049, 2_495_923_200), (2050, 2_527_459_200), (2120, 4_736_361_600)]
        {
            assert_eq!(not_after(&certificate(year)), Some(wanted), "{year}");
        }
        assert_eq!(time("19700102000001Z"), Some(86_401));
        for wrong in
            ["", "Z", "20270203000000", "2027020300000Z", "20270203000000+0100", "20271303000000Z", "2027é20300000Z"]
        {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_cut_has_no_time() {
        let whole = certificate(2030);
        for len in 0..whole.len() {
            assert_eq!(not_after(&whole[..len]), None, "{len}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>, at: usize, byte: u8) {
            not_after(&bytes);
            let mut changed = certificate(2030);
            let at = at % changed.len();
            changed[at] = byte;
            not_after(&changed);
        }
    }
}
