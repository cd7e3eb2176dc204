//! One key, and the algorithms that it verifies.

use std::fmt;

use jsonwebtoken::{Algorithm, DecodingKey};

/// Shorter ones can be guessed, or are forbidden for their algorithm (RFC 7518, 3.2 and 3.3).
const MIN_SECRET_BYTES: usize = 32;
const MIN_RSA_BITS: usize = 2_048;

/// Longer ones cost too much time.
const MAX_RSA_BITS: usize = 8_192;

/// What verifies the signature of a token.
#[derive(Clone)]
pub(in crate::auth) struct Key {
    /// Its id (`kid`), if it has one.
    pub(super) id: Option<String>,
    /// All of one family.
    algorithms: Vec<Algorithm>,
    /// What the library verifies with.
    pub(in crate::auth) material: DecodingKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("algorithms", &self.algorithms).finish_non_exhaustive()
    }
}

/// A curve of ECDSA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
}

impl Key {
    /// A secret that signs and verifies.
    pub(in crate::auth) fn secret(secret: &[u8]) -> Result<Self, String> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(format!("a secret needs at least {MIN_SECRET_BYTES} bytes, and this one has {}", secret.len()));
        }
        let algorithms = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
        Ok(Self::new(&algorithms, DecodingKey::from_secret(secret)))
    }

    /// An RSA key of a modulus and an exponent, both big-endian.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, String> {
        let (modulus, exponent) = (without_zeros(modulus), without_zeros(exponent));
        let bits = modulus.len() * 8 - modulus.first().map_or(0, |first| first.leading_zeros() as usize);
        if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
            return Err(format!("an RSA key has {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, and this one has {bits}"));
        }
        let is_even = |number: &[u8]| number.last().is_none_or(|last| last % 2 == 0);
        if is_even(modulus) || is_even(exponent) || exponent == [1] || exponent.len() > 4 {
            return Err("its modulus or exponent is none of an RSA key".into());
        }
        let algorithms = [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256];
        Ok(Self::new(&algorithms, DecodingKey::from_rsa_raw_components(modulus, exponent)))
    }

    /// A point of a curve, uncompressed (SEC 1, 2.3.3).
    pub(super) fn ec(curve: Curve, point: &[u8]) -> Result<Self, String> {
        let (algorithm, length) = match curve {
            Curve::P256 => (Algorithm::ES256, 65),
            Curve::P384 => (Algorithm::ES384, 97),
        };
        if point.len() != length || point[0] != 4 {
            return Err(format!("a point of its curve has {length} bytes and is not compressed"));
        }
        Ok(Self::new(&[algorithm], DecodingKey::from_ec_der(point)))
    }

    /// An Ed25519 key (RFC 8032, 5.1.5).
    pub(super) fn ed25519(key: &[u8]) -> Result<Self, String> {
        if key.len() != 32 {
            return Err("an Ed25519 key has 32 bytes".into());
        }
        Ok(Self::new(&[Algorithm::EdDSA], DecodingKey::from_ed_der(key)))
    }

    fn new(algorithms: &[Algorithm], material: DecodingKey) -> Self {
        Self { id: None, algorithms: algorithms.to_vec(), material }
    }

    /// The same key, only for one algorithm.
    pub(super) fn bound_to(mut self, algorithm: &str) -> Result<Self, String> {
        self.algorithms.retain(|own| algorithm.parse() == Ok(*own));
        if self.algorithms.is_empty() {
            return Err(format!("its algorithm {algorithm:?} is none that this server verifies with such a key"));
        }
        Ok(self)
    }

    /// Whether it verifies an algorithm.
    pub(in crate::auth) fn verifies(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An odd number of so many bits.
    fn modulus(bits: usize) -> Vec<u8> {
        let mut bytes = vec![0xff; bits.div_ceil(8)];
        if let Some(first) = bytes.first_mut() {
            *first >>= (8 - bits % 8) % 8;
        }
        bytes
    }

    #[test]
    fn a_key_verifies_its_own_family_only() {
        let all = [
            Algorithm::HS256,
            Algorithm::HS384,
            Algorithm::HS512,
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
            Algorithm::ES256,
            Algorithm::ES384,
            Algorithm::EdDSA,
        ];
        let verified = |key: Result<Key, String>| {
            let key = key.expect("a key");
            let names: Vec<_> = all.into_iter().filter(|a| key.verifies(*a)).map(|a| format!("{a:?}")).collect();
            names.join(" ")
        };
        assert_eq!(verified(Key::secret(&[0; 32])), "HS256 HS384 HS512");
        assert_eq!(verified(Key::rsa(&modulus(2_048), &[1, 0, 1])), "RS256 RS384 RS512 PS256");
        assert_eq!(verified(Key::ec(Curve::P256, &[4; 65])), "ES256");
        assert_eq!(verified(Key::ec(Curve::P384, &[4; 97])), "ES384");
        assert_eq!(verified(Key::ed25519(&[0; 32])), "EdDSA");
        assert_eq!(verified(Key::rsa(&modulus(2_048), &[3]).and_then(|key| key.bound_to("PS256"))), "PS256");
    }

    #[test]
    fn keys_that_are_weak_or_none_are_refused() {
        assert!(Key::secret(&[0; 31]).is_err());
        for bits in [0, 1_024, 2_047, 8_193] {
            let error = Key::rsa(&modulus(bits), &[1, 0, 1]).expect_err("refused");
            assert!(error.ends_with(&format!("has {bits}")), "{error}");
        }
        let padded = [&[0, 0], &modulus(2_047)[..]].concat();
        assert!(Key::rsa(&padded, &[1, 0, 1]).is_err(), "zeros are no bits");
        for exponent in [&[][..], &[0], &[1], &[2], &[1, 0, 0, 0, 1]] {
            assert!(Key::rsa(&modulus(2_048), exponent).is_err(), "{exponent:?}");
        }
        assert!(Key::ec(Curve::P256, &[4; 97]).is_err() && Key::ec(Curve::P384, &[4; 65]).is_err());
        assert!(Key::ec(Curve::P256, &[2; 65]).is_err() && Key::ec(Curve::P256, &[]).is_err());
        assert!(Key::ed25519(&[0; 31]).is_err());
        for algorithm in ["RS256", "none", ""] {
            assert!(Key::secret(&[0; 32]).and_then(|key| key.bound_to(algorithm)).is_err(), "{algorithm}");
        }
    }
}
