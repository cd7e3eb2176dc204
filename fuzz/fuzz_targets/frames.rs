//! The frame reader, fed with any bytes.

#![no_main]

mod read;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [deflate, first, second, wire @ ..] = input else { return };
    let _ = read::read_every_way(wire, deflate & 1 != 0, &[usize::from(*first), usize::from(*second)]);
});
