//! The same policies in the shapes that others load. Our own code, after the public descriptions of these shapes.

use core::fmt::Write as _;
use core::net::Ipv4Addr;

use super::Failure;
use super::world::{INTERFACE, POD, PORT, feed};

/// A policy on the pod: the addresses of its peers.
pub(super) type Peers = Vec<Ipv4Addr>;

/// A table that lets everything pass, with nothing in it or with connection tracking as ours has it.
pub(super) fn accept_all(tracking: bool) -> Result<(), Failure> {
    let rule = if tracking {
        "add rule inet open c ct state vmap { established : accept, related : accept, invalid : drop }"
    } else {
        ""
    };
    let table = format!(
        "add table inet open\nadd chain inet open c {{ type filter hook forward priority 0; policy accept; }}\n{rule}\n"
    );
    feed("nft", &["-f", "-"], &table)
}

/// A chain for each policy, with a set for its selector, one after the other in the pod's chain.
pub(super) fn linear(policies: &[Peers]) -> Result<(), Failure> {
    let mut text = String::from("add table inet linear\nadd chain inet linear pod\n");
    for (number, peers) in policies.iter().enumerate() {
        let elements: Vec<String> = peers.iter().map(ToString::to_string).collect();
        writeln!(
            text,
            "add set inet linear s{number} {{ type ipv4_addr; elements = {{ {} }}; }}",
            elements.join(", ")
        )?;
        writeln!(text, "add chain inet linear p{number}")?;
        writeln!(text, "add rule inet linear p{number} ip saddr @s{number} udp dport {PORT} accept")?;
        writeln!(text, "add rule inet linear pod jump p{number}")?;
    }
    writeln!(text, "add rule inet linear pod drop")?;
    writeln!(text, "add map inet linear to {{ typeof oifname . ip daddr : verdict; }}")?;
    writeln!(text, "add element inet linear to {{ {INTERFACE} . {POD} : jump pod }}")?;
    writeln!(
        text,
        "add chain inet linear forward {{ type filter hook forward priority 0; policy accept; }}"
    )?;
    let tracked = "ct state vmap { established : accept, related : accept, invalid : drop }";
    writeln!(text, "add rule inet linear forward {tracked}")?;
    writeln!(text, "add rule inet linear forward oifname . ip daddr vmap @to")?;
    feed("nft", &["-f", "-"], &text)
}

/// The same with iptables (the legacy kernel interface) and ipset.
pub(super) fn ipset(policies: &[Peers]) -> Result<(), Failure> {
    let mut sets = String::new();
    let mut rules = String::from("*filter\n:pod - [0:0]\n");
    for number in 0..policies.len() {
        writeln!(rules, ":p{number} - [0:0]")?;
    }
    rules.push_str("-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n");
    rules.push_str("-A FORWARD -m conntrack --ctstate INVALID -j DROP\n");
    writeln!(rules, "-A FORWARD -o {INTERFACE} -d {POD} -j pod")?;
    for (number, peers) in policies.iter().enumerate() {
        writeln!(sets, "create s{number} hash:ip hashsize 64")?;
        for peer in peers {
            writeln!(sets, "add s{number} {peer}")?;
        }
        writeln!(rules, "-A p{number} -p udp --dport {PORT} -m set --match-set s{number} src -j ACCEPT")?;
        writeln!(rules, "-A pod -j p{number}")?;
    }
    rules.push_str("-A pod -j DROP\nCOMMIT\n");
    feed("ipset", &["restore"], &sets)?;
    feed("iptables-legacy-restore", &[], &rules)
}
