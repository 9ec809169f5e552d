//! `api-version`: a date that a client puts on every request.
//!
//! The shapes of the session operations have not changed since they appeared, so any date between the first and the
//! newest known version is good. What is read of subscriptions, groups and machines is the same in every version, and
//! clients ask for it with newer ones each month, so any date from the oldest on is good there. Source: the specification folders of `Microsoft.Network` and the versions that
//! azure-mgmt-network, @azure/arm-network and azure-cli send.

use jiff::civil::Date;

/// Whose versions are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `Microsoft.Network/bastionHosts`.
    Network,
    /// `Microsoft.Compute/virtualMachines`.
    Compute,
    /// Subscriptions, resource groups and the cloud's metadata.
    Resources,
}

impl Family {
    /// The versions to name to somebody who came with another one.
    #[must_use]
    pub fn versions(self) -> &'static [&'static str] {
        match self {
            Family::Network => &NETWORK_VERSIONS,
            Family::Compute | Family::Resources => &RESOURCES_VERSIONS,
        }
    }
}

/// The published versions that have `bastionHosts`, oldest first.
pub const NETWORK_VERSIONS: [&str; 41] = [
    "2019-04-01",
    "2019-06-01",
    "2019-07-01",
    "2019-08-01",
    "2019-09-01",
    "2019-11-01",
    "2019-12-01",
    "2020-03-01",
    "2020-04-01",
    "2020-05-01",
    "2020-06-01",
    "2020-07-01",
    "2020-08-01",
    "2020-11-01",
    "2021-02-01",
    "2021-03-01",
    "2021-05-01",
    "2021-08-01",
    "2022-01-01",
    "2022-05-01",
    "2022-07-01",
    "2022-09-01",
    "2022-11-01",
    "2023-02-01",
    "2023-04-01",
    "2023-05-01",
    "2023-06-01",
    "2023-09-01",
    "2023-11-01",
    "2024-01-01",
    "2024-03-01",
    "2024-05-01",
    "2024-07-01",
    "2024-10-01",
    "2025-01-01",
    "2025-03-01",
    "2025-05-01",
    "2025-07-01",
    "2025-09-01",
    "2026-01-01",
    "2026-03-01",
];

/// Versions of everything else, oldest first: any day is good there, and these are asked for.
pub const RESOURCES_VERSIONS: [&str; 7] =
    ["2016-06-01", "2019-11-01", "2021-04-01", "2022-12-01", "2023-03-01", "2024-07-01", "2026-04-01"];

/// The oldest version of subscriptions and resource groups that any client in use sends.
pub const RESOURCES_OLDEST: &str = "2014-04-01";

/// Why a version is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionFault {
    /// There is none.
    Missing,
    /// It is not a date.
    Malformed,
    /// It is a date before the known ones, or after them where there is a newest.
    Unknown,
}

/// Checks a version.
///
/// # Errors
/// [`VersionFault`]. `-preview` after the date is not good for [`Family::Network`]: the network provider never had one.
pub fn accept(family: Family, text: Option<&str>) -> Result<Date, VersionFault> {
    let text = text.ok_or(VersionFault::Missing)?;
    let (date, preview) = match text.strip_suffix("-preview") {
        Some(date) => (date, true),
        None => (text, false),
    };
    let date = parse_date(date).ok_or(VersionFault::Malformed)?;
    let (oldest, newest) = match family {
        Family::Network if preview => return Err(VersionFault::Unknown),
        Family::Network => (NETWORK_VERSIONS[0], Some(NETWORK_VERSIONS[NETWORK_VERSIONS.len() - 1])),
        Family::Compute | Family::Resources => (RESOURCES_OLDEST, None),
    };
    let is_new_enough = parse_date(oldest) <= Some(date);
    let is_old_enough = newest.is_none_or(|newest| Some(date) <= parse_date(newest));
    if is_new_enough && is_old_enough { Ok(date) } else { Err(VersionFault::Unknown) }
}

/// Exactly `YYYY-MM-DD`, and a day that exists.
fn parse_date(text: &str) -> Option<Date> {
    let bytes = text.as_bytes();
    let shaped = bytes.len() == 10
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    if !shaped {
        return None;
    }
    Date::new(text[..4].parse().ok()?, text[5..7].parse().ok()?, text[8..].parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_published_version_is_good_and_its_neighbours_beyond_are_not() {
        for version in NETWORK_VERSIONS {
            assert!(accept(Family::Network, Some(version)).is_ok(), "{version}");
        }
        assert!(accept(Family::Network, Some("2024-02-29")).is_ok(), "any day between the first and the newest");
        assert_eq!(accept(Family::Network, None), Err(VersionFault::Missing));
        for unknown in ["2019-03-31", "2026-03-02", "2018-11-01", "2024-05-01-preview"] {
            assert_eq!(accept(Family::Network, Some(unknown)), Err(VersionFault::Unknown), "{unknown}");
        }
        for malformed in
            ["latest", "2024-5-1", "2024-02-30", "20240501", "2024-05-01x", "２０２４-05-01", " 2024-05-01"]
        {
            assert_eq!(accept(Family::Network, Some(malformed)), Err(VersionFault::Malformed), "{malformed}");
        }
        assert!(accept(Family::Resources, Some("2016-06-01")).is_ok());
        assert!(accept(Family::Compute, Some("2026-04-01")).is_ok(), "azure-cli 2.91");
        assert_eq!(accept(Family::Compute, Some("2014-03-31")), Err(VersionFault::Unknown));
        assert!(accept(Family::Resources, Some("2022-12-01")).is_ok());
        assert!(accept(Family::Resources, Some("2021-03-01-preview")).is_ok());
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,20}") {
            let _date = accept(Family::Network, Some(&text));
        }
    }
}
