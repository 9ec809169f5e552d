//! AWS's own signing test suite, which the package `aws-sigv4` carries. It is read where cargo keeps that package.

use ravelin_aws::proto::sigv4::{self, Claim, Fault, Terms};
use ravelin_model::Time;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Written for single encoding of the path or for a path that is not normalised; services like this one do both
/// otherwise.
const OTHER_RULES: &[&str] = &["get-space-normalized", "get-space-unnormalized"];
/// Holds a session token that the signature does not cover; here everything of AWS's own must be covered.
const UNSIGNED_TOKEN: &str = "post-sts-header-after";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn suite() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo can be run");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints its metadata");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let package = packages.iter().find(|package| package["name"] == "aws-sigv4").expect("a dev-dependency");
    let manifest = Path::new(package["manifest_path"].as_str().expect("a path"));
    manifest.with_file_name("aws-signing-test-suite").join("v4")
}

#[derive(Debug)]
struct Parsed {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, Vec<u8>)>,
    body: String,
}

fn parse(text: &str) -> Parsed {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let first = lines.next().expect("a request line");
    let (method, rest) = first.split_once(' ').expect("a method");
    let (target, _version) = rest.rsplit_once(' ').expect("a version");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers: Vec<(String, Vec<u8>)> = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        match line.split_once(':').filter(|_| !line.starts_with(' ')) {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.as_bytes().to_vec())),
            None => headers.last_mut().expect("a folded line follows another").1.extend_from_slice(line.as_bytes()),
        }
    }
    let (method, path, query) = (method.to_owned(), path.to_owned(), query.to_owned());
    Parsed { method, path, query, headers, body: body.to_owned() }
}

fn verify(request: &Parsed) -> Result<bool, Fault> {
    let headers: Vec<_> = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    let Parsed { method, path, query, body, .. } = request;
    let claim = Claim::read(&sigv4::Request { method, path, query, headers: &headers })?;
    // 2015-08-30T12:36:00Z, the suite's own time.
    let now = Time::from_micros(1_440_938_160_000_000);
    claim.check(now, &Terms { service: "service", regions: None, skew_max: Duration::from_secs(300) })?;
    let digest = sigv4::body_sha256(body.as_bytes());
    claim.check_body(&digest)?;
    Ok(claim.signature(SECRET, &digest) == claim.presented())
}

#[test]
fn the_suite_of_aws_verifies_in_both_forms() {
    let mut verified = 0;
    for folder in std::fs::read_dir(suite()).expect("the package carries the suite") {
        let folder = folder.expect("a folder").path();
        let name = folder.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let Ok(context) = std::fs::read_to_string(folder.join("context.json")) else { continue };
        let context: Value = serde_json::from_str(&context).expect("a context");
        if context["normalize"] == false || OTHER_RULES.contains(&name.as_str()) {
            continue;
        }
        for form in ["header", "query"] {
            let text = std::fs::read_to_string(folder.join(format!("{form}-signed-request.txt"))).expect("a request");
            let outcome = verify(&parse(&text));
            if name == UNSIGNED_TOKEN {
                assert!(matches!(outcome, Err(Fault::Refused(_)) | Ok(false)), "{name}: {outcome:?}");
            } else {
                assert_eq!(outcome, Ok(true), "{name}, {form}: {text}");
                verified += 1;
            }
        }
    }
    assert!(verified >= 50, "only {verified} of the suite's requests were found");
}
