//! What went over a container's network interfaces, by `/proc/PID/net/dev`: proc_pid_net(5).

use insula_spec::Plan;
use insula_spec::plan::Namespace;
use serde_json::{Value, json};

/// One object an interface, under runc's names; none where the network is the host's, which the container doesn't use alone.
pub(super) fn interfaces(plan: &Plan, pid: i32) -> Vec<Value> {
    if !plan.namespaces.has(Namespace::Net) {
        return Vec::new();
    }
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    text.lines().filter_map(interface).collect()
}

fn interface(line: &str) -> Option<Value> {
    let (name, counters) = line.split_once(':')?;
    let counters: Vec<u64> = counters.split_whitespace().map_while(|word| word.parse().ok()).collect();
    // Received: bytes, packets, errors, dropped, fifo, frame, compressed, multicast; then the same of what was sent.
    let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_dropped, ..] = counters[..]
    else {
        return None;
    };
    Some(json!({
        "Name": name.trim(),
        "RxBytes": rx_bytes, "RxPackets": rx_packets, "RxErrors": rx_errors, "RxDropped": rx_dropped,
        "TxBytes": tx_bytes, "TxPackets": tx_packets, "TxErrors": tx_errors, "TxDropped": tx_dropped
    }))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_line_is_an_interface() {
        let line = "    lo:     168       2    0    0    0     0          0         0      170       3    1    0    0     0       0          0";
        let lo = super::interface(line).unwrap();
        assert_eq!(
            (&lo["Name"], &lo["RxBytes"], &lo["TxPackets"], &lo["TxErrors"]),
            (&"lo".into(), &168.into(), &3.into(), &1.into())
        );
        assert!(super::interface("Inter-|   Receive                                                |  Transmit").is_none());
        assert!(super::interface(" eth0: 1 2 3").is_none());
    }
}
