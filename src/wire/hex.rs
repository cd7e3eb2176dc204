//! Hexadecimal digits.

/// Two lower-case digits for each byte.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that these digits stand for, if there are just so many.
pub fn from_hex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let byte = |at: usize| u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok();
    let bytes: Vec<u8> = (0..N).map(byte).collect::<Option<_>>()?;
    if digits.len() == 2 * N { bytes.try_into().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_they_are_written() {
        assert_eq!(to_hex(&[0, 10, 255]), "000aff");
        assert_eq!(from_hex("000aff"), Some([0, 10, 255]));
        for digits in ["000af", "000aff0", "000ag0", "é00a", ""] {
            assert_eq!(from_hex::<3>(digits), None, "{digits}");
        }
    }
}
