//! How often and how long the hub is asked again: `Retry-After` where it is said, doubling waits where not.

use std::time::{Duration, SystemTime};

use crate::error::seconds;

/// Tries of one request that bring nothing, the first included.
const TRIES: u32 = 5;
/// The longest wait; Hugging Face counts requests over five minutes.
const LONGEST: Duration = Duration::from_secs(300);
const FIRST: Duration = Duration::from_secs(1);

/// What is left of the tries for one thing.
pub(crate) struct Patience {
    tried: u32,
}

impl Patience {
    pub(crate) fn new() -> Patience {
        Patience { tried: 1 }
    }

    /// The wait before the next try, or why there is none. `asked` is the wait that the server wants.
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Result<Duration, String> {
        if self.tried >= TRIES {
            return Err(format!("gave up after {TRIES} tries"));
        }
        let wait = asked.unwrap_or(FIRST * 2_u32.pow(self.tried - 1));
        if wait > LONGEST {
            return Err(format!(
                "it asks to wait {}, longer than the {} that are waited",
                seconds(wait),
                seconds(LONGEST)
            ));
        }
        self.tried += 1;
        Ok(wait)
    }

    /// Something came: the tries count anew.
    pub(crate) fn renew(&mut self) {
        self.tried = 1;
    }
}

/// A `Retry-After` header: seconds, or a date (RFC 9110, 10.2.3). A date that has passed means now.
pub(crate) fn retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a wait for ever.
        return Some(Duration::from_secs(header.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(header).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn header_in_seconds_and_as_a_date() {
        // 1994-11-15 08:12:31 GMT, the example of RFC 9110.
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(784_887_151);
        let date = "Tue, 15 Nov 1994 08:12:31 GMT";
        assert_eq!(retry_after("120", then), Some(Duration::from_secs(120)));
        assert_eq!(retry_after(date, then - Duration::from_secs(7)), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(date, then + Duration::from_secs(7)), Some(Duration::ZERO));
        for header in ["", "soon", "-1", "1.5"] {
            assert_eq!(retry_after(header, then), None, "{header}");
        }
        assert!(retry_after("99999999999999999999999", then).unwrap() > LONGEST);
    }

    #[test]
    fn waits_double_and_end() {
        let mut patience = Patience::new();
        let waits: Vec<u64> =
            std::iter::from_fn(|| patience.next(None).ok()).map(|wait| wait.as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8]);
        assert_eq!(patience.next(None).unwrap_err(), "gave up after 5 tries");
        patience.renew();
        assert_eq!(patience.next(Some(Duration::from_secs(300))), Ok(Duration::from_secs(300)));
        let refused = patience.next(Some(Duration::from_secs(301))).unwrap_err();
        assert_eq!(refused, "it asks to wait 301 s, longer than the 300 s that are waited");
    }
}
