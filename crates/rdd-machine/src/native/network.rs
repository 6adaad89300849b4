//! A bridge, an address range and a firewall chain of our own.
//!
//! Two dockerds that both manage the firewall flush each other's chains. Ours is
//! told to leave it alone; published ports go through its proxy, and what containers
//! need to reach the world (masquerading and forwarding for one range) stands in a
//! chain that only rdd touches. What is given up: the source address of connections
//! to published ports, and isolation between networks of one instance.

use std::net::Ipv4Addr;
use std::process::Stdio;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::process::Command;
use tokio::sync::RwLock;

use crate::error::{Error, Result};

/// What one engine's containers are connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Network {
    /// The bridge; at most 15 letters, as the kernel wants.
    pub(super) bridge: String,
    /// The chain, in the filter and in the nat table.
    chain: String,
    /// The range is `10.<block>.0.0/16`.
    block: u8,
}

impl Network {
    /// A range that nothing on this machine uses, beginning with the instance's own.
    pub(super) async fn choose(suffix: &str, index: u16) -> Result<Self> {
        let routes = run("ip", &["-json", "-4", "route", "show", "table", "all"]).await?;
        let routes: Value = serde_json::from_str(&routes).unwrap_or_default();
        let used: Vec<(u32, u32)> = routes
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|route| prefix(route["dst"].as_str()?))
            .collect();
        let block = free_block(index, &used).ok_or_else(|| Error::Command {
            command: "ip route".to_owned(),
            output: "every range from 10.64.0.0 to 10.253.0.0 is in use".to_owned(),
        })?;
        let short: String = suffix
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(5)
            .collect();
        let short = if short.is_empty() {
            short
        } else {
            format!("-{short}")
        };
        // An instance of the same name in another home directory has its own.
        for copy in 0..100 {
            let copy = if copy == 0 {
                String::new()
            } else {
                format!("-{copy}")
            };
            let bridge = format!("rdd{index}{short}{copy}");
            if run("ip", &["link", "show", "dev", &bridge]).await.is_err() {
                let chain = format!("RDD-{index}{short}{copy}");
                return Ok(Self {
                    bridge,
                    chain,
                    block,
                });
            }
        }
        Err(Error::Command {
            command: "ip link".to_owned(),
            output: format!("a hundred bridges rdd{index}{short} exist"),
        })
    }

    /// The whole range.
    pub(super) fn range(&self) -> String {
        format!("10.{}.0.0/16", self.block)
    }

    /// Makes what is missing; repeating it changes nothing.
    pub(super) async fn up(&self) -> Result<()> {
        if run("ip", &["link", "show", "dev", &self.bridge])
            .await
            .is_err()
        {
            run(
                "ip",
                &["link", "add", "name", &self.bridge, "type", "bridge"],
            )
            .await?;
        }
        run(
            "ip",
            &[
                "address",
                "replace",
                &format!("10.{}.0.1/24", self.block),
                "dev",
                &self.bridge,
            ],
        )
        .await?;
        run("ip", &["link", "set", "dev", &self.bridge, "up"]).await?;
        let (range, chain) = (self.range(), self.chain.as_str());
        for (table, parent, rules) in [
            (
                "filter",
                "FORWARD",
                vec![
                    vec!["-s", &range, "-j", "ACCEPT"],
                    vec![
                        "-d",
                        &range,
                        "-m",
                        "conntrack",
                        "--ctstate",
                        "RELATED,ESTABLISHED",
                        "-j",
                        "ACCEPT",
                    ],
                ],
            ),
            (
                "nat",
                "POSTROUTING",
                vec![vec!["-s", &range, "!", "-d", &range, "-j", "MASQUERADE"]],
            ),
        ] {
            if firewall(table, &["-N", chain]).await.is_err() {
                firewall(table, &["-F", chain]).await?;
            }
            for rule in rules {
                firewall(table, &[&["-A", chain], rule.as_slice()].concat()).await?;
            }
            if firewall(table, &["-C", parent, "-j", chain]).await.is_err() {
                firewall(table, &["-I", parent, "1", "-j", chain]).await?;
            }
        }
        Ok(())
    }

    /// Removes all of it, and the bridges of networks that users made in the engine.
    pub(super) async fn down(&self) -> Result<()> {
        for (table, parent) in [("filter", "FORWARD"), ("nat", "POSTROUTING")] {
            while firewall(table, &["-C", parent, "-j", &self.chain])
                .await
                .is_ok()
            {
                firewall(table, &["-D", parent, "-j", &self.chain]).await?;
            }
            if firewall(table, &["-F", &self.chain]).await.is_ok() {
                firewall(table, &["-X", &self.chain]).await?;
            }
        }
        // Every link, also one that has no address yet.
        let addresses = run("ip", &["-json", "address"]).await?;
        let addresses: Value = serde_json::from_str(&addresses).unwrap_or_default();
        let ours = format!("10.{}.", self.block);
        for link in addresses.as_array().into_iter().flatten() {
            let Some(name) = link["ifname"].as_str() else {
                continue;
            };
            let inside = link["addr_info"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|address| {
                    address["local"]
                        .as_str()
                        .is_some_and(|local| local.starts_with(&ours))
                });
            if name == self.bridge || (inside && name.starts_with("br-")) {
                run("ip", &["link", "delete", "dev", name]).await?;
            }
        }
        Ok(())
    }
}

/// The second byte of a range that nothing uses, beginning with the instance's own:
/// 10.64 to 10.253, away from the low blocks that networks begin with.
///
/// A route that covers all of them, such as a VPN's `10.0.0.0/8` or `0.0.0.0/1`, is
/// overlooked when nothing else is left: ours is narrower, and the kernel prefers it.
fn free_block(index: u16, used: &[(u32, u32)]) -> Option<u8> {
    const FIRST: u32 = 64;
    const COUNT: u32 = 190;
    const OURS: u32 = 0xffff_0000;
    let is_free = |block: u32, widest: u32| {
        let base = (10 << 24) | (block << 16);
        !used
            .iter()
            .filter(|(_, mask)| *mask >= widest)
            .any(|(other, mask)| base & mask & OURS == other & mask & OURS)
    };
    let blocks = || (0..COUNT).map(|step| FIRST + (u32::from(index) + step) % COUNT);
    let found = blocks()
        .find(|block| is_free(*block, 0))
        .or_else(|| blocks().find(|block| is_free(*block, OURS)));
    found.and_then(|block| u8::try_from(block).ok())
}

/// Address and mask of a destination such as `10.0.0.0/8`; hosts have none.
fn prefix(destination: &str) -> Option<(u32, u32)> {
    let (address, length) = destination.split_once('/').unwrap_or((destination, "32"));
    let address: Ipv4Addr = address.parse().ok()?;
    let length: u32 = length.parse().ok()?;
    let mask = u32::MAX.checked_shl(32 - length.min(32)).unwrap_or(0);
    Some((address.into(), mask))
}

async fn firewall(table: &str, arguments: &[&str]) -> Result<String> {
    run("iptables", &[&["-w", "5", "-t", table], arguments].concat()).await
}

/// Held for reading by every command that is under way.
static UNDER_WAY: RwLock<()> = RwLock::const_new(());

/// Waits until no command is under way. One that was begun by a start that was dropped
/// would otherwise make something behind the back of the stop that follows.
pub(super) async fn quiet() {
    drop(UNDER_WAY.write().await);
}

/// Runs a program of the system and returns what it printed.
pub(super) async fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let failed = |output: String| Error::Command {
        command: format!("{program} {}", arguments.join(" ")),
        output,
    };
    let path = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
        .map(|folder| std::path::Path::new(folder).join(program))
        .into_iter()
        .find(|path| path.exists())
        .ok_or_else(|| failed(format!("{program} is not installed")))?;
    let mut command = Command::new(path);
    command.args(arguments).stdin(Stdio::null());
    let under_way = UNDER_WAY.read().await;
    // In a task of its own: whoever waits for it may be dropped, and the command not.
    let ended = tokio::spawn(async move {
        let output = command.output().await;
        drop(under_way);
        output
    });
    let output = match ended.await {
        Ok(output) => output.map_err(|error| failed(error.to_string()))?,
        Err(error) => return Err(failed(error.to_string())),
    };
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(failed(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_range_is_found_beside_every_route() {
        let check = |index: u16, routes: &[&str], expect: Option<u8>| {
            let used: Vec<_> = routes.iter().filter_map(|route| prefix(route)).collect();
            assert_eq!(free_block(index, &used), expect, "{index} {routes:?}");
        };
        check(2, &["default", "192.0.2.0/24"], Some(66));
        check(189, &[], Some(253));
        check(190, &[], Some(64));
        check(2, &["10.66.0.0/16"], Some(67));
        check(2, &["10.66.3.0/24", "10.67.0.9"], Some(68));
        check(2, &["10.64.0.0/14"], Some(68));
        check(2, &["10.0.0.0/8"], Some(66));
        check(2, &["0.0.0.0/1", "128.0.0.0/1", "10.66.0.0/16"], Some(67));
        let all: Vec<String> = (0..=255)
            .map(|block| format!("10.{block}.0.0/24"))
            .collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        check(2, &all, None);
    }
}
