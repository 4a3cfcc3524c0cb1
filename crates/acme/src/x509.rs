//! The few things that must be known of a certificate: how long it is good, and for whom.

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::book::Validity;

/// From when to when it is good.
pub(crate) fn validity(certificate: &CertificateDer<'_>) -> Option<Validity> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).ok();
    Some(Validity {
        from: seconds(parsed.validity().not_before)?,
        until: seconds(parsed.validity().not_after)?,
    })
}

/// Whether it names exactly this host (a wildcard stands for itself here).
pub(crate) fn names(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return false };
    let is = |name: &GeneralName<'_>| matches!(name, GeneralName::DNSName(name) if name.eq_ignore_ascii_case(host));
    names.value.general_names.iter().any(is)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_names_are_read() {
        let mut params =
            rcgen::CertificateParams::new(["a.example".to_owned(), "*.b.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2024, 1, 1);
        params.not_after = rcgen::date_time_ymd(2024, 3, 31);
        let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let expected = Validity { from: 1_704_067_200, until: 1_704_067_200 + 90 * 86_400 };
        assert_eq!(validity(made.der()), Some(expected));
        assert!(names(made.der(), "a.example") && names(made.der(), "*.b.example"));
        assert!(!names(made.der(), "x.b.example") && !names(made.der(), "example"));
        assert_eq!(validity(&CertificateDer::from(vec![0x30, 1, 2])), None);
    }
}
