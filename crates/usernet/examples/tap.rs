//! A network for whoever is behind a tap, until standard input ends:
//! `tap NAME [host-loopback] [mtu=N] [publish=[HOSTADDR:]HOSTPORT:GUESTPORT[/tcp|/udp]]…`

use insula_sys::error::describe;
use insula_usernet::{Config, Network};

fn main() {
    if let Err(problem) = run() {
        eprintln!("tap: {problem}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), String> {
    let mut words = std::env::args().skip(1);
    let name = words.next().ok_or("which tap?")?;
    let mut config = Config::default();
    for word in words {
        match word.split_once('=') {
            None if word == "host-loopback" => config.host_loopback = true,
            Some(("mtu", mtu)) => config.mtu = mtu.parse().map_err(|_| format!("{mtu:?} is no MTU"))?,
            Some(("publish", port)) => config.publish.push(port.parse().map_err(|error| format!("{error}"))?),
            _ => return Err(format!("{word:?} is no option")),
        }
    }
    let tap = insula_sys::tap::open(&name, false).map_err(|error| describe(error.errno))?;
    let mut network = Network::new(&config).map_err(|error| error.to_string())?;
    println!("ready");
    insula_usernet::tap::carry(&mut network, tap, rustix::stdio::stdin()).map_err(|error| error.to_string())
}
