//! `examples/prometheus`: the configuration and the rules hold, by Prometheus' own checker, and name metrics that there are.

use std::process::Command;

use toplake::metrics::METRICS;

use super::need;

const HINT: &str = "install prometheus";

fn promtool(arguments: &[&str]) {
    let folder = format!("{}/examples/prometheus", env!("CARGO_MANIFEST_DIR"));
    let done = Command::new("promtool").args(arguments).current_dir(folder).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "promtool {arguments:?}: {said}");
}

#[test]
fn the_rules_fire_on_their_faults_and_only_then() {
    if !need("promtool", HINT) {
        return;
    }
    promtool(&["check", "config", "prometheus.yml"]);
    promtool(&["check", "rules", "alerts.yml"]);
    promtool(&["test", "rules", "alerts_test.yml"]);
}

#[test]
fn rules_and_dashboards_name_metrics_that_there_are() {
    let root = env!("CARGO_MANIFEST_DIR");
    for file in [
        "prometheus/alerts.yml",
        "prometheus/alerts_test.yml",
        "grafana/dashboards/pipeline.json",
        "grafana/dashboards/business.json",
    ] {
        let text = std::fs::read_to_string(format!("{root}/examples/{file}")).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| word.starts_with("toplake_") && word.len() > "toplake_".len()) {
            let base =
                ["_bucket", "_sum", "_count"].iter().find_map(|part| word.strip_suffix(part)).unwrap_or(word);
            assert!(METRICS.iter().any(|m| m.name == base || m.name == word), "{file}: {word}");
        }
    }
}
