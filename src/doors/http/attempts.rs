//! Calls without a valid key: counted by address, so that keys cannot be tried out and nobody fills the log.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::ApiError;
use crate::auth::{Caller, Denied};
use crate::limits::{Book, Network, Rate};

/// Addresses that are counted one by one, and keys that are remembered with the address they came from.
const MOST: usize = 10_000;

/// Who has tried, and failed.
#[derive(Debug)]
pub(in crate::doors) struct Attempts {
    failed: Option<(u32, Book<Network>)>,
    /// Keys that were used from an address: whoever shares it with somebody who guesses is still served.
    proven: Mutex<HashSet<(Network, Arc<str>)>>,
}

impl Attempts {
    /// So many failures a minute and address; without a bound for 0.
    pub(in crate::doors) fn new(per_minute: u32) -> Self {
        let failed = (per_minute > 0).then(|| (per_minute, Book::new(Rate::per_minute(per_minute), MOST)));
        Self { failed, proven: Mutex::default() }
    }

    /// Who calls from an address, unless too many calls from there have failed.
    ///
    /// # Errors
    /// If the key is refused, or the address has failed too often and the key has never been used from there.
    pub(super) fn judge(&self, address: IpAddr, outcome: Result<Caller, Denied>) -> Result<Caller, ApiError> {
        let Some((per_minute, failed)) = &self.failed else { return Ok(outcome?) };
        let address = Network::from(address);
        // A guess is answered alike whether it is right or wrong.
        let may_try = failed.has(&address);
        match outcome {
            Ok(caller) => {
                let pair = (address, caller.name.clone());
                let mut proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
                if may_try && !proven.contains(&pair) {
                    if proven.len() >= MOST {
                        proven.clear();
                    }
                    proven.insert(pair);
                } else if !may_try && !proven.contains(&pair) {
                    return Err(too_many(*per_minute));
                }
                Ok(caller)
            }
            Err(denied) => {
                if failed.take(address) {
                    Err(denied.into())
                } else {
                    Err(too_many(*per_minute))
                }
            }
        }
    }
}

fn too_many(per_minute: u32) -> ApiError {
    let seconds = 60_u32.div_ceil(per_minute);
    ApiError::too_many(format!("more than {per_minute} calls a minute without a valid key from this address"), seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::ApiKeys;
    use crate::config::Api;

    fn caller(name: &str) -> Caller {
        let headers = http::HeaderMap::new();
        let address = "127.0.0.1:1".parse().expect("an address");
        let request = crate::auth::Request { bound: address, peer: address, headers: &headers, origin_allowed: true };
        let anyone = ApiKeys::new(&Api { allow_keyless: true, ..Api::default() }).caller(None, request);
        let mut caller = anyone.expect("a caller");
        caller.name = name.into();
        caller
    }

    fn status(outcome: Result<Caller, ApiError>) -> u16 {
        outcome.map_or_else(|error| error.status().as_u16(), |_| 200)
    }

    #[test]
    fn a_right_guess_is_answered_like_a_wrong_one_once_there_were_too_many() {
        let attempts = Attempts::new(3);
        let [guesser, other] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse::<IpAddr>().expect("an address"));
        assert_eq!(status(attempts.judge(guesser, Ok(caller("used before")))), 200);
        let statuses: Vec<_> = (0..5).map(|_| status(attempts.judge(guesser, Err(Denied::Unknown)))).collect();
        assert_eq!(statuses, [401, 401, 401, 429, 429]);
        assert_eq!(status(attempts.judge(guesser, Ok(caller("guessed")))), 429);
        assert_eq!(status(attempts.judge(guesser, Ok(caller("used before")))), 200);
        assert_eq!(status(attempts.judge(other, Ok(caller("guessed")))), 200);
    }

    #[test]
    fn whoever_has_an_ipv6_network_is_one_address() {
        let attempts = Attempts::new(1);
        let [one, same, other] =
            ["2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"].map(|text| text.parse().expect("an address"));
        let statuses = [one, same, other].map(|address| status(attempts.judge(address, Err(Denied::Unknown))));
        assert_eq!(statuses, [401, 429, 401]);
    }

    #[test]
    fn without_a_bound_everybody_may_go_on() {
        let attempts = Attempts::new(0);
        let address = "192.0.2.1".parse().expect("an address");
        assert!((0..1_000).all(|_| status(attempts.judge(address, Err(Denied::Unknown))) == 401));
    }
}
