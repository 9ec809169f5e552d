//! What proves who sends a request: HMAC in the three forms that are asked for.

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub(crate) fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A request to be signed with AWS's Signature Version 4. Its query is empty, as in all that we send.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.
pub(crate) struct SigV4<'a> {
    pub(crate) method: &'a str,
    pub(crate) host: &'a str,
    /// Encoded as it is sent.
    pub(crate) path: &'a str,
    pub(crate) region: &'a str,
    pub(crate) service: &'a str,
    /// `20261121T222854Z`.
    pub(crate) at: &'a str,
    pub(crate) payload_sha256: &'a str,
    /// The header `x-amz-target`, where there is one.
    pub(crate) target: Option<&'a str>,
}

impl SigV4<'_> {
    /// The value of the header `authorization`, over the headers host, x-amz-content-sha256, x-amz-date and, where there
    /// is one, x-amz-target.
    pub(crate) fn authorization(&self, access_key_id: &str, secret: &str) -> String {
        let Self { method, host, path, region, service, at, payload_sha256, target } = self;
        let (names, target) = match target {
            None => ("host;x-amz-content-sha256;x-amz-date", String::new()),
            Some(target) => ("host;x-amz-content-sha256;x-amz-date;x-amz-target", format!("x-amz-target:{target}\n")),
        };
        let canonical = format!(
            "{method}\n{path}\n\nhost:{host}\nx-amz-content-sha256:{payload_sha256}\nx-amz-date:{at}\n{target}\n{names}\n\
             {payload_sha256}"
        );
        let day = at.get(..8).unwrap_or_default();
        let scope = format!("{day}/{region}/{service}/aws4_request");
        let to_sign = format!("AWS4-HMAC-SHA256\n{at}\n{scope}\n{}", sha256_hex(canonical.as_bytes()));
        let parts = [*region, *service, "aws4_request"];
        let first = hmac_sha256(format!("AWS4{secret}").as_bytes(), day.as_bytes());
        let key = parts.iter().fold(first, |key, part| hmac_sha256(&key, part.as_bytes()));
        let signature = hex(&hmac_sha256(&key, to_sign.as_bytes()));
        format!("AWS4-HMAC-SHA256 Credential={access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}")
    }
}

/// A request to be signed with a storage account's key.
///
/// Source: <https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key>.
pub(crate) struct SharedKey<'a> {
    pub(crate) method: &'a str,
    pub(crate) account: &'a str,
    /// Encoded as it is sent.
    pub(crate) path: &'a str,
    /// Parameters in ascending order.
    pub(crate) query: &'a [(&'a str, &'a str)],
    /// The `x-ms-` headers in ascending order.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) content_length: usize,
    pub(crate) content_type: &'a str,
    pub(crate) if_none_match: &'a str,
}

impl SharedKey<'_> {
    /// The value of the header `authorization`; `None` when the key is no base64.
    pub(crate) fn authorization(&self, key: &str) -> Option<String> {
        let Self { method, account, path, query, headers, content_length, content_type, if_none_match } = self;
        let length = if *content_length == 0 { String::new() } else { content_length.to_string() };
        let headers: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let query: String = query.iter().map(|(name, value)| format!("\n{name}:{value}")).collect();
        let to_sign = format!(
            "{method}\n\n\n{length}\n\n{content_type}\n\n\n\n{if_none_match}\n\n\n{headers}/{account}{path}{query}"
        );
        let key = STANDARD.decode(key).ok()?;
        let signature = STANDARD.encode(hmac_sha256(&key, to_sign.as_bytes()));
        Some(format!("SharedKey {account}:{signature}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_is_hmac() {
        // RFC 4231, test case 2.
        assert_eq!(
            hex(&hmac_sha256(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
