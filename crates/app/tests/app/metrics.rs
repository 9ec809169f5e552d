//! The metrics listener of a real bastion, and that dashboard and alert rules name nothing that it does not show.

use crate::dev::Dev;
use ravelin_model::session::EndReason;
use std::collections::BTreeSet;
use std::path::Path;

async fn figures(url: &str) -> String {
    let answer = reqwest::get(url).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let kind = answer.headers()["content-type"].to_str().expect("text").to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    answer.text().await.expect("a text")
}

/// The name of a family in the form in which queries use it, without the endings of its samples.
fn base(name: &str) -> &str {
    ["_total", "_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

fn names_in(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_part(c)).filter(|word| word.starts_with("ravelin_")).map(|word| base(word).to_owned()).collect()
}

#[tokio::test]
async fn what_dashboard_alerts_and_documents_name_is_shown_by_a_real_bastion() {
    let dev = Dev::start().await;
    let url = dev.var("RAVELIN_METRICS_URL");
    // A login that is refused is counted.
    let refused = reqwest::Client::new()
        .get(format!("{}/api/v1/sessions", dev.var("RAVELIN_HTTP_URL")))
        .bearer_auth("rvl_wrong_token")
        .send()
        .await
        .expect("an answer");
    assert_eq!(refused.status(), 401);
    let text = figures(url).await;
    let shown: BTreeSet<String> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).map(str::to_owned).collect();
    assert!(text.ends_with("# EOF\n"), "{text}");
    for line in ["ravelin_ghosts 0.0", "ravelin_ready 1.0", "ravelin_logins_refused_total{method=\"token\"} 1"] {
        assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
    }
    for reason in EndReason::ALL {
        assert!(text.contains(&format!("ravelin_sessions_ended_total{{reason=\"{reason}\"}} 0")), "{reason}");
    }
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations");
    for file in ["grafana-dashboard.json", "alerts.yml", "metrics.md"] {
        let named = names_in(&std::fs::read_to_string(docs.join(file)).expect("readable"));
        assert!(!named.is_empty(), "{file} names nothing");
        let unknown: Vec<&String> = named.difference(&shown).collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}, which is not shown");
    }
    let documented = names_in(&std::fs::read_to_string(docs.join("metrics.md")).expect("readable"));
    assert_eq!(documented, shown, "metrics.md is the list of all");
    let dashboard = std::fs::read_to_string(docs.join("grafana-dashboard.json")).expect("readable");
    serde_json::from_str::<serde_json::Value>(&dashboard).expect("a dashboard is JSON");

    let other = reqwest::get(url.replace("/metrics", "/")).await.expect("an answer");
    assert_eq!(other.status(), 404);
    let written = reqwest::Client::new().post(url).send().await.expect("an answer");
    assert_eq!(written.status(), 405);
}
