//! The request that publishes one event: a head, and behind it the payload.

use std::io::Write as _;

use super::target::Target;

/// The head of a request whose payload has `size` bytes.
pub(super) fn head(target: &Target, api_key: Option<&str>, size: usize, idempotency_key: Option<&str>) -> Vec<u8> {
    let mut head = Vec::with_capacity(512 + size);
    // Writing into a Vec cannot fail.
    let _ = write!(
        head,
        "POST /api/ws/broadcast/kpi HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n",
        target.authority,
    );
    if let Some(key) = api_key {
        let _ = write!(head, "Authorization: Bearer {key}\r\n");
    }
    if let Some(key) = idempotency_key {
        let _ = write!(head, "Idempotency-Key: {key}\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}
