//! Machines that cannot reach each other: namespaces of the kernel's network, where the machine allows them.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::fill;
use super::machines::{Machines, Place};
use crate::harness::Home;

/// Three hosts and a bridge to this one, gone at the end of the test.
struct Network {
    id: u32,
}

const HOSTS: [u8; 3] = [11, 12, 13];

impl Network {
    /// `None` where the machine does not allow it.
    fn new() -> Option<Self> {
        let network = Network { id: std::process::id() % 10_000 };
        let bridge = network.bridge();
        if !ip(&["link", "add", &bridge, "type", "bridge"]) {
            return None;
        }
        let made = ip(&["addr", "add", &format!("{}/24", network.address(1)), "dev", &bridge])
            && ip(&["link", "set", &bridge, "up"])
            && HOSTS.iter().all(|host| network.host(*host));
        made.then_some(network)
    }

    fn host(&self, host: u8) -> bool {
        let (name, outer) = (self.name(host), format!("tv{}-{host}", self.id));
        let address = format!("{}/24", self.address(host));
        ip(&["netns", "add", &name])
            && ip(&["link", "add", &outer, "type", "veth", "peer", "name", "eth0", "netns", &name])
            && ip(&["link", "set", &outer, "master", &self.bridge(), "up"])
            && ip(&["-n", &name, "addr", "add", &address, "dev", "eth0"])
            && ip(&["-n", &name, "link", "set", "lo", "up"])
            && ip(&["-n", &name, "link", "set", "eth0", "up"])
    }

    fn bridge(&self) -> String {
        format!("tb{}", self.id)
    }

    fn name(&self, host: u8) -> String {
        format!("toplake-{}-{host}", self.id)
    }

    fn address(&self, host: u8) -> String {
        format!("10.213.{}.{host}", self.id % 250)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in HOSTS {
            ip(&["netns", "del", &self.name(host)]);
        }
        ip(&["link", "del", &self.bridge()]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    let quiet = Command::new("ip").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

const QUERY: &str =
    "SELECT sum(n * q) FROM (SELECT product_id, count(*) AS n, sum(quantity) AS q FROM sales GROUP BY 1)";

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_between_machines_is_the_exact_answer_or_an_error() {
    let Some(network) = Network::new() else {
        eprintln!("this machine allows no network namespaces (or has no `ip`): not tested");
        return;
    };
    let home = Home::new();
    let alone = home.desk().await;
    fill(&alone, 4).await;
    let right = alone.value(QUERY).await;
    let secrets = tempfile::tempdir().unwrap();
    let token = secrets.path().join("token");
    std::fs::write(&token, "0123456789abcdef").unwrap();
    let trust = ["--cluster-token", token.to_str().unwrap()];
    let places = HOSTS.map(|host| Place {
        within: ["ip", "netns", "exec", &network.name(host)].map(str::to_owned).to_vec(),
        address: Some(format!("{}:7433", network.address(host))),
        arguments: trust.map(str::to_owned).to_vec(),
        variables: vec![],
    });
    let machines = Machines::at(&home.location(), places.to_vec(), &trust, &[]).await;
    assert_eq!(machines.value(QUERY).await, Ok(right.clone()));

    // Two workers do not reach each other, and the server reaches both.
    let (first, second) = (network.name(HOSTS[0]), format!("{}/32", network.address(HOSTS[1])));
    assert!(ip(&["-n", &first, "route", "add", "blackhole", &second]));
    let begun = Instant::now();
    match machines.value(QUERY).await {
        Ok(answer) => assert_eq!(answer, right),
        Err(e) => assert!(e.starts_with("08006: "), "{e}"),
    }
    assert!(begun.elapsed() < Duration::from_secs(60), "it hung for {:?}", begun.elapsed());
    assert!(ip(&["-n", &first, "route", "del", "blackhole", &second]));
    machines.all_live().await;

    // The server does not reach one.
    assert!(ip(&["-n", &first, "link", "set", "eth0", "down"]));
    let begun = Instant::now();
    assert_eq!(machines.value(QUERY).await, Ok(right.clone()));
    assert!(begun.elapsed() < Duration::from_secs(60), "it hung for {:?}", begun.elapsed());
    assert_eq!(
        machines.value("SELECT count(*) FROM toplake.workers WHERE state = 'away'").await,
        Ok("1".into())
    );
    assert!(ip(&["-n", &first, "link", "set", "eth0", "up"]));
    machines.all_live().await;
    assert_eq!(machines.value(QUERY).await, Ok(right));
}
