//! Where a document's wish to have the output of sessions somewhere leads: only to what the operator has configured.
//!
//! A document names a bucket or a log group; it brings no right to use it. What is not configured is refused by name, when
//! the document is written and again when a session is started with it.

use crate::proto::session_document::{LogWish, LogWishes};
use crate::{Config, LogHolder};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ravelin_model::recording::{LogKind, LogPlace};

/// The places that a document's wishes lead to.
///
/// # Errors
/// The member that cannot be kept, and why.
pub(crate) fn places(wishes: &LogWishes, config: &Config) -> Result<Vec<LogPlace>, String> {
    let mut places = Vec::new();
    if let Some(wish) = &wishes.bucket {
        let holder = config.log_buckets.get(&wish.name).ok_or_else(|| {
            format!(
                "inputs.s3BucketName names {}, which is no bucket of [[aws.log_buckets]] in the configuration",
                wish.name
            )
        })?;
        encryption(wish, holder, "inputs.s3EncryptionEnabled", "[[aws.log_buckets]]")?;
        let endpoint = holder.endpoint.clone().unwrap_or_else(|| format!("https://s3.{}.amazonaws.com", holder.region));
        places.push(place(LogKind::Object, wish, format!("{endpoint}/{}/", wish.name)));
    }
    if let Some(wish) = &wishes.group {
        let holder = config.log_groups.get(&wish.name).ok_or_else(|| {
            format!(
                "inputs.cloudWatchLogGroupName names {}, which is no log group of [[aws.log_groups]] in the configuration",
                wish.name
            )
        })?;
        encryption(wish, holder, "inputs.cloudWatchEncryptionEnabled", "[[aws.log_groups]]")?;
        let region = &holder.region;
        let console = holder
            .endpoint
            .clone()
            .unwrap_or_else(|| format!("https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}"));
        let group = utf8_percent_encode(&wish.name, NON_ALPHANUMERIC);
        places.push(place(LogKind::Stream, wish, format!("{console}#logEventViewer:group={group};stream=")));
    }
    Ok(places)
}

fn place(kind: LogKind, wish: &LogWish, url: String) -> LogPlace {
    LogPlace { kind, holder: wish.name.clone(), prefix: wish.prefix.clone(), url, streams: wish.streams }
}

fn encryption(wish: &LogWish, holder: &LogHolder, member: &str, table: &str) -> Result<(), String> {
    if wish.encrypted && !holder.encrypted {
        return Err(format!(
            "{member} is true, and the configuration does not say that {} is encrypted: set encrypted = true in its \
             {table}, or the member to false",
            wish.name
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravelin_model::{PrincipalName, SessionId};

    fn wish(name: &str, prefix: &str, encrypted: bool) -> Option<LogWish> {
        Some(LogWish { name: name.to_owned(), prefix: prefix.to_owned(), encrypted, streams: false })
    }

    fn config(encrypted: bool, endpoint: Option<&str>) -> Config {
        let holder = LogHolder { region: "eu-central-1".to_owned(), endpoint: endpoint.map(str::to_owned), encrypted };
        let mut config = Config::new("111122223333");
        config.log_buckets.insert("logs".to_owned(), holder.clone());
        config.log_groups.insert("/ssm/logs".to_owned(), holder);
        config
    }

    #[test]
    fn only_what_is_configured_is_a_place_and_what_is_not_is_named() {
        assert_eq!(places(&LogWishes::default(), &Config::new("1")), Ok(Vec::new()));
        let (bucket, group) = (wish("logs", "", false), wish("/ssm/logs", "", false));
        let said = places(&LogWishes { bucket: bucket.clone(), group: None }, &Config::new("1")).expect_err("refused");
        assert!(said.contains("inputs.s3BucketName names logs"), "{said}");
        let said = places(&LogWishes { bucket: None, group: group.clone() }, &Config::new("1")).expect_err("refused");
        assert!(said.contains("inputs.cloudWatchLogGroupName names /ssm/logs"), "{said}");
        // A bucket's name is none of a log group.
        let crossed = LogWishes { bucket: None, group: bucket };
        assert!(places(&crossed, &config(true, None)).is_err());
    }

    #[test]
    fn encryption_is_believed_only_where_the_operator_says_so() {
        let wishes = LogWishes { bucket: wish("logs", "", true), group: wish("/ssm/logs", "", true) };
        let said = places(&wishes, &config(false, None)).expect_err("refused");
        assert!(said.contains("inputs.s3EncryptionEnabled") && said.contains("encrypted = true"), "{said}");
        let said = places(&LogWishes { bucket: None, ..wishes.clone() }, &config(false, None)).expect_err("refused");
        assert!(said.contains("inputs.cloudWatchEncryptionEnabled"), "{said}");
        assert_eq!(places(&wishes, &config(true, None)).map(|places| places.len()), Ok(2));
    }

    #[test]
    fn a_place_says_by_what_name_and_url_a_session_is_found() {
        let session = SessionId::new(&PrincipalName::parse("alice").expect("a name"), 7);
        let wishes = LogWishes { bucket: wish("logs", "a/b", false), group: wish("/ssm/logs", "", false) };
        let shown = |config: &Config| -> Vec<String> {
            let places = places(&wishes, config).expect("places");
            places.iter().map(|place| format!("{}{}", place.url, place.name(&session))).collect()
        };
        assert_eq!(
            shown(&config(false, None)),
            [
                format!("https://s3.eu-central-1.amazonaws.com/logs/a/b/{session}.log"),
                format!(
                    "https://eu-central-1.console.aws.amazon.com/cloudwatch/home?region=eu-central-1\
                     #logEventViewer:group=%2Fssm%2Flogs;stream={session}"
                ),
            ]
        );
        assert_eq!(
            shown(&config(false, Some("http://minio:9000")))[0],
            format!("http://minio:9000/logs/a/b/{session}.log")
        );
    }
}
