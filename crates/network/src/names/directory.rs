//! Who has which name in a network, by the record of leases.

use super::message::{Known, Question};
use crate::addresses::Subnet;
use crate::state::State;
use std::fs::{File, Metadata};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The names of a network, as its record has them now.
#[derive(Debug)]
pub(crate) struct Directory {
    net: Subnet,
    ipv6: bool,
    /// The record.
    file: PathBuf,
    /// Which file was read last.
    read: Option<File>,
    state: State,
    /// Whose resolver this is.
    number: u16,
}

impl Directory {
    pub(crate) fn new(net: Subnet, ipv6: bool, file: PathBuf, number: u16) -> Directory {
        Directory { net, ipv6, file, read: None, state: State::default(), number }
    }

    /// What is known of what is asked; nothing, if somebody else is to be asked.
    pub(crate) fn look_up(&mut self, question: &Question) -> Option<Known> {
        if let Some(address) = question.address() {
            return self.name_of(address);
        }
        // RFC 6761 section 6.3.
        if question.name == "localhost" || question.name.ends_with(".localhost") {
            return Some(Known::Addresses(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]));
        }
        self.refresh();
        let is = |name: &str| name.eq_ignore_ascii_case(&question.name);
        // A host name is for who has it alone: two containers may have the same.
        let own = self.state.leases.iter().find(|lease| lease.number == Some(self.number));
        let own = own.filter(|lease| lease.hostname.as_deref().is_some_and(is));
        let lease = own.or_else(|| self.state.leases.iter().find(|lease| is(&lease.id)))?;
        let number = lease.number?;
        let six = self.ipv6.then(|| IpAddr::from(self.net.container6(number)));
        Some(Known::Addresses([IpAddr::from(self.net.container(number))].into_iter().chain(six).collect()))
    }

    fn name_of(&mut self, address: IpAddr) -> Option<Known> {
        let number = match address {
            IpAddr::V4(address) => self.net.number(address),
            IpAddr::V6(address) => self.net.number6(address),
        }?;
        self.refresh();
        let lease = self.state.leases.iter().find(|lease| lease.number == Some(number));
        Some(lease.map_or(Known::Nobody, |lease| Known::Name(lease.id.clone())))
    }

    /// Reads the record, if it is another than the one read last. It is replaced, never written to; and as long as the last one is open, no other
    /// has its number. (Times tell too little: several are written within a tick of the clock.) What can't be read leaves what was.
    fn refresh(&mut self) {
        let number = |stat: std::io::Result<Metadata>| stat.map(|stat| (stat.dev(), stat.ino())).ok();
        let last = self.read.as_ref().and_then(|file| number(file.metadata()));
        if last.is_some() && last == number(std::fs::metadata(&self.file)) {
            return;
        }
        let Ok(file) = File::open(&self.file) else { return };
        let mut json = Vec::new();
        if (&file).read_to_end(&mut json).is_ok()
            && let Ok(state) = serde_json::from_slice(&json)
        {
            (self.read, self.state) = (Some(file), state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::message::{question, tests::ask};
    use crate::state::{Lease, Process};

    fn lease(id: &str, hostname: Option<&str>, number: Option<u16>) -> Lease {
        let hostname = hostname.map(str::to_owned);
        Lease { id: id.into(), hostname, number, publish: vec![], owner: Process { pid: 1, started: 1 }, attendant: None }
    }

    fn look_up(directory: &mut Directory, name: &str) -> Option<Known> {
        directory.look_up(&question(&ask(name, 1)).unwrap().unwrap())
    }

    #[test]
    fn names_are_as_the_record_has_them_now() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("leases");
        let write = |leases: Vec<Lease>| {
            let draft = dir.path().join("draft");
            std::fs::write(&draft, serde_json::to_vec(&State { leases, ..State::default() }).unwrap()).unwrap();
            std::fs::rename(draft, &file).unwrap();
        };
        let mut directory = Directory::new(Subnet(0), true, file.clone(), 5);
        assert_eq!(look_up(&mut directory, "web"), None);
        let (web, db) = (lease("web", Some("front.example"), Some(5)), lease("DB", Some("front.example"), Some(6)));
        write(vec![web.clone(), db, lease("apart", None, None)]);
        let addresses =
            |number: u16| Some(Known::Addresses(vec![Subnet(0).container(number).into(), Subnet(0).container6(number).into()]));
        assert_eq!([look_up(&mut directory, "WEB"), look_up(&mut directory, "db")], [addresses(5), addresses(6)]);
        assert_eq!(look_up(&mut directory, "front.example"), addresses(5), "one's own host name");
        assert_eq!(look_up(&mut directory, "apart"), None, "it is in no network of ours");
        assert_eq!(look_up(&mut directory, "web.example"), None);
        assert_eq!(look_up(&mut directory, "6.0.83.10.in-addr.arpa"), Some(Known::Name("DB".into())));
        assert_eq!(look_up(&mut directory, "7.0.83.10.in-addr.arpa"), Some(Known::Nobody));
        assert_eq!(look_up(&mut directory, "1.2.0.192.in-addr.arpa"), None);
        write(vec![web]);
        assert_eq!(look_up(&mut directory, "db"), None);
    }

    #[test]
    fn what_is_written_twice_in_a_moment_is_read_twice() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("leases");
        let mut directory = Directory::new(Subnet(0), true, file.clone(), 5);
        for round in 0..500 {
            let name = format!("c{round:03}");
            for _ in 0..2 {
                let state = State { leases: vec![lease(&name, None, Some(5))], ..State::default() };
                let draft = dir.path().join("draft");
                std::fs::write(&draft, serde_json::to_vec(&state).unwrap()).unwrap();
                std::fs::rename(draft, &file).unwrap();
            }
            assert!(look_up(&mut directory, &name).is_some(), "round {round}");
        }
    }

    #[test]
    fn localhost_is_here() {
        let mut directory = Directory::new(Subnet(0), true, "/nonexistent".into(), 5);
        let loopback = Known::Addresses(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        assert_eq!(look_up(&mut directory, "localhost"), Some(loopback));
    }
}
