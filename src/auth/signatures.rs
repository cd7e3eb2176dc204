//! The cryptography of tokens, for the library that reads them: HMAC by RustCrypto, public keys by ring.
//!
//! The library leaves it to its user, and asks whatever is installed in the
//! process. Which key may verify which algorithm is for `key_set` to say; a key
//! of another family is refused here all the same.

use hmac::{Hmac, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, Result};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature::{self as ring_signature, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};
use sha2::{Sha256, Sha384, Sha512};
use signature::{Signer, Verifier};

use crate::config::JwtAlgorithm;

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    // Keys are taken apart in `key_set`. What the library offers instead would panic.
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: |_| Err(ErrorKind::UnsupportedAlgorithm.into()),
        rsa_pub_components_from_public_key: |_| Err(ErrorKind::UnsupportedAlgorithm.into()),
        ec_pub_components_from_private_key: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
        ed_pub_components_from_private_key: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
        compute_digest: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    },
};

/// Tells the library of it; again is fine.
pub(super) fn install() {
    // Only this is ever installed, so a refusal says that it is there already.
    let _ = PROVIDER.install_default();
}

impl From<JwtAlgorithm> for Algorithm {
    fn from(algorithm: JwtAlgorithm) -> Self {
        match algorithm {
            JwtAlgorithm::Hs256 => Self::HS256,
            JwtAlgorithm::Hs384 => Self::HS384,
            JwtAlgorithm::Hs512 => Self::HS512,
            JwtAlgorithm::Rs256 => Self::RS256,
            JwtAlgorithm::Rs384 => Self::RS384,
            JwtAlgorithm::Rs512 => Self::RS512,
            JwtAlgorithm::Ps256 => Self::PS256,
            JwtAlgorithm::Es256 => Self::ES256,
            JwtAlgorithm::Es384 => Self::ES384,
            JwtAlgorithm::EdDsa => Self::EdDSA,
        }
    }
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    let key = key.as_bytes();
    Ok(match algorithm {
        Algorithm::HS256 => Box::new(Keyed::<Hmac<Sha256>>::new(*algorithm, key)?),
        Algorithm::HS384 => Box::new(Keyed::<Hmac<Sha384>>::new(*algorithm, key)?),
        Algorithm::HS512 => Box::new(Keyed::<Hmac<Sha512>>::new(*algorithm, key)?),
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    })
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    let bytes = || key.try_get_as_bytes();
    let rsa = |parameters| Rsa::new(*algorithm, parameters, key);
    let public = |scheme| -> Result<Public> {
        Ok(Public { algorithm: *algorithm, key: UnparsedPublicKey::new(scheme, bytes()?.to_vec()) })
    };
    Ok(match algorithm {
        Algorithm::HS256 => Box::new(Keyed::<Hmac<Sha256>>::new(*algorithm, bytes()?)?),
        Algorithm::HS384 => Box::new(Keyed::<Hmac<Sha384>>::new(*algorithm, bytes()?)?),
        Algorithm::HS512 => Box::new(Keyed::<Hmac<Sha512>>::new(*algorithm, bytes()?)?),
        Algorithm::RS256 => Box::new(rsa(&ring_signature::RSA_PKCS1_2048_8192_SHA256)?),
        Algorithm::RS384 => Box::new(rsa(&ring_signature::RSA_PKCS1_2048_8192_SHA384)?),
        Algorithm::RS512 => Box::new(rsa(&ring_signature::RSA_PKCS1_2048_8192_SHA512)?),
        Algorithm::PS256 => Box::new(rsa(&ring_signature::RSA_PSS_2048_8192_SHA256)?),
        Algorithm::ES256 => Box::new(public(&ring_signature::ECDSA_P256_SHA256_FIXED)?),
        Algorithm::ES384 => Box::new(public(&ring_signature::ECDSA_P384_SHA384_FIXED)?),
        Algorithm::EdDSA => Box::new(public(&ring_signature::ED25519)?),
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    })
}

/// A code that has its key, and nothing to authenticate yet.
struct Keyed<M> {
    algorithm: Algorithm,
    code: M,
}

impl<M: Mac + hmac::digest::KeyInit> Keyed<M> {
    fn new(algorithm: Algorithm, key: &[u8]) -> Result<Self> {
        let code = <M as Mac>::new_from_slice(key).map_err(|_| Error::from(ErrorKind::InvalidKeyFormat))?;
        Ok(Self { algorithm, code })
    }
}

impl<M: Mac + Clone> Signer<Vec<u8>> for Keyed<M> {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, signature::Error> {
        Ok(self.code.clone().chain_update(message).finalize().into_bytes().to_vec())
    }
}

impl<M: Mac + Clone> Verifier<Vec<u8>> for Keyed<M> {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        let code = self.code.clone().chain_update(message);
        code.verify_slice(signature).map_err(|_| signature::Error::new())
    }
}

impl<M: Mac + Clone> JwtSigner for Keyed<M> {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl<M: Mac + Clone> JwtVerifier for Keyed<M> {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// A modulus and an exponent.
struct Rsa {
    algorithm: Algorithm,
    parameters: &'static RsaParameters,
    key: RsaPublicKeyComponents<Vec<u8>>,
}

impl Rsa {
    fn new(algorithm: Algorithm, parameters: &'static RsaParameters, key: &DecodingKey) -> Result<Self> {
        let DecodingKeyKind::RsaModulusExponent { n, e } = key.kind() else {
            return Err(ErrorKind::InvalidKeyFormat.into());
        };
        Ok(Self { algorithm, parameters, key: RsaPublicKeyComponents { n: n.clone(), e: e.clone() } })
    }
}

impl Verifier<Vec<u8>> for Rsa {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        self.key.verify(self.parameters, message, signature).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Rsa {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// A point of a curve.
struct Public {
    algorithm: Algorithm,
    key: UnparsedPublicKey<Vec<u8>>,
}

impl Verifier<Vec<u8>> for Public {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        self.key.verify(message, signature).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Public {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::crypto::verify;

    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text).expect("base64url")
    }

    /// The examples of the standards: what signs, the token, and its key.
    fn examples() -> Vec<(&'static str, Algorithm, String, DecodingKey)> {
        // RFC 7515, A.1 to A.3.
        const CLAIMS: &str =
            "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        const SECRET: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        const MODULUS: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
        const RSA: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
        let point = [
            vec![4],
            bytes("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"),
            bytes("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"),
        ];
        vec![
            (
                "RFC 7515, A.1",
                Algorithm::HS256,
                format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{CLAIMS}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
                DecodingKey::from_secret(&bytes(SECRET)),
            ),
            (
                "RFC 7515, A.2",
                Algorithm::RS256,
                format!("eyJhbGciOiJSUzI1NiJ9.{CLAIMS}.{RSA}"),
                DecodingKey::from_rsa_raw_components(&bytes(MODULUS), &[1, 0, 1]),
            ),
            (
                "RFC 7515, A.3",
                Algorithm::ES256,
                format!("eyJhbGciOiJFUzI1NiJ9.{CLAIMS}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"),
                DecodingKey::from_ec_der(&point.concat()),
            ),
            (
                "RFC 8037, A.4",
                Algorithm::EdDSA,
                "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg".to_owned(),
                DecodingKey::from_ed_der(&bytes("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")),
            ),
        ]
    }

    #[test]
    fn the_examples_of_the_standards_are_verified() {
        install();
        for (source, algorithm, token, key) in examples() {
            let (signed, signature) = token.rsplit_once('.').expect("a signature");
            assert_eq!(verify(signature, signed.as_bytes(), &key, algorithm).ok(), Some(true), "{source}");
            let other = signed.replace("eyJ", "eyK");
            assert_eq!(verify(signature, other.as_bytes(), &key, algorithm).ok(), Some(false), "{source}");
            for bad in ["", "AAAA", &signature[4..]] {
                assert_eq!(verify(bad, signed.as_bytes(), &key, algorithm).ok(), Some(false), "{source}: {bad}");
            }
        }
    }

    #[test]
    fn a_key_verifies_nothing_of_another_family() {
        install();
        for (source, own, token, key) in examples() {
            let (signed, signature) = token.rsplit_once('.').expect("a signature");
            for algorithm in examples().into_iter().map(|example| example.1).filter(|algorithm| *algorithm != own) {
                assert!(verify(signature, signed.as_bytes(), &key, algorithm).is_err(), "{source} as {algorithm:?}");
            }
        }
        // An RSA key in DER, where its numbers are expected, is an error and no panic.
        for key in [DecodingKey::from_rsa_der(&[0; 32]), DecodingKey::from_ec_der(&[]), DecodingKey::from_ed_der(&[])] {
            for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA] {
                assert_ne!(verify("AAAA", b"", &key, algorithm).ok(), Some(true), "{algorithm:?}");
            }
        }
    }
}
