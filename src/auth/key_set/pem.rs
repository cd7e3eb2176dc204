//! Public keys in PEM: as such (RFC 5280), of RSA alone (RFC 8017), or in a certificate.
//!
//! A certificate only carries its key: whoever puts it into the configuration
//! vouches for it, so neither its time nor its issuer is looked at.

use std::fmt;

use x509_cert::Certificate;
use x509_cert::der::asn1::{ObjectIdentifier, UintRef};
use x509_cert::der::{Decode, Encode, Reader, SliceReader};
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::key::{Curve, Key};
use super::source::Found;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const RSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// The keys of a text with any number of blocks.
///
/// A file that an operator has written is as a whole what it should be, so one bad key is an error.
pub(super) fn read(text: &[u8]) -> Result<Found, String> {
    let blocks = pem::parse_many(text).map_err(|error| format!("expected PEM: {error}"))?;
    let mut found = Found::default();
    for (index, block) in blocks.iter().enumerate() {
        let at = |why: String| format!("block {} ({}): {why}", index + 1, block.tag());
        found.keys.push(key(block.tag(), block.contents()).map_err(at)?);
    }
    if found.keys.is_empty() {
        return Err("expected PEM that begins with \"-----BEGIN PUBLIC KEY-----\"".into());
    }
    Ok(found)
}

fn key(tag: &str, der: &[u8]) -> Result<Key, String> {
    match tag {
        "PUBLIC KEY" => spki(der),
        "RSA PUBLIC KEY" => rsa(der),
        "CERTIFICATE" => {
            let certificate = Certificate::from_der(der).map_err(malformed)?;
            let info = certificate.tbs_certificate().subject_public_key_info().to_der().map_err(malformed)?;
            spki(&info)
        }
        _ if tag.ends_with("PRIVATE KEY") => {
            Err("this is a private key, which a server that checks tokens must not have; put the public key here, as \
                 `openssl pkey -pubout` prints it"
                .into())
        }
        _ => Err("expected PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE".into()),
    }
}

fn spki(der: &[u8]) -> Result<Key, String> {
    let info = SubjectPublicKeyInfoRef::try_from(der).map_err(malformed)?;
    let key = info.subject_public_key.as_bytes().ok_or("its bits are no whole bytes")?;
    match info.algorithm.oid {
        RSA => rsa(key),
        // Such a key is for nothing else (RFC 4055, 1.2).
        RSA_PSS => rsa(key)?.bound_to("PS256"),
        EC => match info.algorithm.parameters_oid() {
            Ok(P256) => Key::ec(Curve::P256, key),
            Ok(P384) => Key::ec(Curve::P384, key),
            _ => Err("its curve is neither P-256 nor P-384".into()),
        },
        ED25519 => Key::ed25519(key),
        _ => Err("its kind is none of RSA, EC and Ed25519".into()),
    }
}

/// `RSAPublicKey`: a modulus and an exponent (RFC 8017, A.1.1).
fn rsa(der: &[u8]) -> Result<Key, String> {
    let mut reader = SliceReader::new(der).map_err(malformed)?;
    let (modulus, exponent) = reader
        .sequence(|numbers| Ok::<_, x509_cert::der::Error>((UintRef::decode(numbers)?, UintRef::decode(numbers)?)))
        .map_err(malformed)?;
    Key::rsa(modulus.as_bytes(), exponent.as_bytes())
}

fn malformed(error: impl fmt::Display) -> String {
    format!("it is malformed: {error}")
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, DecodingKeyKind};

    use super::*;

    macro_rules! file {
        ($name:literal) => {
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/", $name))
        };
    }

    /// The bytes of the only key, if it verifies exactly these algorithms.
    fn only(text: &str, algorithms: &[Algorithm]) -> Vec<u8> {
        let found = read(text.as_bytes()).expect("keys");
        let [key] = &found.keys[..] else { panic!("{found:?}") };
        assert_eq!(format!("{key:?}"), format!("Key {{ id: None, algorithms: {algorithms:?}, .. }}"));
        match key.material.kind() {
            DecodingKeyKind::SecretOrDer(bytes) => bytes.clone(),
            DecodingKeyKind::RsaModulusExponent { n, .. } => n.clone(),
        }
    }

    #[test]
    fn keys_that_openssl_writes_are_read_in_every_form() {
        let rsa = [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256];
        let modulus = only(file!("rsa.pem"), &rsa);
        assert_eq!(modulus.len(), 256);
        assert_eq!(only(file!("rsa-pkcs1.pem"), &rsa), modulus);
        assert_eq!(only(file!("rsa-certificate.pem"), &rsa), modulus);
        assert_eq!(only(file!("rsa-pss.pem"), &[Algorithm::PS256]).len(), 256);
        let point = only(file!("p256.pem"), &[Algorithm::ES256]);
        assert_eq!(only(file!("p256-certificate.pem"), &[Algorithm::ES256]), point);
        assert_eq!((point.len(), only(file!("p384.pem"), &[Algorithm::ES384]).len()), (65, 97));
        assert_eq!(only(file!("ed25519.pem"), &[Algorithm::EdDSA]).len(), 32);
    }

    #[test]
    fn a_file_may_hold_several_keys_and_words_between_them() {
        let text = format!("the first\n{}\nthe second\r\n{}", file!("rsa.pem"), file!("ed25519.pem"));
        assert_eq!(read(text.as_bytes()).expect("keys").keys.len(), 2);
    }

    #[test]
    fn what_is_no_good_key_is_an_error_that_says_which() {
        let broken = file!("rsa.pem").replace("MIIB", "MIIC");
        let unknown = "-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n";
        for (text, why) in [
            (file!("rsa-1024.pem"), "block 1 (PUBLIC KEY): an RSA key has 2048 to 8192 bits, and this one has 1024"),
            (file!("p521.pem"), "curve is neither"),
            (file!("p256-compressed.pem"), "not compressed"),
            (file!("rsa-private-for-tests-only.pem"), "block 1 (PRIVATE KEY): this is a private key"),
            (&format!("{}{}", file!("rsa.pem"), file!("p521.pem")), "block 2 (PUBLIC KEY)"),
            (unknown, "expected PUBLIC KEY"),
            (&broken, "malformed"),
            ("", "BEGIN PUBLIC KEY"),
            ("{\"keys\":[]}", "BEGIN PUBLIC KEY"),
        ] {
            let error = read(text.as_bytes()).expect_err("refused");
            assert!(error.contains(why), "{why}: {error}");
        }
    }
}
