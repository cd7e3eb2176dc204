//! The cryptography of tokens, for the library that reads them: HMAC.
//!
//! The library leaves it to its user, and asks whatever is installed in the
//! process; other families of algorithms find their place beside this one.

use hmac::{Hmac, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, Result};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey};
use sha2::{Sha256, Sha384, Sha512};
use signature::{Signer, Verifier};

static PROVIDER: CryptoProvider =
    CryptoProvider { signer_factory: signer, verifier_factory: verifier, key_utils: KeyUtils::new_unimplemented() };

/// Tells the library of it; again is fine.
pub(super) fn install() {
    // Only this is ever installed, so a refusal says that it is there already.
    let _ = PROVIDER.install_default();
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    if key.family() != AlgorithmFamily::Hmac {
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
    if key.family() != AlgorithmFamily::Hmac {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    let key = key.try_get_as_bytes()?;
    Ok(match algorithm {
        Algorithm::HS256 => Box::new(Keyed::<Hmac<Sha256>>::new(*algorithm, key)?),
        Algorithm::HS384 => Box::new(Keyed::<Hmac<Sha384>>::new(*algorithm, key)?),
        Algorithm::HS512 => Box::new(Keyed::<Hmac<Sha512>>::new(*algorithm, key)?),
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
