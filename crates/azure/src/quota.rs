//! How many requests a client may make: a bucket for reads and one for writes, each refilled steadily. The numbers that
//! clients see in `x-ms-ratelimit-remaining-subscription-*` are these buckets'.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a request counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Draw {
    /// `GET` and `HEAD`.
    Read,
    /// Everything else, as in the service.
    Write,
}

/// The buckets of all clients.
pub(crate) struct Quota {
    burst: f64,
    per_second: f64,
    buckets: Mutex<HashMap<(String, Draw), Bucket>>,
}

struct Bucket {
    left: f64,
    at: Instant,
}

impl Quota {
    /// Buckets kept at once. A client is a good credential, so strangers cannot fill this.
    const BUCKETS_MAX: usize = 20_000;

    pub(crate) fn new(burst_max: u32, per_second: u32) -> Self {
        Self { burst: f64::from(burst_max), per_second: f64::from(per_second), buckets: Mutex::default() }
    }

    /// Takes one request out of the client's bucket; says how many are left.
    ///
    /// # Errors
    /// How long until there is one again.
    pub(crate) fn take(&self, client: &str, draw: Draw, now: Instant) -> Result<u32, Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= Self::BUCKETS_MAX {
            // A full bucket is the same as none.
            let idle = Duration::from_secs_f64(self.burst / self.per_second);
            buckets.retain(|_, bucket| now.duration_since(bucket.at) < idle);
        }
        let bucket = buckets.entry((client.to_owned(), draw)).or_insert(Bucket { left: self.burst, at: now });
        bucket.left = (bucket.left + now.duration_since(bucket.at).as_secs_f64() * self.per_second).min(self.burst);
        bucket.at = now;
        if bucket.left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.left) / self.per_second));
        }
        bucket.left -= 1.0;
        // Between 0 and a u32: exact enough for a header, and cannot overflow.
        Ok(bucket.left.floor() as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_refills() {
        let quota = Quota::new(3, 2);
        let start = Instant::now();
        assert_eq!([0; 3].map(|_| quota.take("c1", Draw::Write, start)), [Ok(2), Ok(1), Ok(0)]);
        assert_eq!(quota.take("c1", Draw::Write, start), Err(Duration::from_millis(500)));
        assert_eq!(quota.take("c1", Draw::Read, start), Ok(2), "reads have their own");
        assert_eq!(quota.take("c2", Draw::Write, start), Ok(2), "so have others");
        assert_eq!(quota.take("c1", Draw::Write, start + Duration::from_millis(500)), Ok(0));
        assert_eq!(quota.take("c1", Draw::Write, start + Duration::from_secs(3600)), Ok(2));
    }
}
