//! The events' payload: figures like a dashboard's, and a stamp to find again.
//!
//! The stamp comes first and has a fixed width, so that it can be set just
//! before the write and found without decoding. The figures differ from event
//! to event as real ones do: what compression gains is then believable.

use std::io::Write as _;

/// How the packet of an event in its named form begins.
pub(super) const NAMED: &[u8] = b"42[\"kpi:update\",";
const STAMP: &[u8] = b"\"bench\":\"";
const SEQUENCE_DIGITS: usize = 10;
const TIME_DIGITS: usize = 20;
const NOTE: &str = "],\"note\":\"";
const END: &str = "\"}";

/// What a payload says about its publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Number of the event, from 0.
    pub(super) sequence: u64,
    /// When it was sent, in nanoseconds of the run's clock.
    pub(super) sent: u64,
}

/// Smallest payload that can be rendered.
pub(super) fn least_size(organization: &str) -> usize {
    let mut head = Vec::new();
    write_head(&mut head, 0, organization);
    head.len() + NOTE.len() + END.len()
}

/// Appends the payload of one event, exactly `size` bytes, with the time still open.
pub(super) fn render(out: &mut Vec<u8>, sequence: u64, organization: &str, size: usize) {
    let end = out.len() + size - NOTE.len() - END.len();
    write_head(out, sequence, organization);
    let mut figures = Figures(sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut item = Vec::with_capacity(160);
    for queue in 0.. {
        item.clear();
        write_item(&mut item, queue, &mut figures);
        if out.len() + item.len() > end {
            break;
        }
        out.extend_from_slice(&item);
    }
    if out.last() == Some(&b',') {
        out.pop();
    }
    out.extend_from_slice(NOTE.as_bytes());
    out.resize(end + NOTE.len(), b'-');
    out.extend_from_slice(END.as_bytes());
}

/// Sets the time of a rendered payload.
pub(super) fn set_time(payload: &mut [u8], sent: u64) {
    let start = 1 + STAMP.len() + SEQUENCE_DIGITS + 1;
    write_digits(&mut payload[start..start + TIME_DIGITS], sent);
}

/// Finds the stamp in a packet.
pub(super) fn stamp(packet: &[u8]) -> Option<Stamp> {
    let start = find(packet, STAMP)? + STAMP.len();
    let digits = packet.get(start..start + SEQUENCE_DIGITS + 1 + TIME_DIGITS)?;
    let (sequence, time) = digits.split_at(SEQUENCE_DIGITS);
    Some(Stamp { sequence: read_digits(sequence)?, sent: read_digits(&time[1..])? })
}

/// Where `needle` begins in `hay`.
pub(super) fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}

fn write_head(out: &mut Vec<u8>, sequence: u64, organization: &str) {
    let stamp = String::from_utf8_lossy(STAMP);
    let organization = serde_json::Value::from(organization);
    // Writing into a Vec cannot fail.
    let _ = write!(
        out,
        "{{{stamp}{sequence:0sequence_digits$}.{:0time_digits$}\",\"organization_id\":{organization},\"kpi\":[",
        0,
        sequence_digits = SEQUENCE_DIGITS,
        time_digits = TIME_DIGITS,
    );
}

fn write_item(out: &mut Vec<u8>, queue: u64, figures: &mut Figures) {
    const TRENDS: [&str; 4] = ["steady", "rising", "falling", "unknown"];
    let trend = TRENDS[usize::try_from(figures.below(4)).unwrap_or(0)];
    let _ = write!(
        out,
        "{{\"queue_name\":\"queue-{queue:02}\",\"agents_online\":{},\"waiting\":{},\"service_level\":0.{:03}{},\"trend\":\"{trend}\"}},",
        10 + figures.below(90),
        figures.below(100),
        figures.below(1_000),
        // Never a zero at the end, which a server that decodes and encodes would leave out.
        1 + figures.below(9),
    );
}

/// A small generator (xorshift) of the figures: the same run has the same payloads.
struct Figures(u64);

impl Figures {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % bound
    }
}

fn write_digits(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
}

fn read_digits(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_json_of_the_size_asked_for() {
        for size in [least_size("org_bench"), 260, 1_000, 4_096, 100_000] {
            let mut payload = Vec::new();
            render(&mut payload, 7, "org_bench", size);
            assert_eq!(payload.len(), size);
            let value: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            assert_eq!(value["organization_id"], "org_bench");
        }
    }

    #[test]
    fn the_stamp_is_found_in_a_packet() {
        let mut payload = Vec::new();
        render(&mut payload, 7, "org_bench", 260);
        set_time(&mut payload, 123_456_789);
        let packet = [b"42[\"kpi:update\",".as_slice(), &payload, b"]"].concat();
        assert_eq!(stamp(&packet), Some(Stamp { sequence: 7, sent: 123_456_789 }));
        assert_eq!(stamp(b"42[\"connected\",{}]"), None);
    }
}
