//! Certificates out of their armour (RFC 7468).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The bytes in the first PEM block.
pub(crate) fn der_of_pem(pem: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once("-----BEGIN CERTIFICATE-----")?;
    let (body, _) = rest.split_once("-----END CERTIFICATE-----")?;
    STANDARD.decode(body.split_whitespace().collect::<String>()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_taken_out_of_its_armour() {
        let pem = "x\n-----BEGIN CERTIFICATE-----\nAQI\nD\n-----END CERTIFICATE-----\n";
        assert_eq!(der_of_pem(pem), Some(vec![1, 2, 3]));
        assert_eq!(der_of_pem("AQID"), None);
    }
}
